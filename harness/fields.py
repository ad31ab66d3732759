"""The value types that scenario files and target options share, each with its bounds."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from pybench.harness.units import parse_bytes, parse_duration

SMALLEST_MEMORY: Final = 4 * 2**20
LARGEST_MEMORY: Final = 2**50
MOST_CPUS: Final = 4096
MOST_PIDS: Final = 4_194_304
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""
MOST_REPETITIONS: Final = 1_000_000
LONGEST: Final = 86_400.0
LABEL_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
IMAGE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}$"
VARIABLE_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
PATTERN_PROBLEMS: Final = {
    LABEL_PATTERN: "must be lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit",
    IMAGE_PATTERN: "must be the name of a recipe or of an imported image, such as minimal or debian:12",
    VARIABLE_PATTERN: "must be the name of an environment variable: letters, digits and '_', no digit first",
}


def _memory_bounds(size: int) -> int:
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise ValueError("memory must be between 4MiB and 1PiB")
    return size


def _duration_bounds(seconds: float) -> float:
    if not 0 <= seconds <= LONGEST:
        raise ValueError("a duration must be between 0s and 24h")
    return seconds


def _timeout_bounds(seconds: float) -> float:
    if not 0 < seconds <= LONGEST:
        raise ValueError("a timeout must be more than 0s and at most 24h")
    return seconds


def _text_without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL character cannot be passed to a program")
    return text


Label = Annotated[str, StringConstraints(pattern=LABEL_PATTERN)]
"""A name that is safe in file names, tables and URLs."""
ImageName = Annotated[str, StringConstraints(pattern=IMAGE_PATTERN)]
"""A recipe's, or an imported image's, which may have a registry and a tag in it."""
VariableName = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]

MemorySize = Annotated[int, BeforeValidator(parse_bytes), AfterValidator(_memory_bounds)]
Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_duration_bounds)]
Timeout = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_timeout_bounds)]
Cpus = Annotated[float, Field(gt=0, le=MOST_CPUS, allow_inf_nan=False)]
Pids = Annotated[int, Field(strict=True, ge=1, le=MOST_PIDS)]
Repetitions = Annotated[int, Field(strict=True, ge=1, le=MOST_REPETITIONS)]
Warmups = Annotated[int, Field(strict=True, ge=0, le=MOST_REPETITIONS)]
Argument = Annotated[str, Field(max_length=131_072), AfterValidator(_text_without_nul)]
"""One string of an argument vector or environment: MAX_ARG_STRLEN is 128 KiB (execve(2))."""
