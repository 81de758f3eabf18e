"""The quantisers, each as its documentation says: `baselines.py NAME TASK MODEL FOLDER OUT.onnx`, one process each.

MODEL is a copy that a tool may spoil, FOLDER is the task's, the working directory is for anything temporary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks import TASKS, Array, Feeds, Task, load_arrays

_NNCF_SAMPLES = 300  # its own default
_NNCF_MAX_DROP = 0.005
_LLM_BLOCK = 32


@dataclass(frozen=True)
class Job:
    """What a quantiser is given.

    Attributes:
        task: Name of the task.
        model: The fp32 file.
        folder: The task's folder; a quantiser may read calib.npz and val.npz of it, never eval.npz.
        out: The file to write.
        options: More words for edgekit's command line.
    """

    task: str
    model: Path
    folder: Path
    out: Path
    options: tuple[str, ...] = ()

    def batches(self) -> list[Feeds]:
        """The calibration samples, one by one."""
        data = load_arrays(self.folder / "calib.npz")
        count = len(next(iter(data.values())))
        return [{name: array[i : i + 1] for name, array in data.items()} for i in range(count)]


@dataclass(frozen=True)
class Candidate:
    """A quantiser.

    Attributes:
        name: In tables and on the command line.
        environment: The virtual environment it runs in; "edgekit" is the one that runs this benchmark.
        quantize: Writes the file.
        fits: Whether it is made for a task.
        default: Whether it runs when no candidates are named.
    """

    name: str
    environment: str
    quantize: Callable[[Job], None]
    fits: Callable[[Task], bool]
    default: bool = True


def edgekit(job: Job, labels: bool = True) -> None:
    """`edgekit quantize` as a user types it, with the labelled data where the task has any."""
    command = [sys.executable, "-m", "edgekit", "quantize", str(job.model), "--out", str(job.out)]
    command += ["--calibration", str(job.folder / "calib.npz"), "--threads", "1", "--json", *job.options]
    if labels and (job.folder / "val.npz").exists():
        command += ["--eval", str(job.folder / "val.npz")]
    os.execv(command[0], command)  # so that this process's memory is not counted beside edgekit's


def preprocess(job: Job) -> Path:
    """ONNX Runtime's own preparation, without its symbolic shapes where these fail."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = Path("prepared.onnx").resolve()
    try:
        quant_pre_process(str(job.model), str(prepared))
    except Exception as error:  # it raises bare Exception and AssertionError
        print(f"quant_pre_process failed: {error!r:.200}; again with skip_symbolic_shape", file=sys.stderr)
        quant_pre_process(str(job.model), str(prepared), skip_symbolic_shape=True)
    return prepared


def ort_dynamic(job: Job) -> None:
    """ONNX Runtime's dynamic quantisation, per channel."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(preprocess(job)), str(job.out), per_channel=True)


def ort_dynamic_stripped(job: Job) -> None:
    """The same on a copy without value_info: a stale shape that some exporters leave there stops it."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(job.model)
    del model.graph.value_info[:]
    onnx.save(model, "stripped.onnx")
    quantize_dynamic("stripped.onnx", str(job.out), per_channel=True)


def ort_static(job: Job, method: str = "MinMax", activations: str = "QInt8", per_channel: bool = True) -> None:
    """ONNX Runtime's static quantisation, Q/DQ."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(preprocess(job)),
        str(job.out),
        _reader(job),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        calibrate_method=CalibrationMethod[method],
        activation_type=QuantType[activations],
    )


def _reader(job: Job) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The calibration samples as ONNX Runtime wants them."""

        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            """Start again."""
            self.left: Iterator[Feeds] = iter(job.batches())

        def get_next(self) -> Mapping[str, Array] | None:
            """The next sample, None at the end."""
            return next(self.left, None)

    return Reader()


def ort_int4(job: Job, algorithm: str = "Default") -> None:
    """ONNX Runtime's block-wise 4-bit weights: MatMulNBits."""
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    config = getattr(nbits, f"{algorithm}WeightOnlyQuantConfig")
    sized = {"block_size": _LLM_BLOCK} if algorithm in ("Default", "HQQ") else {}
    quantizer = nbits.MatMulNBitsQuantizer(
        onnx.load(job.model), bits=4, block_size=_LLM_BLOCK, algo_config=config(**sized)
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(job.out), False)


def nncf_static(job: Job) -> None:
    """NNCF's post-training quantisation."""
    import nncf
    import onnx

    data = nncf.Dataset(job.batches())
    onnx.save(nncf.quantize(onnx.load(job.model), data, **_nncf_options(job)), job.out)


