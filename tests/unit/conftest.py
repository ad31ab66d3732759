"""Settings of all unit tests."""

from __future__ import annotations

from hypothesis import settings

# A busy host makes any example slow; how long something takes is measured, not asserted by the way.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
