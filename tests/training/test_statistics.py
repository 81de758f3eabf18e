from __future__ import annotations

import pytest
from torch import nn

from edgekit.training.start import freeze
from edgekit.training.statistics import warn_of_slow_statistics


def net(momentum: float | None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, momentum=momentum)
    )


@pytest.mark.parametrize(
    ("momentum", "steps", "left"),
    [(0.01, 64, "53%"), (0.01, 109, "33%"), (0.1, 10, "35%")],
)
def test_a_short_training_leaves_old_statistics(
    capsys: pytest.CaptureFixture[str], momentum: float, steps: int, left: str
) -> None:
    warn_of_slow_statistics(net(momentum), steps)
    name = "'3'" if momentum < 0.1 else "'1'"
    said = capsys.readouterr().err
    assert said.startswith(
        f"warning: batch normalisation {name} has momentum {momentum:g}: after the {steps} steps of this training "
        f"{left} of its statistics are still those from before it;"
    )


@pytest.mark.parametrize(("momentum", "steps"), [(0.01, 110), (0.1, 11), (None, 11)])
def test_a_long_one_does_not(capsys: pytest.CaptureFixture[str], momentum: float | None, steps: int) -> None:
    warn_of_slow_statistics(net(momentum), steps)
    assert capsys.readouterr().err == ""


def test_what_is_frozen_keeps_its_statistics_on_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    frozen = net(0.01)
    freeze(frozen, ["3.*"])
    warn_of_slow_statistics(frozen, 64)
    assert capsys.readouterr().err == ""


def test_without_normalisation_there_is_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_slow_statistics(nn.Linear(2, 2), 1)
    assert capsys.readouterr().err == ""
