"""Reading what kernel and firmware tell in small files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

LARGEST_FIELD = 4096
"""Characters; a file that says more is no field of a fingerprint."""


def text(path: str | Path) -> str | None:
    """A file's content without the white space around it; None if it cannot be read or is empty."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def chosen(line: str | None) -> str | None:
    """`madvise` from `always [madvise] never`."""
    match = re.search(r"\[(\w+)\]", line or "")
    return match[1] if match else None


def file_hash(path: str | Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
