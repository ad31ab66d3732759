"""From decisions to the program that the kernel runs: classic BPF over `struct seccomp_data`.

When a filter is installed the kernel emulates it for every number of a call, to remember which are
always allowed (seccomp_cache_prepare in kernel/seccomp.c), and translates every instruction into
machine code; that is within a container's start. So neighbouring numbers with the same answer form
one interval, a balanced tree finds the interval, and equal continuations are written once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pybench.runtime.container.seccomp.policy import Clause
from pybench.runtime.container.specification.seccomp import Condition

# <linux/bpf_common.h> and <linux/filter.h>
_LOAD_WORD: Final = 0x20
_AND: Final = 0x54
_JUMP_ALWAYS: Final = 0x05
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_JUMP_GREATER_OR_EQUAL: Final = 0x35
_RETURN: Final = 0x06
_FARTHEST: Final = 255
"""Instructions that a test can jump over."""

# struct seccomp_data in <linux/seccomp.h>, on a little-endian machine
_OFFSET_NUMBER: Final = 0
_OFFSET_ARCHITECTURE: Final = 4
_OFFSET_ARGUMENTS: Final = 16

_WORD: Final = 0xFFFFFFFF
HIGHEST_NUMBER: Final = _WORD

Clauses = tuple[Clause, ...]
"""The first whose conditions hold decides; the last one has none."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers of calls that are decided alike: from `first` up to the next interval."""

    first: int
    clauses: Clauses


def write_program(architectures: Mapping[int, Sequence[Interval]], otherwise: int) -> bytes:
    """A filter.

    Args:
        architectures: AUDIT_ARCH_… → intervals in ascending order, the first of which begins at 0.
        otherwise: what is returned to calls of any other architecture.

    Returns:
        An array of `struct sock_filter`, 8 bytes each.
    """
    return _Writer().write(architectures, otherwise)


class _Writer:
    """Writes from the end, since jumps only lead forwards; a place is an index counted from the end."""

    def __init__(self) -> None:
        self._reversed: list[bytes] = []
        self._returns: dict[int, int] = {}
        """Outcome → the nearest place that returns it."""
        self._blocks: dict[Clauses, int] = {}
        """Clauses → the nearest place from which they are tried; the accumulator may hold anything there."""

    def write(self, architectures: Mapping[int, Sequence[Interval]], otherwise: int) -> bytes:
        unknown = self._return(otherwise)
        for architecture, intervals in architectures.items():
            found = self._architecture(intervals)
            unknown = self._test(_JUMP_EQUAL, architecture, found, unknown)
        self._append(_LOAD_WORD, _OFFSET_ARCHITECTURE)
        return b"".join(reversed(self._reversed))

    def _architecture(self, intervals: Sequence[Interval]) -> int:
        for interval in intervals:
            self._block(interval.clauses)
        first = self._tree(intervals)
        return first if len(intervals) == 1 else self._append(_LOAD_WORD, _OFFSET_NUMBER)

    def _tree(self, intervals: Sequence[Interval]) -> int:
        """Find the interval of the number in the accumulator."""
        if len(intervals) == 1:
            return self._near(intervals[0].clauses)
        middle = len(intervals) // 2
        above = self._tree(intervals[middle:])
        below = self._tree(intervals[:middle])
        return self._test(_JUMP_GREATER_OR_EQUAL, intervals[middle].first, above, below)

    def _near(self, clauses: Clauses) -> int:
        """A place close by from which the clauses are tried; the outcome itself where there is only one."""
        if not clauses[0].conditions:
            return self._return(clauses[0].returned)
        place = self._blocks[clauses]
        if self._distance(place) > _FARTHEST - 2:
            self._blocks[clauses] = place = self._append(_JUMP_ALWAYS, self._distance(place))
        return place

    def _block(self, clauses: Clauses) -> None:
        """Write the tests of the clauses, once for all calls that share them."""
        if clauses in self._blocks or not clauses[0].conditions:
            return
        place = self._return(clauses[-1].returned)
        for clause in reversed(clauses[:-1]):
            holds, fails = self._return(clause.returned), place
            if holds != fails:
                for condition in reversed(clause.conditions):
                    holds = self._condition(condition, holds, fails)
            place = holds
        self._blocks[clauses] = place

    def _condition(self, condition: Condition, holds: int, fails: int) -> int:
        """Compare an argument of 64 bits, a word at a time because BPF knows no more."""
        low = _OFFSET_ARGUMENTS + 8 * condition.index
        value_high, value_low = condition.value >> 32, condition.value & _WORD
        match condition.op:
            case "SCMP_CMP_MASKED_EQ":
                wanted = condition.value & condition.value_two
                place = self._masked(low, value_low, wanted & _WORD, holds, fails)
                return self._masked(low + 4, value_high, wanted >> 32, place, fails)
            case "SCMP_CMP_NE" | "SCMP_CMP_LT" | "SCMP_CMP_LE":
                holds, fails = fails, holds
        code = {
            "SCMP_CMP_EQ": _JUMP_EQUAL,
            "SCMP_CMP_NE": _JUMP_EQUAL,
            "SCMP_CMP_GT": _JUMP_GREATER,
            "SCMP_CMP_LE": _JUMP_GREATER,
            "SCMP_CMP_GE": _JUMP_GREATER_OR_EQUAL,
            "SCMP_CMP_LT": _JUMP_GREATER_OR_EQUAL,
        }[condition.op]
        self._test(code, value_low, holds, fails)
        place = self._append(_LOAD_WORD, low)
        place = self._test(_JUMP_EQUAL, value_high, place, fails)
        if code != _JUMP_EQUAL:
            place = self._test(_JUMP_GREATER, value_high, holds, place)
        return self._append(_LOAD_WORD, low + 4)

    def _masked(self, offset: int, mask: int, wanted: int, holds: int, fails: int) -> int:
        if mask == 0:
            return holds
        self._test(_JUMP_EQUAL, wanted, holds, fails)
        if mask != _WORD:
            self._append(_AND, mask)
        return self._append(_LOAD_WORD, offset)

    def _return(self, value: int) -> int:
        """A place that returns a value, near enough for a test after the next."""
        if value not in self._returns or self._distance(self._returns[value]) > _FARTHEST - 2:
            self._returns[value] = self._append(_RETURN, value)
        return self._returns[value]

    def _test(self, code: int, value: int, holds: int, fails: int) -> int:
        """A jump to one of two places, by way of a longer jump to one that is too far."""
        # The second bridge moves the first target away by one.
        if self._distance(holds) >= _FARTHEST:
            holds = self._append(_JUMP_ALWAYS, self._distance(holds))
        if self._distance(fails) > _FARTHEST:
            fails = self._append(_JUMP_ALWAYS, self._distance(fails))
        return self._append(code, value, self._distance(holds), self._distance(fails))

    def _distance(self, place: int) -> int:
        """Instructions between the next one to be written and a place."""
        return len(self._reversed) - 1 - place

    def _append(self, code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> int:
        self._reversed.append(struct.pack("=HBBI", code, jump_true, jump_false, value))
        return len(self._reversed) - 1
