"""Which way a cell gets worse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pybench.harness.stats import CellKey

RATES: Final = frozenset({"1/s", "B/s"})
TIMES: Final = frozenset({"s"})


def worse_direction(cell: CellKey) -> int:
    """1 where more is worse, which is everything but rates; -1 for these."""
    return -1 if cell[3] in RATES else 1
