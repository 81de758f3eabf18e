"""One candidate, applied and measured; a step that was done is not done again after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.compress import TECHNIQUES, ExcludedNode, OnnxStep, StepResult, name_of
from edgekit.compress.quantize.qoperator import to_qoperator
from edgekit.compress.quantize.static import StaticConfig
from edgekit.errors import EdgekitError
from edgekit.files import sha256_of
from edgekit.graph.read import read_model, size_bytes
from edgekit.graph.write import write_model
from edgekit.search.candidates import Candidate
from edgekit.search.proof import Judge, Latency, Proof, Quality
from edgekit.search.request import AUTO, DEFAULT_FLOOR, DEFAULT_RELATIVE_FLOOR, QuantizeRequest
from edgekit.steps import StepStore

_INTEGER_OPERATORS = ("cpu", "cpu-no-vnni", "arm")
_WORTH_ANOTHER_FORM = 0.98  # of the size; standard pairs are worth more than the last percents


@dataclass(frozen=True)
class Attempt:
    """One candidate, tried.

    Attributes:
        candidate: What was tried.
        file: What it wrote; None if it failed or changed nothing.
        outcome: "good", or why it may not be chosen.
        proof: What was measured; None if it failed or changed nothing.
        reason: What the steps said.
        excluded: What stayed in float.
        details: Facts of the steps.
    """

    candidate: Candidate
    file: Path | None
    outcome: str
    proof: Proof | None = None
    reason: str = ""
    excluded: tuple[ExcludedNode, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether it may be chosen."""
        return self.outcome == "good"

    @property
    def lost_accuracy(self) -> bool:
        """Whether accuracy is what speaks against it."""
        return self.outcome.startswith("loses")

    @property
    def runs_int8(self) -> bool:
        """Whether any node computes on integers."""
        return _runs_int8(self.details)

    def as_dict(self) -> dict[str, Any]:
        """As `quantize --json` lists it."""
        measured = self.proof.as_dict() if self.proof else {}
        return {"method": self.candidate.name, "outcome": self.outcome, "details": dict(self.details), **measured}


