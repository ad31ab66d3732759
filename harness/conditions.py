"""What is kept of each step beside its samples: what the harness and the host did meanwhile."""

from __future__ import annotations

from typing import Final

STEP_SECONDS: Final = "step"
"""Seconds of the whole step: waiting, launch, measurement, teardown and storing."""
