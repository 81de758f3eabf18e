from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench import BenchRequest, Samples, Speedup, Verdict
from edgekit.bench import tune as module
from edgekit.bench.candidates import Change, Objective, candidates
from edgekit.bench.cold import cold_start
from edgekit.bench.tune import Trial, TuneInterrupted, tune
from edgekit.bench.tuned import TunedFile
from edgekit.errors import ModelError, ProviderError
from edgekit.ort import SessionOptions

from .conftest import Maker

REQUEST = BenchRequest(threads=1)
ARENA = Change("no arena", {"enable_cpu_mem_arena": False})
SPIN = Change("no spinning", {"config_entries": {"session.intra_op.allow_spinning": "0"}})
BASIC = Change("basic", {"graph_optimization_level": "ORT_ENABLE_BASIC"})
EXTENDED = Change("extended", {"graph_optimization_level": "ORT_ENABLE_EXTENDED"})
Answers = Callable[[str, SessionOptions, SessionOptions], Verdict]


def _replaced(monkeypatch: pytest.MonkeyPatch, changes: list[Change], answers: Answers) -> list[str]:
    """Let `answers` say what each comparison finds; gives the titles of those that were made."""
    asked: list[str] = []

    def compare(self: Any, title: str, before: SessionOptions, after: SessionOptions, seconds: float) -> Trial:
        asked.append(title)
        verdict = answers(title, before, after)
        ratio = {Verdict.FASTER: 1.5, Verdict.SLOWER: 0.7}.get(verdict, 1.0)
        return Trial(title, 3.0, 3.0 / ratio, Speedup(ratio, (0.9 * ratio, 1.1 * ratio), 20), verdict, kept=False)

    monkeypatch.setattr(module._Bench, "compare", compare)
    monkeypatch.setattr(module, "candidates", lambda *_: changes)
    return asked


def _of(verdicts: Mapping[str, Verdict]) -> Answers:
    return lambda title, *_: verdicts.get(title, Verdict.FASTER if "proof" in title else Verdict.NO_DIFFERENCE)


def test_only_what_is_faster_is_kept_and_the_proof_is_what_is_reported(
    chain: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = _of({"no spinning": Verdict.FASTER, "no arena": Verdict.TOO_NOISY, "basic": Verdict.SLOWER})
    asked = _replaced(monkeypatch, [ARENA, SPIN, BASIC], answers)
    report = tune(chain(), REQUEST)
    assert asked == ["no arena", "no spinning", "basic", "proof: defaults against what was kept"]
    assert report.options == SessionOptions(config_entries={"session.intra_op.allow_spinning": "0"})
    assert [trial.kept for trial in report.trials] == [False, True, False]
    document = json.loads(json.dumps(report.as_dict()))
    assert document["config_entries"] == {"session.intra_op.allow_spinning": "0"}
    assert (document["session_options"], document["threads"]) == ({}, None)
    assert (document["speedup"], document["verdict"]) == (1.5, "FASTER")
    assert document["ci95"] == [pytest.approx(1.35), pytest.approx(1.65)]
    assert TunedFile.model_validate(document).options == report.options


def test_nothing_gained_needs_no_proof_and_claims_nothing(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _replaced(monkeypatch, [ARENA, SPIN], _of({}))
    report = tune(chain(), REQUEST)
    assert asked == ["no arena", "no spinning"]
    document = report.as_dict()
    assert (document["speedup"], document["ci95"], document["verdict"]) == (None, None, "NO DIFFERENCE")
    assert report.options == SessionOptions()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Verdict.NO_DIFFERENCE, "NO DIFFERENCE"),
        (Verdict.TOO_NOISY, "TOO NOISY"),
        (Verdict.SLOWER, "NO DIFFERENCE"),
    ],
)
def test_what_the_proof_does_not_confirm_is_given_up(
    chain: Maker, monkeypatch: pytest.MonkeyPatch, found: Verdict, told: str
) -> None:
    title = "proof: defaults against what was kept"
    _replaced(monkeypatch, [ARENA], _of({"no arena": Verdict.FASTER, title: found}))
    report = tune(chain(), REQUEST)
    assert report.options == SessionOptions()
    assert (report.as_dict()["speedup"], report.as_dict()["verdict"]) == (None, told)
    assert f"what the trials found is {found} against the defaults; the defaults stay" in report.notes