def nncf_accuracy(job: Job) -> None:
    """NNCF's quantisation with accuracy control, on the labelled data from the training side."""
    import nncf
    import onnx

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(job.model),
        nncf.Dataset(job.batches()),
        nncf.Dataset(_labelled(job)),
        _hits,
        max_drop=_NNCF_MAX_DROP,
        **_nncf_options(job),
    )
    onnx.save(quantized, job.out)


def nncf_int4(job: Job) -> None:
    """NNCF's 4-bit weights, asymmetric."""
    import nncf
    import onnx

    mode = nncf.CompressWeightsMode.INT4_ASYM
    onnx.save(nncf.compress_weights(onnx.load(job.model), mode=mode, ratio=1.0, group_size=_LLM_BLOCK), job.out)


def _nncf_options(job: Job) -> dict[str, Any]:
    import nncf

    hint = {"model_type": nncf.ModelType.TRANSFORMER} if job.task == "T2" else {}
    return {"subset_size": min(_NNCF_SAMPLES, len(job.batches())), **hint}


def _labelled(job: Job) -> list[Feeds]:
    """One labelled sample an item: NNCF ranks by item."""
    data = load_arrays(job.folder / "val.npz")
    return [{name: array[i : i + 1] for name, array in data.items()} for i in range(len(data["labels"]))]


def _hits(model: Any, data: Any) -> tuple[float, list[float]]:
    """Top-1 of an ONNX model, or of NNCF's own session, over labelled items."""
    import onnx
    import onnxruntime as ort

    if isinstance(model, onnx.ModelProto):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    hits: list[float] = []
    for item in data:
        feeds = {name: array for name, array in item.items() if name != "labels"}
        hits += (model.run(None, feeds)[0].argmax(1) == item["labels"]).astype(float).tolist()
    return sum(hits) / len(hits), hits


def _any_task(_: Task) -> bool:
    return True


def _plain(task: Task) -> bool:
    return not task.language


def _language(task: Task) -> bool:
    return task.language


_ALL = (
    Candidate("edgekit", "edgekit", edgekit, _any_task),
    Candidate("edgekit_no_labels", "edgekit", partial(edgekit, labels=False), _any_task, default=False),
    Candidate("ort_dynamic", "ort", ort_dynamic, _plain),
    Candidate("ort_dynamic_stripped", "ort", ort_dynamic_stripped, _plain),
    Candidate("ort_static", "ort", ort_static, _plain),
    Candidate("ort_static_u8", "ort", partial(ort_static, activations="QUInt8"), _plain),
    Candidate("ort_static_per_tensor", "ort", partial(ort_static, per_channel=False), _plain, default=False),
    Candidate("ort_percentile", "ort", partial(ort_static, method="Percentile"), _plain),
    Candidate("ort_percentile_u8", "ort", partial(ort_static, method="Percentile", activations="QUInt8"), _plain),
    Candidate("ort_entropy", "ort", partial(ort_static, method="Entropy"), _plain),
    Candidate("ort_entropy_u8", "ort", partial(ort_static, method="Entropy", activations="QUInt8"), _plain),
    Candidate("ort_int4", "ort", ort_int4, _language),
    Candidate("ort_int4_hqq", "prep", partial(ort_int4, algorithm="HQQ"), _language),  # it needs torch
    Candidate("ort_int4_rtn", "ort", partial(ort_int4, algorithm="RTN"), _language, default=False),
    Candidate("ort_int4_kquant", "ort", partial(ort_int4, algorithm="KQuant"), _language, default=False),
    Candidate("nncf", "nncf", nncf_static, _plain),
    Candidate("nncf_accuracy", "nncf", nncf_accuracy, _plain, default=False),
    Candidate("nncf_int4", "nncf", nncf_int4, _language, default=False),
)
CANDIDATES = {candidate.name: candidate for candidate in _ALL}
FP32 = "fp32"


def names_for(task: Task) -> list[str]:
    """All candidates that are made for a task, the original first."""
    return [FP32, *(name for name, candidate in CANDIDATES.items() if candidate.fits(task))]


def main() -> None:
    """Quantise once."""
    name, task, model, folder, out, *options = sys.argv[1:]
    if not CANDIDATES[name].fits(TASKS[task]):
        sys.exit(f"error: {name} is not made for {task}")
    CANDIDATES[name].quantize(Job(task, Path(model), Path(folder), Path(out), tuple(options)))


if __name__ == "__main__":
    main()
