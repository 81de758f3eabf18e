"""A recipe's mapping of text data, as one argument on the command line."""

from __future__ import annotations

from pydantic import ValidationError

from edgekit.data.text.config import TextConfig
from edgekit.errors import DataError, brief, unknown


def parse_text(argument: str) -> TextConfig:
    """Read what a recipe would say of text data, such as "{file: mails.csv, text: body, label: kind}".

    Raises:
        DataError: if it is no mapping in YAML, or says what cannot be.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(argument)
    except YAMLError as error:
        raise DataError(f"data {argument!r} is no mapping in YAML: {brief(error, 120)}") from error
    if not isinstance(found, dict):
        raise DataError(f"data {argument!r} is no mapping; write it as {{file: mails.csv, text: body, label: kind}}")
    for key in found:
        if key not in TextConfig.model_fields:
            raise DataError(f"data {argument!r}: {unknown('key', key, TextConfig.model_fields)}")
    try:
        return TextConfig.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "data"
        raise DataError(f"data {argument!r}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
