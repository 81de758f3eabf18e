from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bench import BenchRequest, bench_models, guarded
from edgekit.bench.guarded import Pulse, measure_guarded
from edgekit.bench.records import ColdStart
from edgekit.bench.steady import Case
from edgekit.errors import ModelError

from .conftest import Maker

QUICK = BenchRequest(min_seconds=0.1, min_runs=10, warmup_seconds=0.02, threads=1)
COLD = ColdStart(1, 1.0, 1.0, 1, 1, 1, ("CPUExecutionProvider",), {}, 0, (), {"x": "float32 1x16"})


def _case(model: Path) -> Case:
    return Case(model, "cpu", COLD, 1)


def test_samples_come_back_from_the_process_that_measured(chain: Maker) -> None:
    found = measure_guarded([_case(chain(16, name="a")), _case(chain(32, name="b"))], QUICK)
    assert found.complete
    assert sorted(found.samples) == sorted(found.energies) == [0, 1]
    assert all(s.n >= 10 and s.ms.sum() >= 100 and s.ms.min() > 0 for s in found.samples.values())
    rounds = [set(s.medians_by_round()) for s in found.samples.values()]
    assert len(rounds[0] & rounds[1]) >= 3  # of 8; a busy machine disturbs some


def test_a_model_that_crashes_only_in_the_measuring_loop_is_one_line(chain: Maker, deep_functions: Path) -> None:
    said = r"deep\.onnx crashed ONNX Runtime in the measuring loop, after \d+ turns at batch 1 \(SIG[A-Z]+\)"
    with pytest.raises(ModelError, match=said):
        measure_guarded([_case(chain(16)), _case(deep_functions)], QUICK)


def test_a_model_that_hangs_only_in_the_measuring_loop_is_given_up(chain: Maker, endless: Path) -> None:
    with pytest.raises(ModelError, match=r"endless\.onnx: a run did not end within 1\.5 s; it hangs"):
        measure_guarded([_case(chain(16)), _case(endless)], replace(QUICK, timeout_s=1.5))


def test_a_model_that_hangs_at_once_is_given_up(endless: Path) -> None:
    with pytest.raises(ModelError, match=r"endless\.onnx did not answer within 2 s; it hangs"):
        bench_models([endless], replace(QUICK, timeout_s=2.0))


def test_errors_of_the_loop_keep_their_type_and_text(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load .*gone\.onnx"):
        measure_guarded([_case(tmp_path / "gone.onnx")], QUICK)


def test_a_child_that_ends_without_a_word_is_reported(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded.sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match=r"chain\.onnx cannot be measured: exit code 1"):
        measure_guarded([_case(chain(16))], QUICK)


def test_an_interruption_gives_what_was_recorded_and_leaves_no_process(
    chain: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    real = guarded.subprocess.Popen

    def start(*args: object, **options: object) -> object:
        child = real(*args, **options)  # type: ignore[call-overload]
        started.append(child.pid)
        return child

    def interrupted(reader: object, pulse: Pulse, *_: object) -> None:
        while pulse.read()[0] < 20:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(guarded.subprocess, "Popen", start)
    monkeypatch.setattr(guarded, "_watch", interrupted)
    before = time.monotonic()
    found = measure_guarded([_case(chain(16))], replace(QUICK, min_seconds=60))
    assert time.monotonic() - before < 20
    assert not found.complete
    assert found.samples[0].n > 0
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], signal.SIG_DFL)


def test_a_pulse_can_be_read_by_another_process(tmp_path: Path) -> None:
    ours, theirs = Pulse(tmp_path / "pulse"), Pulse(tmp_path / "pulse")
    assert ours.read() == (0, 0, 0.0)
    theirs.beat(3, 0.25)
    theirs.beat(1, 0.5)
    assert ours.read() == (2, 1, 0.5)
