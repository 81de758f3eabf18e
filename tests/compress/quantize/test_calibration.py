from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress.quantize import calibration, calibration_pass
from edgekit.compress.quantize.calibration import calibrate, first_samples, input_specs, observe
from edgekit.data.split import Split
from edgekit.errors import CompressError, DataError
from tests.compress.quantize.nets import images, mobile_block


def test_ranges_are_those_of_the_activations() -> None:
    model, data = mobile_block(), images(10)
    _, relu, total = calibration.open_with_outputs(model, ["relu1", "add7"]).run(dict(data.arrays))
    found = calibrate(model, data, ["image", "relu1", "add7"], method="minmax")
    assert found["relu1"].low == 0
    assert found["relu1"].high == pytest.approx(relu.max(), rel=1e-5)
    assert (found["add7"].low, found["add7"].high) == pytest.approx((total.min(), total.max()), rel=1e-5)
    assert found["image"].high == pytest.approx(data.arrays["image"].max())


def test_batches_and_groups_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = mobile_block(), images(9)
    names = ["relu1", "relu3", "add7"]
    whole = calibrate(model, data, names, method="minmax", batch=4)
    monkeypatch.setattr(calibration, "GROUP_BYTES", 40_000)
    assert len(calibration._groups(*_session_and_data(model, data, names), names, 4)[0]) > 1
    split_up = calibrate(model, data, names, method="minmax", batch=1)
    for name in names:
        assert split_up[name].high == pytest.approx(whole[name].high, rel=1e-6)


def _session_and_data(model: onnx.ModelProto, data: Split, names: list[str]) -> tuple[calibration.Session, Split]:
    return calibration.open_with_outputs(model, names), data


def test_memory_is_flat_in_the_number_of_samples() -> None:
    model = mobile_block()

    def peak(count: int) -> int:
        data = images(count)
        tracemalloc.start()
        observe(model, data, ["relu1", "relu3", "relu5", "add7"])
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(16)
    assert peak(512) < 1.2 * peak(32)


def test_a_table_in_work_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = mobile_block(), images(4)
    first = calibrate(model, data, ["relu1"], method="mse", work=tmp_path)
    assert len(list(tmp_path.glob("calibration-*.json"))) == 1
    monkeypatch.setattr(calibration, "_stream", lambda *_: pytest.fail("ran again"))
    assert calibrate(model, data, ["relu1"], method="mse", work=tmp_path) == first
    assert calibrate(model, data, ["relu1"], method="minmax", work=tmp_path)["relu1"].high >= first["relu1"].high


def test_another_model_or_other_data_do_not_share_a_table(tmp_path: Path) -> None:
    for model, data in ((mobile_block(), images(4)), (mobile_block(3), images(4)), (mobile_block(), images(4, 5))):
        calibrate(model, data, ["relu1"], work=tmp_path)
    assert len(list(tmp_path.glob("calibration-*.json"))) == 3


def test_whole_feeds_run_one_by_one() -> None:
    data = images(6)
    feeds = Split("feeds", {"image": data.arrays["image"].reshape(3, 2, 3, 12, 12)})
    a, b = (calibrate(mobile_block(), d, ["relu1"], method="minmax")["relu1"] for d in (data, feeds))
    assert a.high == pytest.approx(b.high, rel=1e-6)


def test_first_samples_are_spread_over_the_data() -> None:
    specs = input_specs(mobile_block())
    data = Split("d", {"image": np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 3, 12, 12), "f")})
    assert first_samples(data, 4, specs).arrays["image"][:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert len(first_samples(data, 100, specs)) == 8


def test_unknown_tensors_and_wrong_data_are_refused() -> None:
    with pytest.raises(CompressError, match="no tensor 'nothing'"):
        observe(mobile_block(), images(2), ["nothing"])
    with pytest.raises(CompressError, match="name at least one"):
        observe(mobile_block(), images(2), [])
    with pytest.raises(DataError, match="no samples"):
        observe(mobile_block(), images(0), ["relu1"])


def test_a_model_too_large_for_a_message_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    small = calibrate(mobile_block(), images(4), ["relu1"])
    monkeypatch.setattr(calibration, "_LARGEST_MESSAGE", 1000)
    assert calibrate(mobile_block(), images(4), ["relu1"]) == small


def test_the_observed_model_stays_as_it_was() -> None:
    model = mobile_block()
    before = model.SerializeToString(deterministic=True)
    observe(model, images(2), ["relu1"])
    assert model.SerializeToString(deterministic=True) == before


class _Stopped(calibration.Session):
    """A session that counts the samples it runs, and stops as Ctrl-C would."""

    samples: list[int] = []  # noqa: RUF012
    stop_after = 10**9

    def run(self, feeds: dict[str, np.ndarray], outputs: list[str] | None = None) -> list[np.ndarray]:
        if len(self.samples) >= _Stopped.stop_after:
            raise KeyboardInterrupt
        self.samples.append(len(feeds["image"]))
        return super().run(feeds, outputs)


@pytest.mark.parametrize("room", [1 << 26, 40_000])
def test_an_interrupted_pass_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    model, data, names = mobile_block(), images(24), ["image", "relu1", "relu3", "add7"]
    monkeypatch.setattr(calibration, "GROUP_BYTES", room)
    monkeypatch.setattr(calibration_pass, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(calibration_pass, "_LEAST_PAUSE", 0)
    monkeypatch.setattr(calibration, "Session", _Stopped)
    whole = observe(model, data, names, batch=4)
    runs_of_whole = list(_Stopped.samples)
    _Stopped.samples.clear()

    monkeypatch.setattr(_Stopped, "stop_after", 4)  # one measures sizes, three observe
    with pytest.raises(KeyboardInterrupt):
        observe(model, data, names, batch=4, work=tmp_path)
    (partial,) = tmp_path.glob("calibration-*.partial.json")
    stored = json.loads(partial.read_text())
    assert stored["runs"] == 3
    assert stored["samples"] == sum(_Stopped.samples[1:4])
    _Stopped.samples.clear()

    monkeypatch.setattr(_Stopped, "stop_after", 10**9)
    resumed = observe(model, data, names, batch=4, work=tmp_path)
    assert len(_Stopped.samples) == len(runs_of_whole) - 3, "what was seen is not run again"
    _Stopped.samples.clear()
    assert {n: o.to_json() for n, o in resumed.items()} == {n: o.to_json() for n, o in whole.items()}
    assert not list(tmp_path.glob("*.partial.json"))


@pytest.mark.parametrize("text", ["{", "[]", '{"plan": [1], "group": 0, "runs": 1, "samples": 1, "tensors": {}}'])
def test_a_damaged_partial_table_is_no_reason_to_stop(tmp_path: Path, text: str) -> None:
    file = tmp_path / "partial.json"
    file.write_text(text)
    at = calibration_pass.CalibrationPass.resumed(file, ["a"], [1])
    assert (at.group, at.runs, at.seen["a"].limit) == (0, 0, 0.0)
