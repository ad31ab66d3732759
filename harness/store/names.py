"""Ids of runs and the spelling of instants."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def new_run_id(scenario: str, started: datetime) -> str:
    """`startup-20251123T223412Z-1a2b`: sorts by time within a scenario, and safe as a folder's name."""
    return f"{scenario}-{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
