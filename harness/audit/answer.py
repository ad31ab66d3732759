"""What a guest's payload answers: hostile text, bounded, typed and checked before anything looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pybench.runtime.output import printable

LARGEST_LINE: Final = 256 * 1024
LARGEST_ANSWER: Final = 8 * 2**20
"""Bytes that a payload may print in all."""
LONGEST_TEXT: Final = 4096
_MOST: Final = 4096

Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
Name = Annotated[str, StringConstraints(max_length=64)]
Scalar = bool | int | float | Text | None
Row = Annotated[list[Scalar], Field(max_length=_MOST)]
Table = Annotated[dict[Text, Scalar | Row], Field(max_length=_MOST)]
Fact = Scalar | Annotated[list[Scalar | Row], Field(max_length=_MOST)] | Table


class Answer(BaseModel):
    """One line of the payload: what one probe saw."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    probe: Name
    status: Literal["done", "crashed", "late"]
    reason: Text = ""
    seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    facts: Annotated[dict[Name, Fact], Field(max_length=256)] = Field(default_factory=dict)
    seen: Annotated[list[tuple[Name, Text]], Field(max_length=256)] = Field(default_factory=list)
    """Tokens, each with the place where it was seen."""


class MalformedAnswerError(Exception):
    """An answer is not what its probe answers with; the message says what is wrong."""


def read_answers(output: bytes, asked: Iterable[str]) -> tuple[Mapping[str, Answer], Mapping[str, str]]:
    """The answers in what a payload printed.

    Returns:
        Probe → its answer; probe → what is wrong with it, for each one asked that has no valid answer.
    """
    wanted = set(asked)
    found: dict[str, Answer] = {}
    faults: dict[str, str] = {}
    rest = ""
    for line in output[:LARGEST_ANSWER].split(b"\n"):
        if not line.strip():
            continue
        try:
            if len(line) > LARGEST_LINE:
                raise MalformedAnswerError(f"a line of {len(line)} bytes")
            answer = Answer.model_validate_json(line)
        except (ValidationError, MalformedAnswerError) as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            rest = f"the payload printed what is no answer: {first}"
            continue
        if answer.probe in found:
            faults[answer.probe] = "the payload answered twice"
        elif answer.probe in wanted:
            found[answer.probe] = answer
        else:
            rest = f"the payload answered for {printable(answer.probe.encode())}, which was not asked"
    for probe in wanted - set(found):
        faults.setdefault(probe, rest or "the payload did not answer")
    return {probe: answer for probe, answer in found.items() if probe not in faults}, faults
