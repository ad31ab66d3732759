"""Filters rewritten to cost less, with the same answer for every call.

When a filter is installed, the kernel emulates it for every number of a call, native and 32-bit, to
remember which are always allowed (seccomp_cache_prepare in kernel/seccomp.c), and then translates
every instruction into machine code. So what counts is how many instructions there are and how far
they are walked; libseccomp tests one number at a time, though neighbours mostly share their answer.

The program is taken as a function of the words it reads: architecture, number, halves of arguments.
Between the constants that a word is compared with, its value makes no difference; so one walk for
each such interval tells all there is to know. From that comes a new program: for each word a search
tree over the intervals, next to each other merged where they lead to the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

# <linux/bpf_common.h> and <linux/filter.h>
LOAD_WORD: Final = 0x20
JUMP_ALWAYS: Final = 0x05
JUMP_EQUAL: Final = 0x15
JUMP_GREATER: Final = 0x25
JUMP_GREATER_OR_EQUAL: Final = 0x35
RETURN: Final = 0x06
_AND: Final = 0x54

_WORD: Final = 0xFFFFFFFF
_FARTHEST: Final = 253
"""Jumps reach 255 instructions; two of them may still come between a test and its targets."""
_MAXIMUM_STEPS: Final = 1_000_000
"""About half a second. Profiles in use need a tenth; who compares one argument with a thousand values
gets libseccomp's program."""
_EQUALITIES_IN_A_ROW: Final = 3
"""Single values are found one after the other up to here, by halving the interval beyond."""
_WIDE: Final = 64
"""Intervals count no more than this in a tree: those that matter are of calls that exist."""


