"""Throughput: how much an instance gets done of each kind of work, by the image's program `measure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import DiskSize, Duration, MemorySize
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading
from pybench.harness.measure.work import Timed, Worker, disk_of, do_work, failed, long_enough, worker

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench

Kind = Literal[
    "cpu",
    "cpu.float",
    "memory.read",
    "memory.write",
    "memory.copy",
    "syscall",
    "switch",
    "file.sequential.read",
    "file.sequential.write",
    "file.random.read",
    "file.random.write",
    "file.fsync",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FILE: Final = "file."
_OVERHEAD: Final = 0.4
"""Seconds that a kind takes beside its measured time."""
_WARMING: Final = 1.25
"""What it takes with its warm-up, as a multiple of its measured time."""

METRICS: Final = (
    Metric("throughput.cpu", "1/s", "integer operations that each need the one before, on one processor"),
    Metric("throughput.cpu.float", "1/s", "the same with numbers of double precision"),
    Metric("throughput.memory.read", "B/s", "bytes of a buffer larger than the caches, read in order"),
    Metric("throughput.memory.write", "B/s", "the same, written"),
    Metric("throughput.memory.copy", "B/s", "bytes copied from one such buffer to another"),
    Metric("throughput.syscall", "1/s", "system calls that do next to nothing"),
    Metric("throughput.switch", "1/s", "switches between two processes on one processor"),
    Metric("throughput.file.sequential.read", "B/s", "bytes read in order from the disk, not from memory"),
    Metric("throughput.file.sequential.write", "B/s", "the same, written"),
    Metric("throughput.file.random.read", "1/s", "blocks of 4 KiB read at random, one at a time"),
    Metric("throughput.file.random.write", "1/s", "the same, written"),
    Metric("throughput.file.fsync", "1/s", "blocks of 4 KiB written and made durable, one at a time"),
    Metric("latency.file.<kind>.p99", "s", "99th percentile of the duration of one such request"),
)
UNITS: Final = {metric.name: metric.unit for metric in METRICS}


def _distinct(kinds: list[Kind]) -> list[Kind]:
    if len(set(kinds)) != len(kinds):
        raise ValueError("a kind is named twice")
    return kinds


class ThroughputSettings(ProcedureSettings):
    """Options of throughput."""

    kinds: Annotated[list[Kind], Field(min_length=1), AfterValidator(_distinct)] | None = None
    """By default all, those of files where the workload has a disk."""
    duration: Annotated[Duration, AfterValidator(long_enough)] = 0.5
    """Seconds of each kind that are measured; warming up takes a quarter more."""
    buffer: MemorySize = 64 << 20
    """Bytes of memory that are gone through; larger than the processor's caches, or those are measured."""
    file: DiskSize = 64 << 20
    """Bytes of the file; it must fit on the workload's disk."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """One launch, and each kind in turn."""
        return launch + len(self.kinds or KINDS) * (_WARMING * self.duration + _OVERHEAD)


def measure_throughput(bench: Bench) -> None:
    """Every kind of work in turn, in one instance."""
    options = bench.options(ThroughputSettings)
    instance = worker(bench.launch(), bench.target.name)
    for kind in options.kinds or KINDS:
        if options.kinds is not None or not kind.startswith(FILE) or disk_of(instance):
            bench.record(*_readings(instance, kind, options))


def _readings(instance: Worker, kind: Kind, options: ThroughputSettings) -> list[Reading]:
    metric = f"throughput.{kind}"
    try:
        timed = _do(instance, kind, options)
    except InstanceError as error:
        if instance.ended:
            raise
        return [failed(metric, UNITS[metric], error.message)]
    readings = [timed.rate(metric, UNITS[metric])]
    if timed.work.latency is not None:
        readings.append(timed.latency(f"latency.{kind}.p99", timed.work.latency.p99))
    return readings


def _do(instance: Worker, kind: Kind, options: ThroughputSettings) -> Timed:
    if not kind.startswith(FILE):
        return do_work(instance, kind, options.duration, size=options.buffer)
    disk = disk_of(instance)
    if not disk:
        raise InstanceError("the workload has no disk: give it one, such as `disk: 128MiB`")
    return do_work(instance, kind, options.duration, size=options.file, directory=disk)
