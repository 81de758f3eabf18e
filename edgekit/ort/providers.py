"""Execution providers by their short names: what each needs, takes and computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import ProviderError, unknown


@dataclass(frozen=True)
class Library:
    """Shared libraries outside ONNX Runtime's package.

    Attributes:
        start: How their file names begin.
        brings: What brings them.
    """

    start: str
    brings: str


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: Short name in recipes and on the command line.
        ort_name: ONNX Runtime's name.
        package: The package that brings an ONNX Runtime with it.
        precisions: What it has fast kernels for.
        needs: What it needs beside that package, in words.
        libraries: What it loads when a session is created, the longest beginnings first.
        options: Provider options that are always set; `{threads}` stands for the intra-op threads.
        device_options: Those that choose a device; `{device}` stands for its index. Empty: there is no choice.
        memory: ONNX Runtime's name of the device memory that inputs and outputs can be bound to; "" for none.
        beside: Short names of providers that take what it cannot, before the CPU does.
        builds_engines: Whether it compiles the model for the shapes at hand, for seconds to minutes.
        session_threads: Intra-op threads of the session where the provider has a pool of its own.
        memory_pattern: False where the provider forbids ONNX Runtime's memory patterns.
        config: Session config entries that it wants.
    """

    name: str
    ort_name: str
    package: str
    precisions: tuple[str, ...]
    needs: str = ""
    libraries: tuple[Library, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    device_options: Mapping[str, str] = field(default_factory=dict)
    memory: str = ""
    beside: tuple[str, ...] = ()
    builds_engines: bool = False
    session_threads: int | None = None
    memory_pattern: bool = True
    config: Mapping[str, str] = field(default_factory=dict)

    def provider_options(self, threads: int, device: int | None) -> dict[str, str]:
        """What ONNX Runtime is given for it.

        Args:
            threads: Intra-op threads.
            device: Index of the device, or None for the provider's default.
        """
        chosen = {} if device is None else self.device_options
        return {key: value.format(threads=threads, device=device) for key, value in {**self.options, **chosen}.items()}


_CUDA_PACKAGE = "onnxruntime-gpu[cuda,cudnn]"
_DRIVER = Library("libcuda.", "an NVIDIA driver")
_CUDA = (_DRIVER, *(Library(start, f"pip install '{_CUDA_PACKAGE}'") for start in ("libcu", "libnv")))
_TENSORRT = tuple(
    Library(start, "TensorRT 10: pip install 'tensorrt-cu13<11'") for start in ("libnvinfer", "libnvonnxparser")
)
_DEVICE_ID = {"device_id": "{device}"}

# Options are those that ONNX Runtime documents: onnxruntime.ai/docs/execution-providers
PROVIDERS: dict[str, Provider] = {
    p.name: p
    for p in (
        Provider("cpu", "CPUExecutionProvider", "onnxruntime", ("fp32", "int8", "int4")),
        Provider(
            "cuda",
            "CUDAExecutionProvider",
            _CUDA_PACKAGE,
            ("fp32", "fp16", "bf16", "int4"),
            needs="an NVIDIA driver, CUDA and cuDNN",
            libraries=_CUDA,
            device_options=_DEVICE_ID,
            memory="cuda",
        ),
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            _CUDA_PACKAGE,
            ("fp32", "fp16", "bf16", "int8 (symmetric Q/DQ)"),
            needs="an NVIDIA driver, CUDA, cuDNN and TensorRT",
            libraries=(*_TENSORRT, *_CUDA),
            device_options=_DEVICE_ID,
            memory="cuda",
            beside=("cuda",),
            builds_engines=True,
        ),
        Provider(
            "openvino",
            "OpenVINOExecutionProvider",
            "onnxruntime-openvino",
            ("fp32", "fp16", "int8"),
            libraries=(Library("libopenvino", "pip install onnxruntime-openvino"),),
            options={"device_type": "CPU", "num_of_threads": "{threads}"},
            device_options={"device_type": "GPU.{device}"},
        ),
        Provider("dnnl", "DnnlExecutionProvider", "an ONNX Runtime built with oneDNN", ("fp32", "bf16", "int8")),
        Provider(
            "coreml",
            "CoreMLExecutionProvider",
            "onnxruntime (on macOS)",
            ("fp32", "fp16"),
            options={"ModelFormat": "MLProgram"},
        ),
        Provider(
            "directml",
            "DmlExecutionProvider",
            "onnxruntime-directml",
            ("fp32", "fp16", "int8"),
            needs="Windows with DirectX 12",
            device_options=_DEVICE_ID,
            memory="dml",
            memory_pattern=False,
        ),
        Provider(
            "qnn",
            "QNNExecutionProvider",
            "onnxruntime-qnn",
            ("int8 (Q/DQ)", "fp16"),
            needs="a Qualcomm NPU",
            options={"backend_type": "htp"},
        ),
        Provider(
            "xnnpack",
            "XnnpackExecutionProvider",
            "an ONNX Runtime built with XNNPACK",
            ("fp32", "fp16", "int8"),
            options={"intra_op_num_threads": "{threads}"},
            session_threads=1,  # two pools that spin take each other's cores
            config={"session.intra_op.allow_spinning": "0"},
        ),
        Provider(
            "webgpu",
            "WebGpuExecutionProvider",
            "an ONNX Runtime built with WebGPU",
            ("fp32", "fp16", "int4"),
            needs="a GPU with Vulkan, Metal or DirectX 12",
        ),
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


def short_name(ort_name: str) -> str:
    """The short name of a provider that ONNX Runtime names; its own where we have none.

    >>> short_name("CUDAExecutionProvider")
    'cuda'
    """
    return next((p.name for p in PROVIDERS.values() if p.ort_name == ort_name), ort_name)


def require_provider(name: str) -> Provider:
    """The provider of this short name, if the installed ONNX Runtime was built with it.

    Raises:
        ProviderError: if there is no such name, or it is not in this build; the message says which package brings it.
    """
    from edgekit.ort.runtime import require_ort

    found = find_provider(name)
    if found.ort_name not in require_ort().get_available_providers():
        raise ProviderError(f"provider {name!r} is not in the installed ONNX Runtime; it comes with {found.package}")
    return found