def instruction(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One `struct sock_filter`; jumps count from the next instruction."""
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def shorten(program: bytes) -> bytes:
    """Rewrite a filter into a shorter one that returns the same for every call.

    Args:
        program: an array of `struct sock_filter`, 8 bytes each, such as libseccomp makes.

    Returns:
        The new program, or the given one if that is not longer, too large to be looked through, or
        has instructions that libseccomp does not use.
    """
    try:
        root = _Reader(program).read()
    except _NotCovered:
        return program
    return min(program, _Writer().write(root), key=len)


class _NotCovered(Exception):  # noqa: N818 — no failure: the program stays as it is
    """The program does what is not looked through here."""


class _Word(NamedTuple):
    """A word of `struct seccomp_data`, of which only the bits of the mask are looked at."""

    offset: int
    mask: int

    def lowest_bits(self) -> int:
        """What is below the mask if that is a run of bits from the top, else zero."""
        below = ~self.mask & _WORD
        return below if below & (below + 1) == 0 else 0

    def decided_as(self) -> _Word:
        """The word that decides: the whole where the masked one only rounds down, which keeps order."""
        return _Word(self.offset, _WORD) if self.lowest_bits() else self


class _Decision:
    """What follows from the intervals of a word; compared by identity."""

    __slots__ = ("branches", "word")

    def __init__(self, word: _Word, branches: tuple[_Branch, ...]) -> None:
        self.word = word
        self.branches = branches


_Target = int | _Decision
"""The value to return, or the next decision."""


class _Branch(NamedTuple):
    """An interval of values, up to the next branch of its decision."""

    first: int
    target: _Target


class _Reader:
    """Finds the decisions of a program by walking it with every combination that makes a difference."""

    def __init__(self, program: bytes) -> None:
        self._instructions = list(struct.iter_unpack("=HBBI", program))
        self._decisions: dict[tuple[_Word, tuple[_Branch, ...]], _Decision] = {}
        self._steps = 0

    def read(self) -> _Target:
        """The first decision.

        Raises:
            _NotCovered: an instruction is unknown, or there are too many combinations.
        """
        return self._walk(0, _Word(0, 0), {})

    def _walk(self, position: int, word: _Word, known: dict[_Word, int]) -> _Target:
        """What follows from a position on, with `word` in the accumulator.

        Args:
            position: index of the instruction.
            word: what has been loaded and masked.
            known: for each word that has been decided the first value of its interval.
        """
        while True:
            self._step()
            code, jump_true, jump_false, value = self._instructions[position]
            if code == RETURN:
                return int(value)
            if code in _COMPARISONS:
                found = _value(word, known)
                if found is None:
                    return self._decide(position, word, known)
                position += jump_true if _holds(code, found, value) else jump_false
            else:
                word, jump = _without_test(code, value, word)
                position += jump
            position += 1

    def _decide(self, position: int, word: _Word, known: dict[_Word, int]) -> _Target:
        deciding = word.decided_as()
        branches: list[_Branch] = []
        for first in sorted({0, *self._bounds(position, word, known)}):
            target = self._walk(position, word, {**known, deciding: first})
            if not branches or branches[-1].target != target:
                branches.append(_Branch(first, target))
        if len(branches) == 1:
            return branches[0].target
        key = (deciding, tuple(branches))
        return self._decisions.setdefault(key, _Decision(*key))

    def _bounds(self, position: int, word: _Word, known: dict[_Word, int]) -> Iterator[int]:
        """Values of a word from which on another comparison holds, in all that can be reached."""
        deciding = word.decided_as()
        reached, ahead = set(), [(position, word)]
        while ahead:
            state = ahead.pop()
            if state in reached:
                continue
            reached.add(state)
            self._step()
            position, word = state
            code, jump_true, jump_false, value = self._instructions[position]
            if code in _COMPARISONS:
                found = _value(word, known)
                if found is None or _holds(code, found, value):
                    ahead.append((position + 1 + jump_true, word))
                if found is None or not _holds(code, found, value):
                    ahead.append((position + 1 + jump_false, word))
                if word.decided_as() == deciding:
                    yield from _thresholds(code, value, word)
            elif code != RETURN:
                word, jump = _without_test(code, value, word)
                ahead.append((position + 1 + jump, word))

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAXIMUM_STEPS:
            raise _NotCovered


_COMPARISONS: Final = frozenset({JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL})


def _without_test(code: int, value: int, word: _Word) -> tuple[_Word, int]:
    """The word in the accumulator after an instruction that tests nothing, and how far it jumps."""
    if code == LOAD_WORD:
        return _Word(value, _WORD), 0
    if code == _AND:
        return _Word(word.offset, word.mask & value), 0
    if code == JUMP_ALWAYS:
        return word, value
    raise _NotCovered


def _value(word: _Word, known: dict[_Word, int]) -> int | None:
    """A value that a word may have, which stands for its interval; None if it is not decided yet."""
    if word.mask == 0:
        return 0
    deciding = word.decided_as()
    if deciding not in known:
        return None
    # Bounds of a word that decides for itself need not be values that its mask leaves.
    return known[deciding] if deciding == word else known[deciding] & word.mask


def _holds(code: int, left: int, right: int) -> bool:
    if code == JUMP_EQUAL:
        return left == right
    return left > right if code == JUMP_GREATER else left >= right


def _thresholds(code: int, value: int, word: _Word) -> Iterator[int]:
    """Values from which on the deciding word changes the outcome of a comparison."""
    below = word.lowest_bits()
    if code == JUMP_EQUAL:
        candidates = [] if value & below else [value, value + below + 1]
    else:
        first = value + (code == JUMP_GREATER)
        candidates = [(first + below) & ~below]
    yield from (candidate for candidate in candidates if candidate <= _WORD)


class _Writer:
    """Writes a program from its end, since jumps only lead forwards."""

    def __init__(self) -> None:
        self._reversed: list[bytes] = []
        self._places: dict[_Target, int] = {}
        """The nearest place from which a target is reached, as an index of the reversed program."""

    def write(self, root: _Target) -> bytes:
        """The program that starts with a decision."""
        if isinstance(root, int):
            return instruction(RETURN, root)
        self._decision(root)
        return b"".join(reversed(self._reversed))

    def _decision(self, decision: _Decision) -> None:
        for branch in decision.branches:
            if isinstance(branch.target, _Decision) and branch.target not in self._places:
                self._decision(branch.target)
        # It has two branches at least, so what was written last is its first test.
        self._tree(decision.branches, _WORD)
        if decision.word.mask != _WORD:
            self._append(_AND, decision.word.mask)
        self._places[decision] = self._append(LOAD_WORD, decision.word.offset)

    def _tree(self, branches: tuple[_Branch, ...], last: int) -> _Target | _Place:
        """Write tests that find the branch of a value known to be from the first one up to `last`."""
        ends = [branch.first - 1 for branch in branches[1:]] + [last]
        singles = [branch for branch, end in zip(branches, ends, strict=True) if branch.first == end]
        others = {branch.target for branch in branches} if len(singles) == len(branches) else set()
        ...
