"""What the host part of a probe judges: the guest's answer beside the host's own knowledge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pybench.harness.audit.answer import Answer, MalformedAnswerError
from pybench.harness.audit.model import Verdict, isolated, leak, shared
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.audit.canaries.base import Canary
    from pybench.harness.audit.canaries.place import Place
    from pybench.harness.audit.subjects.base import Subject

LONGEST_EVIDENCE: Final = 200
MOST_EVIDENCE: Final = 12
AnyCanary = TypeVar("AnyCanary", bound="Canary")


class Ground(Protocol):
    """What the host has planted, and for whom: what a guest part is told follows from it."""

    @property
    def subject(self) -> Subject:
        """The instance that is looked at."""
        ...

    @property
    def sibling(self) -> Subject | None:
        """A second instance of the same target."""
        ...

    @property
    def rootfs(self) -> Path:
        """The image's root filesystem on the host."""
        ...

    def canary(self, kind: type[AnyCanary]) -> AnyCanary:
        """The planted canary of a class."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe's answer on one target, and everything it can be held against."""

    answer: Answer
    subject: Subject
    sibling: Subject | None
    place: Place
    """The audit's directory on the host, with what is shared as volumes."""
    planted: Mapping[str, Canary]
    baseline: Answer | None
    """What the bare process answered; None while it is the one that is judged."""
    beside: object = None
    """What the host did or watched meanwhile, if the probe says so."""

    def canary(self, kind: type[AnyCanary]) -> AnyCanary:
        """The planted canary of a class."""
        found = self.planted[kind.name]
        if not isinstance(found, kind):
            raise TypeError(f"{kind.name} is not a {kind.__name__}")
        return found

    def watched(self, kind: type[_Value]) -> _Value:
        """What the host did or watched while the guest's part ran.

        Raises:
            TypeError: the probe's `beside` yields something else.
        """
        if not isinstance(self.beside, kind):
            raise TypeError(f"{kind.__name__} was not entered")
        return self.beside

    def flag(self, name: str) -> bool:
        """A fact that is yes or no.

        Raises:
            MalformedAnswerError: the guest did not tell it, or something else.
        """
        return self._fact(name, bool)

    def number(self, name: str) -> int:
        """A fact that is a whole number."""
        found = self._fact(name, int)
        if isinstance(found, bool):
            raise MalformedAnswerError(f"{name} is no number")
        return found

    def real(self, name: str) -> float:
        """A fact that is a number."""
        value = self.answer.facts.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MalformedAnswerError(f"{name} is no number")
        return float(value)

    def text(self, name: str) -> str:
        """A fact that is text, made printable."""
        return clean(self._fact(name, str))

    def texts(self, name: str) -> list[str]:
        """A fact that is a list of texts, made printable."""
        return [clean(_checked(name, each, str)) for each in self._fact(name, list)]

    def numbers(self, name: str) -> list[int]:
        """A fact that is a list of whole numbers."""
        return [_checked(name, each, int) for each in self._fact(name, list)]

    def rows(self, name: str) -> list[list[str]]:
        """A fact that is a list of rows of texts, made printable."""
        found = []
        for row in self._fact(name, list):
            found.append([clean(_checked(name, each, str)) for each in _checked(name, row, list)])
        return found

    def table(self, name: str) -> dict[str, str]:
        """A fact that is texts by name, made printable."""
        found = self._fact(name, dict)
        return {clean(key): clean(_checked(name, value, str)) for key, value in found.items()}

    def series(self, name: str) -> dict[str, list[float]]:
        """A fact that is rows of numbers by name, made printable."""
        found: dict[str, list[float]] = {}
        for key, row in self._fact(name, dict).items():
            values = _checked(name, row, list)
            if any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
                raise MalformedAnswerError(f"{name} has what is no number")
            found[clean(key)] = [float(each) for each in values]
        return found

    def places(self, *tokens: str) -> list[str]:
        """Where any of some tokens was seen."""
        return [clean(place) for token, place in self.answer.seen if token in tokens]

    def sighted(self, tokens: Sequence[str], what: str) -> Verdict:
        """A leak if one of the tokens was seen, and isolated if none was.

        Args:
            tokens: those of the canaries in question.
            what: what they are, to be continued with "was seen" or "was not seen".
        """
        places = self.places(*tokens)
        if places:
            return leak(f"{what} was seen", *evidence(places))
        return isolated(f"{what} was not seen")

    def reached(self, reached: Sequence[str], yes: str, no: str) -> Verdict:
        """What was reached inside: of the host a leak; of a guest's own kernel not.

        Args:
            reached: what was, one each; nothing means isolated.
            yes: the reason of a leak.
            no: the reason of isolation.
        """
        if not reached:
            return isolated(no)
        if self.subject.own_kernel:
            return shared("the guest's own kernel answered: what it allows is inside", *evidence(reached))
        return leak(yes, *evidence(reached))

    def _fact(self, name: str, kind: type[_Value]) -> _Value:
        return _checked(name, self.answer.facts.get(name), kind)


_Value = TypeVar("_Value")


def _checked(name: str, value: object, kind: type[_Value]) -> _Value:
    if not isinstance(value, kind):
        raise MalformedAnswerError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def clean(text: str) -> str:
    """One printable, bounded line."""
    return (
        printable(text.encode("utf-8", errors="backslashreplace"))
        .replace("\n", "\\n")
        .replace("\t", " ")[:LONGEST_EVIDENCE]
    )


def evidence(lines: Sequence[str]) -> tuple[str, ...]:
    """Bounded evidence."""
    kept = tuple(clean(line) for line in lines[:MOST_EVIDENCE])
    return kept if len(lines) <= MOST_EVIDENCE else (*kept, f"and {len(lines) - MOST_EVIDENCE} more")
