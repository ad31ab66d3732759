"""What `pybench-oci` says: to the log that an engine reads, and to the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

PROGRAM: Final = "pybench-oci"


def log(parsed: argparse.Namespace, level: str, message: str) -> None:
    """To the log that whoever drives us reads, and errors to the terminal as well."""
    if level == "debug" and not parsed.debug:
        return
    if parsed.log and parsed.log != "/dev/stderr":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = f'time="{now}" level={level} msg={json.dumps(message)}'
        if parsed.log_format == "json":
            line = json.dumps({"level": level, "msg": message, "time": now})
        with contextlib.suppress(OSError), Path(parsed.log).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    if level == "error" or not parsed.log:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