def test_a_change_that_a_later_one_makes_pointless_is_taken_back(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _replaced(monkeypatch, [ARENA, SPIN], _of({"no arena": Verdict.FASTER, "no spinning": Verdict.FASTER}))
    report = tune(chain(), REQUEST)
    assert asked[2:] == ["without no arena", "proof: defaults against what was kept"]
    assert report.options == SPIN.applied_to(SessionOptions())


def test_of_one_setting_the_last_better_value_stays(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    better = _of({"basic": Verdict.FASTER, "extended": Verdict.FASTER})
    asked = _replaced(monkeypatch, [BASIC, EXTENDED], better)
    report = tune(chain(), REQUEST)
    assert len(asked) == 3
    assert report.options == SessionOptions(graph_optimization_level="ORT_ENABLE_EXTENDED")


def test_a_setting_under_which_the_model_does_not_run_is_noted(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(title: str, before: SessionOptions, after: SessionOptions) -> Verdict:
        raise ModelError("it does not load so")

    _replaced(monkeypatch, [ARENA], answers)
    assert "no arena: it does not load so" in tune(chain(), REQUEST).notes


def test_an_interruption_gives_the_best_until_then(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(title: str, before: SessionOptions, after: SessionOptions) -> Verdict:
        if title == "no spinning":
            raise KeyboardInterrupt
        return Verdict.FASTER

    _replaced(monkeypatch, [ARENA, SPIN], answers)
    with pytest.raises(TuneInterrupted) as stop:
        tune(chain(), REQUEST)
    document = stop.value.report.as_dict()
    assert document["session_options"] == {"enable_cpu_mem_arena": False}
    assert (document["complete"], document["speedup"], document["verdict"]) == (False, None, None)


def test_settings_that_no_time_was_left_for_are_told(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _replaced(monkeypatch, [ARENA, SPIN], _of({}))
    report = tune(chain(), REQUEST, seconds=1e-9)
    assert "the time was up: 2 of 2 settings not tried" in report.notes


def test_changes_are_applied_and_undone() -> None:
    both = BASIC.applied_to(SPIN.applied_to(SessionOptions(threads=3)))
    assert str(both) == "graph_optimization_level=ORT_ENABLE_BASIC, session.intra_op.allow_spinning=0, threads=3"
    assert BASIC.undone_in(SPIN.undone_in(both)) == SessionOptions(threads=3)


def test_threads_that_are_given_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.machine, "available_cores", lambda: 6)
    searched = [c.settings["threads"] for c in candidates(BenchRequest(), Objective.LATENCY) if "threads" in c.settings]
    assert searched == [4, 3, 2, 1]
    assert not [c for c in candidates(BenchRequest(threads=2), Objective.LATENCY) if "threads" in c.settings]
    loading = {name for c in candidates(REQUEST, Objective.SESSION_MS) for name in c.settings}
    assert loading == {"graph_optimization_level", "config_entries"}


def test_a_quicker_start_is_told_to_cost_runs(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _replaced(monkeypatch, [ARENA], _of({"no arena": Verdict.FASTER}))
    assert "its runs may take longer" in tune(chain(), REQUEST, objective=Objective.SESSION_MS).notes[-1]
    assert not any("longer" in note for note in tune(chain(), REQUEST).notes)


@pytest.mark.parametrize("objective", list(Objective))
def test_real_sessions_are_compared(chain: Maker, monkeypatch: pytest.MonkeyPatch, objective: Objective) -> None:
    monkeypatch.setattr(module, "candidates", lambda *_: [ARENA])
    model = chain(16)
    report = tune(model, REQUEST, objective=objective, seconds=1.0)
    trial = report.trials[0]
    assert trial.before_ms > 0
    assert trial.after_ms > 0
    assert trial.speedup.rounds >= 8
    assert (report.model, report.provider, report.batch) == (str(model), "cpu", 1)
    assert (report.streams > 1) == (objective is Objective.THROUGHPUT and module.machine.available_cores() > 1)


def test_throughput_is_read_from_the_rate_of_all_streams(chain: Maker) -> None:
    report = module.TuneReport("m", "", "cpu", 1, 2, Objective.THROUGHPUT, 1, {})
    samples = Samples(np.array([9.0, 9.0, 9.0]), np.array([4, 4, 7]), np.array([500.0, 250.0]))
    model = chain()
    read = module._Bench(model, REQUEST, report, cold_start(model, "cpu", 1, REQUEST))._reading(samples)
    assert read.medians_by_round() == {4: 2.0, 7: 4.0}


def test_bad_requests_are_refused(chain: Maker) -> None:
    with pytest.raises(ModelError, match="tuning takes one batch, got 2; run it once for each"):
        tune(chain(), BenchRequest(batches=(1, 2)))
    with pytest.raises(ModelError, match=r"tuning for 0\.0 seconds cannot be done"):
        tune(chain(), REQUEST, seconds=0.0)
    with pytest.raises(ModelError, match=r"nowhere\.onnx is not there"):
        tune(Path("nowhere.onnx"), REQUEST)
    with pytest.raises(ProviderError, match="'coreml' is not in the installed ONNX Runtime"):
        tune(chain(), BenchRequest(providers=("coreml",)))