@dataclass(frozen=True)
class Bench:
    """Where candidates are tried: a request, its judge, and a directory that survives an interruption."""

    request: QuantizeRequest
    judge: Judge
    store: StepStore
    key: str

    def attempt(self, candidate: Candidate, excluded: frozenset[str] = frozenset(), tag: str = "") -> Attempt:
        """Apply a candidate and measure it; with auto, a failure is an outcome like others, and told."""
        name = candidate.name.replace(" + ", "-") + tag
        try:
            return self._measured(candidate, name, excluded)
        except EdgekitError as error:
            if self.request.method != "auto":
                raise
            return Attempt(candidate, None, f"failed: {error}")

    def _measured(self, candidate: Candidate, name: str, excluded: frozenset[str]) -> Attempt:
        result, file = self._applied(candidate, name, excluded)
        if not result.changed:
            return Attempt(candidate, None, f"nothing to quantise: {result.reason}", reason=result.reason)
        if self.request.method == AUTO and _is_only_storage(result):
            return Attempt(candidate, None, "nothing runs in int8: the same as weights", reason=result.reason)
        quality = self._quality(name, file)
        inputs = [self.key, sorted(excluded)]
        timed = self.store.run(f"{name}.latency", inputs, [], lambda: vars(self.judge.latency(file)))
        proof = self.judge.proof(file, quality, Latency(**_with_interval(timed.result)))
        outcome = objection_to_quality(quality, self.request) or objection(proof) or "good"
        return Attempt(candidate, file, outcome, proof, result.reason, result.excluded_nodes, result.details)

    def on_integers(self, pairs: Attempt) -> Attempt | None:
        """A good static attempt as operators on integers, which take less room than pairs; None where it is no gain.

        ONNX Runtime makes the same operators of both forms, so the metric is measured again only where the answers
        differ.
        """
        if self.request.target not in _INTEGER_OPERATORS:
            return None
        try:
            return self._on_integers(pairs)
        except EdgekitError as error:  # the pairs are good as they are
            return Attempt(_as_integers(pairs.candidate), None, f"failed: {error}")

    def _on_integers(self, pairs: Attempt) -> Attempt | None:
        if pairs.file is None or pairs.proof is None:
            return None
        file = pairs.file.with_name(f"{pairs.file.stem}.integers.onnx")
        write_model(to_qoperator(read_model(pairs.file)), file)
        if size_bytes(file) > _WORTH_ANOTHER_FORM * size_bytes(pairs.file):
            return None
        alike = self.judge.answers_alike(pairs.file, file)
        proof = self.judge.proof(file, pairs.proof.quality if alike else None)
        outcome = objection_to_quality(proof.quality, self.request) or objection(proof) or "good"
        details = {**pairs.details, "format": "qoperator"}
        candidate = _as_integers(pairs.candidate)
        return replace(pairs, candidate=candidate, file=file, outcome=outcome, proof=proof, details=details)

    def quality_of(self, candidate: Candidate, excluded: frozenset[str], tag: str) -> Quality:
        """Only the metric of a candidate's first step with some nodes left in float: what a search over nodes looks at.

        The steps behind it store what is left in float, which costs next to nothing of the metric, and much time.
        """
        first = replace(candidate, name=name_of(candidate.steps[0]).split()[-1], steps=candidate.steps[:1])
        name = first.name + tag
        _, file = self._applied(first, name, excluded)
        return self._quality(name, file)

    def _quality(self, name: str, file: Path) -> Quality:
        inputs = [self.key, sha256_of(file)]
        done = self.store.run(f"{name}.quality", inputs, [], lambda: vars(self.judge.quality(file)))
        return Quality(**_with_interval(done.result))

    def _applied(self, candidate: Candidate, name: str, excluded: frozenset[str]) -> tuple[StepResult, Path]:
        file = self.store.out / f"{name}.onnx"
        done = self.store.run(
            f"{name}.apply",
            [self.key, sorted(excluded)],
            [file],
            lambda: asdict(self._apply(candidate, file, excluded)),
            f"trying {candidate.name}" + (f" with {len(excluded)} nodes in float" if excluded else ""),
        )
        kept = tuple(ExcludedNode(**n) for n in done.result["excluded_nodes"])
        return StepResult(done.result["changed"], done.result["reason"], kept, done.result["details"]), file

    def _apply(self, candidate: Candidate, file: Path, excluded: frozenset[str]) -> StepResult:
        """Run a chain; a later step takes what an earlier one left in float, what was kept from it included."""
        model, results = self.request.model, list[StepResult]()
        for index, config in enumerate(candidate.steps):
            out = file if index == len(candidate.steps) - 1 else file.with_suffix(f".{index}.onnx")
            kept = excluded if index == 0 else frozenset[str]()
            step = OnnxStep(model, out, self.request.calibration, self.request.target, kept, self.store.out)
            results.append(TECHNIQUES[name_of(config)].apply(config, step))
            model = out
        changed = [r for r in results if r.changed]
        said = "; ".join(r.reason for r in changed) or results[0].reason
        details = {k: v for r in results for k, v in r.details.items()}
        return StepResult(bool(changed), said, results[0].excluded_nodes, details)


def _is_only_storage(result: StepResult) -> bool:
    """Whether a dynamic quantisation found no product and no recurrent layer to run in int8."""
    return "int8_products" in result.details and not _runs_int8(result.details)


def _runs_int8(details: Mapping[str, Any]) -> bool:
    return any(details.get(key) for key in ("nodes_int8", "int8_products", "int8_lstm_layers"))


def _as_integers(candidate: Candidate) -> Candidate:
    steps = tuple(
        s.model_copy(update={"format": "qoperator"}) if isinstance(s, StaticConfig) else s for s in candidate.steps
    )
    return replace(candidate, name=f"{candidate.name}, qoperator", steps=steps)


def _with_interval(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON made a list of was a pair."""
    interval = stored["ci95"]
    return {**stored, "ci95": None if interval is None else (interval[0], interval[1])}


def objection_to_quality(quality: Quality, request: QuantizeRequest) -> str:
    """Why a candidate loses too much, or ""."""
    if request.max_drop is not None:
        if quality.drop <= request.max_drop:
            return ""
        return f"loses {quality.drop:.4g} of {quality.name}; at most {request.max_drop:.4g} is allowed"
    floor = DEFAULT_FLOOR if quality.share else DEFAULT_RELATIVE_FLOOR
    if quality.loss() <= floor:
        return ""
    return f"loses {100 * quality.loss():.2f} % of {quality.name}; at most {100 * floor:.0f} % is allowed"


def objection(proof: Proof) -> str:
    """Why a candidate that keeps the metric may still not be chosen, or ""."""
    if proof.latency.slower and proof.latency.speedup is not None:
        return f"slower than the original ({proof.latency.speedup:.2f}x as fast)"
    if proof.size_after >= proof.size_before:
        return "not smaller than the original"
    return ""
