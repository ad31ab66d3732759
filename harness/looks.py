"""How a sample says that the precision of its cell was looked at while samples were taken; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

LOOKS: Final = "looks"
"""The qualifier of samples whose number was not fixed in advance."""
MOST_LOOKS: Final = 10_000
"""Samples up to which there may be a look after each: the exact level takes that much work."""
_LOOKS: Final = re.compile(r"(\d{1,5})-(\d{1,5})")


def looks_qualifier(first: int, last: int) -> str:
    """The qualifier's value: `10-40` for a look after each sample from the 10th to the 40th."""
    return f"{first}-{last}"


def looks_of(qualifiers: Mapping[str, str]) -> tuple[int, int] | None:
    """The first and the last look that a sample's qualifiers tell of, or None."""
    match = _LOOKS.fullmatch(qualifiers.get(LOOKS, ""))
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if 1 <= first <= last <= MOST_LOOKS else None
