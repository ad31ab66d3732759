"""The value types that scenario files and target options share, each with its bounds."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from pybench.harness.units import parse_bytes, parse_duration, parse_share

SMALLEST_MEMORY: Final = 4 * 2**20
LARGEST_MEMORY: Final = 2**50
SMALLEST_DISK: Final = 8 * 2**20
DISK_BLOCK: Final = 4096
"""A disk has whole blocks of its file system."""
MOST_CPUS: Final = 4096
MOST_PIDS: Final = 4_194_304
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""
MOST_REPETITIONS: Final = 1_000_000
LONGEST: Final = 86_400.0
MOST_SHARE: Final = 10.0
LONGEST_MODE: Final = 5
LABEL_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
IMAGE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}$"
VARIABLE_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
ABSOLUTE_PATTERN: Final = r"^/[^\x00]{1,4094}$"
USER_PATTERN: Final = r"^([0-9]{1,10}|[a-z_][a-z0-9_-]{0,31})(:([0-9]{1,10}|[a-z_][a-z0-9_-]{0,31}))?$"
PATTERN_PROBLEMS: Final = {
    LABEL_PATTERN: "must be lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit",
    IMAGE_PATTERN: "must be the name of a recipe or of an imported image, such as minimal or debian:12",
    VARIABLE_PATTERN: "must be the name of an environment variable: letters, digits and '_', no digit first",
    ABSOLUTE_PATTERN: "must be an absolute path inside the image",
    USER_PATTERN: "must be a user, or user:group, each a number or a name",
}


def _memory_bounds(size: int) -> int:
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise ValueError("memory must be between 4MiB and 1PiB")
    return size


def _disk_bounds(size: int) -> int:
    if not SMALLEST_DISK <= size <= LARGEST_MEMORY or size % DISK_BLOCK:
        raise ValueError("a disk must have between 8MiB and 1PiB, in whole blocks of 4KiB")
    return size


def _share_bounds(share: float) -> float:
    if not 0 < share <= MOST_SHARE:
        raise ValueError("a share must be more than 0% and at most 1000%")
    return share


def _mode(value: object) -> int:
    """YAML 1.2 reads 0644 as 644 in base ten, so a file's mode is text in base eight."""
    if not isinstance(value, str) or not value or set(value) - set("01234567") or len(value) > LONGEST_MODE:
        raise ValueError('a mode is text in base eight, such as "0644"')
    return int(value, 8)


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

_SIZE_SCHEMA: Final = {"type": ["integer", "string"], "pattern": r"^\d+(\.\d+)?\s*[kKMGTP]?i?B$"}
_DURATION_SCHEMA: Final = {"type": ["number", "string"], "pattern": r"^\d+(\.\d+)?\s*(ns|us|µs|ms|s|min|h)$"}
_SHARE_SCHEMA: Final = {"type": ["number", "string"], "pattern": r"^\d+(\.\d+)?\s*%$"}

MemorySize = Annotated[
    int, BeforeValidator(parse_bytes), AfterValidator(_memory_bounds), WithJsonSchema(_SIZE_SCHEMA)
]
DiskSize = Annotated[
    int, BeforeValidator(parse_bytes), AfterValidator(_disk_bounds), WithJsonSchema(_SIZE_SCHEMA)
]
Duration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_duration_bounds), WithJsonSchema(_DURATION_SCHEMA)
]
Timeout = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_timeout_bounds), WithJsonSchema(_DURATION_SCHEMA)
]
Share = Annotated[
    float, BeforeValidator(parse_share), AfterValidator(_share_bounds), WithJsonSchema(_SHARE_SCHEMA)
]
FileMode = Annotated[
    int, BeforeValidator(_mode), WithJsonSchema({"type": "string", "pattern": "^[0-7]{1,5}$"})
]
AbsolutePath = Annotated[str, StringConstraints(pattern=ABSOLUTE_PATTERN)]
User = Annotated[str, StringConstraints(pattern=USER_PATTERN)]
Port = Annotated[int, Field(strict=True, ge=1, le=65_535)]
Cpus = Annotated[float, Field(gt=0, le=MOST_CPUS, allow_inf_nan=False)]
Pids = Annotated[int, Field(strict=True, ge=1, le=MOST_PIDS)]
Repetitions = Annotated[int, Field(strict=True, ge=1, le=MOST_REPETITIONS)]
Warmups = Annotated[int, Field(strict=True, ge=0, le=MOST_REPETITIONS)]
Argument = Annotated[str, Field(max_length=131_072), AfterValidator(_text_without_nul)]
"""One string of an argument vector or environment: MAX_ARG_STRLEN is 128 KiB (execve(2))."""
