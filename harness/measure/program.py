"""The image's program `measure`: its command lines, and what it prints, which may be a hostile guest's."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pybench.harness.errors import InstanceError
from pybench.runtime.output import printable

PROGRAM: Final = "/bin/measure"
"""In the image `minimal` and its variants."""
BEGIN: Final = b"begin\n"
"""Printed just before the first batch."""
LONGEST_OUTPUT: Final = 8192
"""Bytes: a hundred batches of nineteen digits, and the rest."""
_ERROR_TEXT: Final = 500

Count = Annotated[int, Field(ge=0, lt=2**64)]
Nanoseconds = Annotated[int, Field(ge=0, lt=10**15)]
"""Less than twelve days."""
Duration = Annotated[Nanoseconds, Field(gt=0)]


class _Printed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Annotated[str, Field(pattern=r"^[a-z.]{1,40}$")]
    span: Duration
    """From `begin` to the result, by the clock that the program has."""


class Latency(BaseModel):
    """How long single operations took, in nanoseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: Annotated[Count, Field(gt=0)]
    p50: Nanoseconds
    p95: Nanoseconds
    p99: Nanoseconds
    maximum: Nanoseconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        # The program tells the middle of a percentile's bucket, which is 0.8 % wide.
        if not self.p50 <= self.p95 <= self.p99 <= self.maximum * 1.01:
            raise ValueError("percentiles are not in order")
        return self


class Work(_Printed):
    """What was done in how much time."""

    amount: Annotated[Count, Field(gt=0)]
    """Operations, bytes or switches of each batch."""
    warming: Count
    checksum: Count
    batches: Annotated[tuple[Duration, ...], Field(min_length=3, max_length=100)]
    """What each took."""
    latency: Latency | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.batches) != self.span:
            raise ValueError("the batches are not the span")
        # Half of the operations take at least the median, one after the other.
        if self.latency is not None and self.latency.n * self.latency.p50 > 2.04 * self.span:
            raise ValueError("the latencies do not fit into the span")
        return self

    @property
    def total(self) -> int:
        """Operations, bytes or switches of all batches together."""
        return self.amount * len(self.batches)


class ProcessorTried(_Printed):
    """What workers that all wanted a processor have got."""

    kind: Literal["limit.processor"]
    workers: Annotated[Count, Field(gt=0)]
    used: Nanoseconds
    """Processor time of all of them, as the kernel inside counts it."""


class LimitTried(_Printed):
    """How far an attempt to use up memory or processes got."""

    kind: Literal["limit.memory", "limit.processes"]
    reached: Count
    """Bytes, or processes."""
    ending: Literal["complete", "killed", "refused"]
    """All that was asked for; or the kernel killed it, or refused."""


Printed = TypeVar("Printed", Work, ProcessorTried, LimitTried)


def work_command(
    kind: str,
    seconds: float,
    *,
    size: int | None = None,
    directory: str = "",
    server: tuple[str, int] | None = None,
) -> tuple[str, ...]:
    """The command line that measures one kind for about so many seconds."""
    command = [PROGRAM, kind, "--milliseconds", str(max(1, round(seconds * 1000)))]
    if size is not None:
        command += ["--size", str(size)]
    if directory:
        command += ["--directory", directory]
    if server is not None:
        command += ["--address", server[0], "--port", str(server[1])]
    return tuple(command)


def parse_printed(model: type[Printed], kind: str, status: int, output: bytes, errors: bytes) -> Printed:
    """What the program printed of a kind, once it has ended.

    Args:
        model: what is expected.
        kind: as it was asked for.
        status: exit code, or minus the signal.
        output: all that it printed; hostile.
        errors: the same on its standard error.

    Raises:
        InstanceError: it failed, or printed what it never would.
    """
    if status != 0:
        said = printable(errors[:_ERROR_TEXT]).strip() or f"status {status}"
        raise InstanceError(f"{PROGRAM} {kind} failed: {said.removeprefix('measure: ')}")
    if len(output) > LONGEST_OUTPUT or not output.startswith(BEGIN):
        raise InstanceError(f"{PROGRAM} {kind} did not print a result")
    try:
        printed = model.model_validate_json(output[len(BEGIN) :])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        problem = printable(f"{place}: {reason}".encode()).removeprefix(": ")[:_ERROR_TEXT]
        raise InstanceError(f"{PROGRAM} {kind} printed no valid result: {problem}") from error
    if printed.kind != kind:
        raise InstanceError(f"{PROGRAM} {kind} printed the result of another kind")
    return printed
