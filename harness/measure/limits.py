"""Limits: how exactly processors, memory and processes are held, counted by whoever holds them: the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import psutil
from pydantic import AfterValidator

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Duration
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading
from pybench.harness.measure.program import (
    PROGRAM,
    LimitTried,
    ProcessorTried,
    parse_printed,
)
from pybench.harness.measure.work import FACTOR, PATIENCE, Worker, check_clocks, failed, host_span, worker
from pybench.harness.targets.base import HasAccount

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue, Resources
    from pybench.harness.runner.bench import Bench

METRICS: Final = (
    Metric("limits.cpu", "", "processors that workers who want more have got, as the host counts"),
    Metric("limits.cpu.share", "", "the same, as a share of the limit: 1 is exact"),
    Metric("limits.cpu.inside", "", "the same processors, as the kernel inside counts"),
    Metric("limits.memory", "B", "what an attempt to take more memory than the limit has got"),
    Metric("limits.memory.share", "", "the same, as a share of the limit"),
    Metric("limits.memory.outside", "", "processes of the host that were killed for it outside the instance"),
    Metric("limits.processes", "", "processes that could be started beside those that were there"),
    Metric("limits.processes.share", "", "the same, as a share of the limit"),
)
MARGIN: Final = 1.5
"""How far beyond the limit is tried, as a multiple of it."""
LARGEST_MEMORY: Final = 0.5
"""Share of the host's free memory beyond which none is tried: it must not matter if a limit does not hold."""
MOST_WORKERS: Final = 64
MOST_PROCESSES: Final = 100_000
LEAST_SECONDS: Final = 0.5
_MEMORY_SECONDS: Final = 3.0
"""What filling a usual amount of memory takes under emulation."""


def _long_enough(seconds: float) -> float:
    if seconds < LEAST_SECONDS:
        raise ValueError("at least 500ms: quotas are given out in periods of a tenth of a second")
    return seconds


class LimitsSettings(ProcedureSettings):
    """Options of limits."""

    duration: Annotated[Duration, AfterValidator(_long_enough)] = 2.0
    """Seconds for which workers want more processors than they may have."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """One launch, and each limit in turn."""
        return launch + self.duration + _MEMORY_SECONDS


def measure_limits(bench: Bench) -> None:
    """Each limit of the workload in turn, in one instance."""
    options = bench.options(LimitsSettings)
    instance = worker(bench.launch(), bench.target.name)
    resources = bench.workload.resources
    attempts: tuple[tuple[Metric, Callable[[], list[Reading]]], ...] = (
        (METRICS[0], lambda: _processors(instance, resources, options.duration)),
        (METRICS[3], lambda: _memory(instance, resources)),
        (METRICS[6], lambda: _processes(instance, resources)),
    )
    for metric, attempt in attempts:
        try:
            if instance.qualifiers.get("limits") == "none":
                raise InstanceError("no limits are applied to this target")
            bench.record(*attempt())
        except InstanceError as error:
            if instance.ended:
                raise
            bench.record(failed(metric.name, metric.unit, error.message))


def _limited(limit: float | None, key: str) -> float:
    if limit is None:
        raise InstanceError("the workload has no such limit", f"give it one: resources.{key}")
    return limit


def _processors(instance: Worker, resources: Resources, seconds: float) -> list[Reading]:
    """One worker more than processors that they may have."""
    limit = _limited(resources.cpus, "cpus")
    workers = min(math.ceil(limit) + 1, MOST_WORKERS)
    command = (
        PROGRAM,
        "limit.processor",
        "--limit",
        str(workers),
        "--milliseconds",
        str(round(seconds * 1000)),
    )
    before = _processor_time(instance)
    done = instance.execute(command, FACTOR * seconds + PATIENCE)
    used = _processor_time(instance) - before
    tried = parse_printed(ProcessorTried, "limit.processor", done.status, done.stdout, done.stderr)
    span = host_span(tried.kind, done)
    disagreement, doubt = check_clocks(tried.span, span)
    share = used / (span / 1e9)
    inside = tried.used / span

    def reading(metric: str, value: float, channel: str) -> Reading:
        return Reading(metric, "", value, channel, value * disagreement, doubt=doubt)

    return [
        reading("limits.cpu", share, "host-account"),
        reading("limits.cpu.share", share / limit, "host-account"),
        reading("limits.cpu.inside", inside, done.channel),
    ]


def _processor_time(instance: Worker) -> float:
    seconds = instance.processor_time if isinstance(instance, HasAccount) else None
    if seconds is None:
        raise InstanceError("this host does not count the instance's processor time")
    return seconds


def _memory(instance: Worker, resources: Resources) -> list[Reading]:
    """A child takes half as much again as is allowed."""
    limit = _limited(resources.memory, "memory")
    wanted = round(MARGIN * limit)
    if wanted > LARGEST_MEMORY * psutil.virtual_memory().available:
        raise InstanceError("the host has too little memory free to try a limit of this size")
    kills, kills_inside = _host_kills(), _kills_inside(instance)
    command = (PROGRAM, "limit.memory", "--limit", str(wanted))
    tried = _tried(instance, "limit.memory", command)
    outside = (_host_kills() - kills) - (_kills_inside(instance) - kills_inside)
    ending = {"ending": tried.ending}
    return [
        Reading("limits.memory", "B", float(tried.reached), "counted-inside", 0.0, qualifiers=ending),
        Reading("limits.memory.share", "", tried.reached / limit, "counted-inside", 0.0, qualifiers=ending),
        Reading("limits.memory.outside", "", float(outside), "vmstat", 0.0),
    ]


def _host_kills() -> int:
    """How many processes the host's kernel has killed for want of memory, in groups or at all."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    raise InstanceError("the host does not count the processes that it kills for want of memory")


def _kills_inside(instance: Worker) -> int:
    return instance.memory_kills if isinstance(instance, HasAccount) else 0


def _processes(instance: Worker, resources: Resources) -> list[Reading]:
    """Half as many again as are allowed."""
    limit = _limited(resources.pids, "pids")
    wanted = round(MARGIN * limit)
    if wanted > MOST_PROCESSES:
        raise InstanceError(f"more than {MOST_PROCESSES} processes are not tried")
    command = (PROGRAM, "limit.processes", "--limit", str(wanted))
    tried = _tried(instance, "limit.processes", command)
    ending = {"ending": tried.ending}
    return [
        Reading("limits.processes", "", float(tried.reached), "counted-inside", 0.0, qualifiers=ending),
        Reading(
            "limits.processes.share", "", tried.reached / limit, "counted-inside", 0.0, qualifiers=ending
        ),
    ]


def _tried(instance: Worker, kind: str, command: tuple[str, ...]) -> LimitTried:
    done = instance.execute(command, PATIENCE)
    return parse_printed(LimitTried, kind, done.status, done.stdout, done.stderr)
