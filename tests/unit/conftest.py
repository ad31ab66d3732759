"""Shared by the tests without a host of their own."""

from __future__ import annotations

import pytest

from pybench.harness.runner import step_clock


class SteadyPace:
    """A host that is always equally fast."""

    def seconds(self) -> float:
        """Twenty microseconds."""
        return 20e-6


@pytest.fixture(autouse=True)
def steady_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mock pretends is pretended on a host that neighbours leave alone."""
    monkeypatch.setattr(step_clock, "PaceMaker", SteadyPace)
