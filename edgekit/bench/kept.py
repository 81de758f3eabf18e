"""Reading a report that `edgekit bench` wrote earlier; what the file says is checked before it is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.bench.measure import Samples
from edgekit.bench.records import SCHEMA_VERSION, Setting
from edgekit.bench.statistics import Interval
from edgekit.errors import DataError

_MAX_BYTES = 1 << 30
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class KeptRow:
    """What a comparison needs of an old row; `samples` is None where single runs were not kept."""

    model: str
    setting: Setting
    inputs: Mapping[str, str]
    p50_ms: float
    ci95: Interval | None
    samples: Samples | None


@dataclass(frozen=True)
class KeptReport:
    """An old report."""

    path: Path
    rows: tuple[KeptRow, ...]
    machine: Mapping[str, Any]
    complete: bool = True


class _Model(BaseModel):
    """Later keys do no harm, so unknown ones are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Latency(_Model):
    p50: _Positive
    ci95_p50: tuple[_Positive, _Positive] | None


class _Row(_Model):
    model: str
    provider: str
    batch: _Count
    threads: _Count
    streams: _Count = 1
    inputs: dict[str, str]
    latency_ms: _Latency
    samples_ms: Annotated[list[_Positive] | None, Field(min_length=1)] = None
    samples_round: list[int] | None = None


class _Report(_Model):
    rows: Annotated[list[_Row], Field(min_length=1)]
    machine: dict[str, Any]
    complete: bool = True


def read_report(path: Path) -> KeptReport:
    """Read a report that `edgekit bench --json` printed or `--samples` wrote.

    Raises:
        DataError: if it is not there, no JSON, no report of a benchmark, or of another schema.
    """
    document = _document(path)
    if not isinstance(document, dict) or "schema_version" not in document or "rows" not in document:
        raise DataError(f"{path} is no report of edgekit bench; {_HOW}")
    if document["schema_version"] != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {document['schema_version']!r}, and this edgekit reads {SCHEMA_VERSION}; "
            "measure it again"
        )
    try:
        found = _Report.model_validate(document)
        rows = tuple(_kept(row) for row in found.rows)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is a broken report: {where}: {first['msg']}; measure it again") from None
    except ValueError as error:
        raise DataError(f"{path} is a broken report: {error}; measure it again") from None
    return KeptReport(path, rows, found.machine, found.complete)


_HOW = "make one with --samples FILE.json, or --json > FILE.json"


def _document(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"report {path} is not there; {_HOW}")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"report {path} has {path.stat().st_size:,} bytes; edgekit reads at most {_MAX_BYTES:,}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON; {_HOW}") from None


def _kept(row: _Row) -> KeptRow:
    return KeptRow(
        model=row.model,
        setting=Setting(row.provider, row.batch, row.threads, row.streams),
        inputs=row.inputs,
        p50_ms=row.latency_ms.p50,
        ci95=row.latency_ms.ci95_p50,
        samples=_samples(row),
    )


def _samples(row: _Row) -> Samples | None:
    if row.samples_ms is None or row.samples_round is None:
        return None
    if len(row.samples_ms) != len(row.samples_round):
        raise ValueError(f"{len(row.samples_ms)} samples of {row.model} belong to {len(row.samples_round)} rounds")
    return Samples(np.array(row.samples_ms), np.array(row.samples_round))
