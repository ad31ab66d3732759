"""Leaks that were accepted: each with its reason and the day on which that must be thought over again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from pybench.harness.audit.catalogue import find
from pybench.harness.errors import InputError
from pybench.harness.gate.verdicts import PREFIX, Accepted
from pybench.harness.scenario.document import Document, Kind, read_document
from pybench.harness.scenario.validate import validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pybench.harness.audit.model import Judged

USUAL_FILE: Final = "audit-waivers.yaml"
_KIND: Final = Kind("file of waivers", "`docs/isolation.md` shows one")


class WaiverModel(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probe: Annotated[str, Field(min_length=1, max_length=16)]
    target: Annotated[str, Field(min_length=1, max_length=64)]
    """A target as the audit calls it, such as `container-strict`."""
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=1000)]
    expiry: str
    """The last day on which it holds, as YYYY-MM-DD."""

    @field_validator("expiry")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        date.fromisoformat(text)
        return text


class WaiversModel(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    waivers: Annotated[list[WaiverModel], Field(max_length=1000)]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A leak that is accepted for a while."""

    probe: str
    target: str
    reason: str
    expiry: date

    def covers(self, judged: Judged) -> bool:
        """Whether it is about this verdict."""
        return (self.probe, self.target) == (judged.probe.id, judged.target)

    @property
    def accepted(self) -> Accepted:
        """What the gate is told of it."""
        said = f"waived until {self.expiry}: {self.reason}"
        return Accepted(f"{PREFIX}{self.probe}", self.target, said)


def usual_waivers(folder: Path, named: Path | None, today: date) -> tuple[Waiver, ...]:
    """The waivers of the file that is named, or of `audit-waivers.yaml` in a folder, if it is there.

    Raises:
        InputError: as `read_waivers`.
    """
    usual = folder / USUAL_FILE
    if named is None and not usual.exists():
        return ()
    return read_waivers(named or usual, today)


def read_waivers(path: Path, today: date) -> tuple[Waiver, ...]:
    """The waivers of a file.

    Raises:
        InputError: it cannot be read, is malformed, names an unknown probe, or one of them has expired.
    """
    document = read_document(path, _KIND)
    model = validate(document, WaiversModel, document.data)
    found: list[Waiver] = []
    for index, entry in enumerate(model.waivers):
        waiver = _checked(document, index, entry)
        if waiver.expiry < today:
            raise document.error(
                ("waivers", index, "expiry"),
                f"the waiver of {waiver.probe} on {waiver.target} expired on {waiver.expiry}",
                hint="fix the leak, or give a new date and reason",
            )
        if any((other.probe, other.target) == (waiver.probe, waiver.target) for other in found):
            raise document.error(("waivers", index), f"{waiver.probe} on {waiver.target} is waived twice")
        found.append(waiver)
    return tuple(found)


def waiver_of(judged: Judged, waivers: Sequence[Waiver]) -> Waiver | None:
    """The waiver of a leak; None if it has none, or is no leak."""
    if not judged.verdict.is_leak:
        return None
    return next((waiver for waiver in waivers if waiver.covers(judged)), None)


def _checked(document: Document, index: int, entry: WaiverModel) -> Waiver:
    try:
        probe = find(entry.probe)
    except InputError as error:
        raise document.error(("waivers", index, "probe"), error.message, hint=error.hint) from error
    return Waiver(probe.id, entry.target, entry.reason, date.fromisoformat(entry.expiry))
