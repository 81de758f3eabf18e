"""What flags say of a model, in the words of the loaders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.data import find_source
from edgekit.errors import ModelError, unknown
from edgekit.load.foreign import Description
from edgekit.load.image_processor import read_image_processor
from edgekit.load.inputs import parse_inputs
from edgekit.load.language import HEADS
from edgekit.tasks import TASKS

_MOST_CLASSES = 1_000_000


def described_by(
    inputs: Sequence[str], classes: str | None, task: str | None, data: str | None, preprocessing: Path | None
) -> Description:
    """The flags that say what a module does not tell of itself; those of a data set come first, then its own.

    Raises:
        ModelError: for an unknown task, classes that are none, or a preprocessing that cannot be read.
        DataError: for unknown data.
    """
    if task is not None and task not in TASKS and task not in HEADS:
        raise ModelError(unknown("task", task, [*TASKS, *HEADS]))
    described = _of_data(data, task) if data else Description(task=task or "")
    specs = parse_inputs(inputs) or described.inputs
    prepared = described.preprocessing
    if preprocessing:
        channels = next((int(s.shape[1]) for s in specs if s.rank == 4), 3)
        prepared = read_image_processor(preprocessing, channels).as_dict()
    names = _classes(classes) if classes else described.classes
    return Description(specs, names, described.task, described.data, prepared)


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """`name=value` -> keyword arguments; a value is a number, true, false, null, a list, or text.

    >>> parse_arguments(["depth=18", "name=lite0", "wide=true", "widths=[8, 16]"])
    {'depth': 18, 'name': 'lite0', 'wide': True, 'widths': [8, 16]}
    """
    import json

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ModelError(f"--argument {text}: got no name=value; write it as --argument depth=18")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _of_data(data: str, task: str | None) -> Description:
    source = find_source(data)
    if task and task not in source.tasks:
        raise ModelError(f"data {data!r} is for {', '.join(source.tasks)}, not for {task}")
    loaded = source.load(None, task or source.tasks[0])
    preprocessing = loaded.preprocessing.as_dict() if loaded.preprocessing else {}
    return Description(loaded.inputs, loaded.classes, loaded.task, loaded.name, preprocessing)


def _classes(text: str) -> tuple[str, ...]:
    if text.isdigit() and 0 < int(text) <= _MOST_CLASSES:
        return tuple(map(str, range(int(text))))
    path = Path(text)
    if not path.is_file():
        raise ModelError(f"--classes {text}: neither a number from 1 on nor a file with one name a line")
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ModelError(f"--classes {text}: the file is not UTF-8 text (byte {error.start})") from error
    if not names:
        raise ModelError(f"--classes {text}: the file has no names")
    return names
