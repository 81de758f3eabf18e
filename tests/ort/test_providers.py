from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekit.errors import ProviderError
from edgekit.ort import PROVIDERS, require_ort
from edgekit.ort.execution import check_device
from edgekit.ort.libraries import brings, remedy
from edgekit.ort.providers import short_name

_NAMES = ["cpu", "cuda", "tensorrt", "openvino", "dnnl", "coreml", "directml", "qnn", "xnnpack", "webgpu"]


def test_every_provider_is_one_that_onnx_runtime_knows() -> None:
    assert list(PROVIDERS) == _NAMES
    known = require_ort().get_all_providers()
    assert [p.name for p in PROVIDERS.values() if p.ort_name not in known] == []
    assert all(p.precisions for p in PROVIDERS.values())


@pytest.mark.parametrize(
    ("name", "device", "options"),
    [
        ("cpu", None, {}),
        ("cuda", None, {}),
        ("cuda", 2, {"device_id": "2"}),
        ("tensorrt", 1, {"device_id": "1"}),
        ("openvino", None, {"device_type": "CPU", "num_of_threads": "3"}),
        ("openvino", 0, {"device_type": "GPU.0", "num_of_threads": "3"}),
        ("directml", 1, {"device_id": "1"}),
        ("xnnpack", None, {"intra_op_num_threads": "3"}),
        ("qnn", None, {"backend_type": "htp"}),
        ("coreml", None, {"ModelFormat": "MLProgram"}),
    ],
)
def test_options_hold_threads_and_device(name: str, device: int | None, options: dict[str, str]) -> None:
    assert PROVIDERS[name].provider_options(3, device) == options


def test_devices_that_cannot_be_chosen() -> None:
    check_device(PROVIDERS["cpu"], None)
    with pytest.raises(ProviderError, match="provider 'cpu' has no devices to choose from; leave --device out"):
        check_device(PROVIDERS["cpu"], 0)
    with pytest.raises(ProviderError, match="device -1 cannot be; devices are counted from 0"):
        check_device(PROVIDERS["openvino"], -1)


def test_short_names() -> None:
    assert short_name("TensorrtExecutionProvider") == "tensorrt"
    assert short_name("AzureExecutionProvider") == "AzureExecutionProvider"


def test_every_library_says_what_brings_it() -> None:
    assert brings("libcublasLt.so.13") == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert brings("libnvrtc.so.13") == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert brings("libnvonnxparser.so.10") == "TensorRT 10: pip install 'tensorrt-cu13<11'"
    missing = ["libnvinfer.so.10", "libcudnn.so.9", "libcublas.so.13", "libcuda.so.1"]
    assert remedy(PROVIDERS["tensorrt"], missing) == (
        "TensorRT 10: pip install 'tensorrt-cu13<11'; pip install 'onnxruntime-gpu[cuda,cudnn]'; an NVIDIA driver"
    )
    assert remedy(PROVIDERS["webgpu"], []) == "it needs a GPU with Vulkan, Metal or DirectX 12"
    assert remedy(PROVIDERS["openvino"], []) == "it comes with onnxruntime-openvino"


def test_the_list_says_what_each_takes(cli: Callable[..., Any]) -> None:
    rows = {row["name"]: row for row in cli("list", "providers", "--json").json()}
    assert list(rows) == _NAMES
    assert rows["cpu"]["in this ONNX Runtime"] is True
    assert rows["cuda"]["--device"] is True
    assert rows["tensorrt"]["precisions"] == "fp32, fp16, bf16, int8 (symmetric Q/DQ)"
