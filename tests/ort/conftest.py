"""A provider other than the CPU's, where the installed ONNX Runtime has one that works."""

from __future__ import annotations

import pytest

from edgekit.ort import PROVIDERS, require_ort
from edgekit.ort.trial import try_provider


@pytest.fixture(scope="session")
def other_provider() -> str:
    compiled = require_ort().get_available_providers()
    for provider in PROVIDERS.values():
        if provider.name != "cpu" and provider.ort_name in compiled and try_provider(provider.name).works:
            return provider.name
    pytest.skip(f"no provider but the CPU's works here; compiled in: {', '.join(compiled)}")
