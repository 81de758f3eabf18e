"""Execution providers by their short names."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import ProviderError, unknown


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: Short name in recipes and on the command line.
        ort_name: ONNX Runtime's name.
        package: The package that brings an ONNX Runtime with it.
        needs: Libraries outside that package that it loads when a session is created.
    """

    name: str
    ort_name: str
    package: str
    needs: str = ""


PROVIDERS: dict[str, Provider] = {
    p.name: p
    for p in (
        Provider("cpu", "CPUExecutionProvider", "onnxruntime"),
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu[cuda,cudnn]", "an NVIDIA driver, CUDA, cuDNN"),
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            "onnxruntime-gpu[cuda,cudnn]",
            "CUDA and TensorRT (libnvinfer)",
        ),
        Provider("openvino", "OpenVINOExecutionProvider", "onnxruntime-openvino"),
        Provider("dnnl", "DnnlExecutionProvider", "an ONNX Runtime built with oneDNN"),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime (on macOS)"),
        Provider("directml", "DmlExecutionProvider", "onnxruntime-directml"),
        Provider("qnn", "QNNExecutionProvider", "onnxruntime-qnn"),
        Provider("xnnpack", "XnnpackExecutionProvider", "an ONNX Runtime built with XNNPACK"),
        Provider("webgpu", "WebGpuExecutionProvider", "an ONNX Runtime built with WebGPU"),
    )
}


def find_provider(name: str) -> Provider:
    """The provider of this short name.

    Raises:
        ProviderError: if there is no such name; the message holds the nearest.
    """
    try:
        return PROVIDERS[name]
    except KeyError:
        raise ProviderError(unknown("provider", name, PROVIDERS)) from None


def require_provider(name: str) -> Provider:
    """The provider of this short name, if the installed ONNX Runtime was built with it.

    Raises:
        ProviderError: if there is no such name, or it is not in this build; the message says which package brings it.
    """
    from edgekit.ort.session import require_ort

    found = find_provider(name)
    if found.ort_name not in require_ort().get_available_providers():
        raise ProviderError(f"provider {name!r} is not in the installed ONNX Runtime; it comes with {found.package}")
    return found
