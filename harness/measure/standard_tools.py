"""The command lines of fio, sysbench and iperf3, and the one figure of each that the harness takes.

They run in the image `bench`. What they print may be a hostile guest's: it is bounded, and only numbers of
the expected kind are taken from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pybench.harness.errors import InstanceError

LONGEST_OUTPUT: Final = 64 << 10
MEBIBYTE: Final = 1 << 20
_HIGHEST: Final = 1e15

Rate = Annotated[float, Field(gt=0, lt=_HIGHEST, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how long a tool works."""

    seconds: int
    """Whole ones, since iperf3 and fio take no others."""
    size: int
    """Bytes of its buffer or file."""
    directory: str
    """Where it may make a file; empty where there is no disk."""
    server: tuple[str, int] = ("127.0.0.1", 5201)
    """Where iperf3 is to connect."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One way to run one of the tools."""

    name: str
    """Of its metric, after `tools.`."""
    unit: str
    program: str
    """In the image."""
    arguments: Callable[[Place], tuple[str, ...]]
    read: Callable[[bytes], float]
    """What it printed → the figure, in `unit`; raises ValueError."""
    needs_disk: bool = False
    needs_server: bool = False

    def parse(self, output: bytes) -> float:
        """The figure, in `unit`.

        Raises:
            InstanceError: it printed something else.
        """
        try:
            if len(output) > LONGEST_OUTPUT:
                raise ValueError("too long")
            return self.read(output)
        except ValueError as error:
            # Of pydantic's errors, too, the reason is left out: it quotes what was printed.
            raise InstanceError(f"{self.program} did not print the result of {self.name}") from error


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _FioDirection(_Model):
    bw_bytes: float
    iops: float


class _FioJob(_Model):
    error: int
    read: _FioDirection
    write: _FioDirection


class _Fio(_Model):
    jobs: Annotated[tuple[_FioJob, ...], Field(min_length=1, max_length=1)]


class _IperfSum(_Model):
    bits_per_second: Rate


class _IperfEnd(_Model):
    sum_received: _IperfSum


class _Iperf(_Model):
    end: _IperfEnd


_EVENTS: Final = re.compile(rb"^ +events per second: +(\d{1,12}\.\d{2})$", re.MULTILINE)
_TRANSFERRED: Final = re.compile(rb" MiB transferred \((\d{1,12}\.\d{2}) MiB/sec\)$", re.MULTILINE)


def _matched(pattern: re.Pattern[bytes], output: bytes, factor: float = 1.0) -> float:
    match = pattern.search(output)
    value = float(match[1]) * factor if match else 0.0
    if value <= 0:
        raise ValueError("no such line")
    return value


def _fio_figure(output: bytes, direction: str, figure: str) -> float:
    (job,) = _Fio.model_validate_json(output).jobs
    value = float(getattr(getattr(job, direction), figure))
    if job.error != 0 or not 0 < value < _HIGHEST:
        raise ValueError("it failed")
    return value


def _fio(name: str, mode: str, direction: str, *, block: str, sync: bool = False) -> Tool:
    figure, unit = ("bw_bytes", "B/s") if mode in {"read", "write"} and not sync else ("iops", "1/s")

    def arguments(place: Place) -> tuple[str, ...]:
        return (
            "--output-format=json", f"--name={name}", f"--directory={place.directory}", f"--rw={mode}",
            f"--bs={block}", f"--size={place.size}", "--ioengine=psync", f"--runtime={place.seconds}",
            "--time_based", "--unlink=1", *(("--fsync=1",) if sync else ("--direct=1",)),
        )  # fmt: skip

    def read(output: bytes) -> float:
        return _fio_figure(output, direction, figure)

    return Tool(f"fio.{name}", unit, "/usr/bin/fio", arguments, read, needs_disk=True)


def _sysbench_memory(operation: str) -> Tool:
    def arguments(place: Place) -> tuple[str, ...]:
        return (
            "memory", "--threads=1", f"--time={place.seconds}", f"--memory-oper={operation}",
            f"--memory-block-size={place.size}", "--memory-total-size=1024T", "run",
        )  # fmt: skip

    return Tool(
        f"sysbench.memory.{operation}",
        "B/s",
        "/usr/bin/sysbench",
        arguments,
        lambda output: _matched(_TRANSFERRED, output, MEBIBYTE),
    )


def _iperf(name: str, *options: str) -> Tool:
    def arguments(place: Place) -> tuple[str, ...]:
        address, port = place.server
        return ("--client", address, "--port", str(port), "--json", "--time", str(place.seconds), *options)

    def read(output: bytes) -> float:
        return _Iperf.model_validate_json(output).end.sum_received.bits_per_second / 8

    return Tool(f"iperf3.{name}", "B/s", "/usr/bin/iperf3", arguments, read, needs_server=True)


TOOLS: Final = (
    Tool(
        "sysbench.cpu",
        "1/s",
        "/usr/bin/sysbench",
        lambda place: ("cpu", "--threads=1", f"--time={place.seconds}", "run"),
        lambda output: _matched(_EVENTS, output),
    ),
    _sysbench_memory("read"),
    _sysbench_memory("write"),
    _fio("sequential.read", "read", "read", block="1M"),
    _fio("sequential.write", "write", "write", block="1M"),
    _fio("random.read", "randread", "read", block="4k"),
    _fio("random.write", "randwrite", "write", block="4k"),
    _fio("fsync", "write", "write", block="4k", sync=True),
    _iperf("send"),
    _iperf("receive", "--reverse"),
)
