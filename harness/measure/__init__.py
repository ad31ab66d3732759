"""The registry of measurements: what each is called, what it reads or conducts, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pybench.harness.measure.base import Measurement, Metric, Reading
from pybench.harness.measure.coexistence import CoexistenceSettings, measure_coexistence
from pybench.harness.measure.density import DensitySettings, measure_density
from pybench.harness.measure.interference import METRICS as INTERFERENCE_METRICS
from pybench.harness.measure.interference import InterferenceSettings, measure_interference
from pybench.harness.measure.isolation import METRICS as ISOLATION_METRICS
from pybench.harness.measure.isolation import IsolationSettings, measure_isolation
from pybench.harness.measure.layers import LayersSettings, measure_layers
from pybench.harness.measure.limits import METRICS as LIMITS_METRICS
from pybench.harness.measure.limits import LimitsSettings, measure_limits
from pybench.harness.measure.memory import read_memory
from pybench.harness.measure.network import METRICS as NETWORK_METRICS
from pybench.harness.measure.network import NetworkSettings, measure_network
from pybench.harness.measure.ports import PortsSettings, measure_ports
from pybench.harness.measure.rate import RateSettings, measure_rate
from pybench.harness.measure.restart import RestartSettings, measure_restart
from pybench.harness.measure.settled_memory import read_settled_memory
from pybench.harness.measure.startup import read_startup
from pybench.harness.measure.teardown import read_teardown
from pybench.harness.measure.throughput import METRICS as THROUGHPUT_METRICS
from pybench.harness.measure.throughput import ThroughputSettings, measure_throughput
from pybench.harness.measure.tools import METRICS as TOOLS_METRICS
from pybench.harness.measure.tools import ToolsSettings, measure_tools

__all__ = ["MEASUREMENTS", "Measurement", "Metric", "Reading", "measurement_of", "metric_of"]

MEASUREMENTS: Final[dict[str, Measurement]] = {
    measurement.name: measurement
    for measurement in (
        Measurement(
            name="startup",
            description="request to first instruction and to readiness, and the phases in between",
            metrics=(
                Metric("startup.ready", "s", "request until the workload is ready, at its declared level"),
                Metric("startup.exec", "s", "request until the workload's first instruction, if it marks it"),
                Metric("startup.ahead", "s", "work for this one instance ahead of the request"),
                Metric("startup.phase.<mark>", "s", "the part of a start that ends with this mark"),
            ),
            at_ready=read_startup,
        ),
        Measurement(
            name="teardown",
            description="request to stop until nothing of the instance is left",
            metrics=(Metric("teardown", "s", "request to stop until nothing of the instance is left"),),
            at_stopped=read_teardown,
        ),
        Measurement(
            name="restart",
            description="an instance is stopped and started again",
            metrics=(Metric("restart", "s", "request to stop until another of the workload is ready"),),
            procedure=measure_restart,
            settings=RestartSettings,
        ),
        Measurement(
            name="isolation",
            description="what leaks through the isolation of a target, as `pybench audit` finds out",
            metrics=ISOLATION_METRICS,
            procedure=measure_isolation,
            settings=IsolationSettings,
        ),
        Measurement(
            name="memory",
            description="what the instance costs the host at the moment it is ready, and what a guest uses",
            metrics=(
                Metric("memory.host.pss", "B", "proportional set size of the instance's processes, at ready"),
                Metric("memory.host.rss", "B", "resident set size, a shared page counted in each process"),
                Metric("memory.host.uss", "B", "pages that one of its processes alone has"),
                Metric("memory.host.mapped", "B", "address space of its processes, touched or not"),
                Metric("memory.host.cgroup", "B", "what its own control group is charged, at ready"),
                Metric("memory.kernel.tables", "B", "page tables of the instance's processes"),
                Metric("memory.kernel.stacks", "B", "the kernel's stacks of their threads"),
                Metric("memory.kernel.charged", "B", "all that the kernel keeps and charges to its group"),
                Metric("memory.kernel.slab", "B", "the slabs in that, where version 2 counts them"),
                Metric("memory.host.guest", "B", "of a guest's memory what is resident on the host"),
                Metric("memory.host.merged", "B", "pages of a guest that KSM has merged with others"),
                Metric("memory.vmm", "B", "private pages of the monitor beside the guest's memory"),
                Metric("memory.vmm.files", "B", "the part of them that is unchanged pages of files"),
                Metric("memory.vmm.code", "B", "the part of them that is code which TCG translated"),
                Metric("memory.guest.total", "B", "what the guest's kernel has to give out"),
                Metric("memory.guest.used", "B", "what of it could not be given out at once"),
                Metric("memory.guest.kernel", "B", "what the guest's kernel keeps for itself"),
            ),
            at_ready=read_memory,
        ),
        Measurement(
            name="density",
            description="a ramp: instances are added while all of them stay alive",
            metrics=(
                Metric("density.instances", "", "how many were alive at once when the ramp ended"),
                Metric("density.start", "s", "start of one, with the instances before it alive"),
                Metric(
                    "density.start.each", "s", "by how much each further instance prolongs the next start"
                ),
                Metric("density.start.each.low", "s", "the lower end of the 95 % interval of that"),
                Metric("density.start.each.high", "s", "the upper end"),
                Metric("density.start.fit", "", "R²: how much of the spread the line explains"),
                Metric("density.memory", "B", "what all instances that are alive take of the host, settled"),
                Metric("density.memory.each", "B", "what each further instance takes"),
                Metric("density.memory.each.low", "B", "the lower end of the 95 % interval of that"),
                Metric("density.memory.each.high", "B", "the upper end"),
                Metric("density.memory.fit", "", "R²: how much of the spread the line explains"),
                Metric("density.host", "B", "by how much less is available on the whole host"),
                Metric("density.predicted.memory", "", "instances for which this host has memory"),
                Metric("density.predicted.memory.low", "", "the same with the upper end of the interval"),
                Metric("density.predicted.memory.high", "", "the same with the lower end"),
                Metric("density.predicted.start", "", "instances up to which a start keeps to its limit"),
                Metric("density.predicted.start.low", "", "the same with the upper end of the interval"),
                Metric("density.predicted.start.high", "", "the same with the lower end"),
            ),
            parameters=frozenset({"instances"}),
            procedure=measure_density,
            settings=DensitySettings,
        ),
        Measurement(
            name="rate",
            description="starts per second, one after another and several at a time",
            metrics=(
                Metric("rate.best", "1/s", "the highest rate of all levels"),
                Metric("rate.cycles", "1/s", "starts with their teardowns, at one level of concurrency"),
                Metric("rate.start", "s", "request until ready, with that many starts under way at once"),
                Metric("rate.start.p50", "s", "what half of these starts take at most"),
                Metric("rate.start.p90", "s", "what 90 % take at most; from 10 starts on"),
                Metric("rate.start.p95", "s", "what 95 % take at most; from 20 starts on"),
                Metric("rate.start.p99", "s", "what 99 % take at most; from 100 starts on"),
                Metric("rate.start.p99.9", "s", "what 99.9 % take at most; from 1000 starts on"),
            ),
            parameters=frozenset({"concurrency"}),
            procedure=measure_rate,
            settings=RateSettings,
        ),
        Measurement(
            name="interference",
            description="how long small requests take beside neighbours under load",
            metrics=INTERFERENCE_METRICS,
            procedure=measure_interference,
            settings=InterferenceSettings,
        ),
        Measurement(
            name="settled-memory",
            description="what the instance costs the host once its memory has come to rest",
            metrics=(
                Metric("memory.settled.pss", "B", "proportional set size, once readings in a row agree"),
                Metric("memory.settled.uss", "B", "pages that one of its processes alone has, then"),
                Metric("memory.settled.cgroup", "B", "what its own control group is charged, then"),
                Metric("memory.settled.kernel", "B", "the part of that which the kernel keeps for itself"),
                Metric("memory.settled.guest", "B", "what a guest says that it uses, then"),
            ),
            at_ready=read_settled_memory,
        ),
        Measurement(
            name="throughput",
            description="how much an instance gets done: processor, memory, system calls, switches, files",
            metrics=THROUGHPUT_METRICS,
            procedure=measure_throughput,
            settings=ThroughputSettings,
        ),
        Measurement(
            name="tools",
            description="what fio, sysbench and iperf3 tell, to check throughput by; in the image bench",
            metrics=TOOLS_METRICS,
            procedure=measure_tools,
            settings=ToolsSettings,
        ),
        Measurement(
            name="network",
            description="latency and throughput of TCP: inside, between host and instance, between instances",
            metrics=NETWORK_METRICS,
            procedure=measure_network,
            settings=NetworkSettings,
        ),
        Measurement(
            name="limits",
            description="how exactly limits of processors, memory and processes hold, as the host counts",
            metrics=LIMITS_METRICS,
            procedure=measure_limits,
            settings=LimitsSettings,
        ),
        Measurement(
            name="ports",
            description="many instances of a server at once, all on the same port",
            metrics=(
                Metric(
                    "ports.answering", "", "instances that answered, all at once, each at its own address"
                ),
                Metric("ports.conflicts", "", "instances whose port an earlier one had"),
                Metric("ports.asked", "", "instances that were to be started"),
            ),
            procedure=measure_ports,
            settings=PortsSettings,
        ),
        Measurement(
            name="coexistence",
            description="one instance of each of several images at once, and what each says of itself",
            metrics=(
                Metric("coexistence.alive", "", "instances of unlike images that were alive together"),
                Metric("coexistence.different", "", "how many different answers they gave"),
                Metric("coexistence.host.changes", "", "files of the host that were different afterwards"),
            ),
            procedure=measure_coexistence,
            settings=CoexistenceSettings,
        ),
        Measurement(
            name="layers",
            description="disk and page cache of many instances of one image, together",
            metrics=(
                Metric("layers.cache", "B", "what host and guests keep in memory of the image's files"),
                Metric("layers.cache.copies", "B", "the same if each instance had files of its own"),
                Metric("layers.cache.guests", "B", "the part of it that is in the guests' own memory"),
                Metric("layers.disk", "B", "disk that the files take which the instances run from"),
                Metric("layers.disk.copies", "B", "the same if each instance had files of its own"),
            ),
            procedure=measure_layers,
            settings=LayersSettings,
        ),
    )
}


def measurement_of(metric: str) -> Measurement | None:
    """The measurement that a metric comes from; None if there is none today."""
    for measurement in MEASUREMENTS.values():
        if any(each.covers(metric) for each in measurement.metrics):
            return measurement
    return None


def metric_of(name: str, measurements: Iterable[str]) -> Metric | None:
    """The metric that a dotted name belongs to, among those of some measurements; None if none has it."""
    metrics = (metric for measurement in measurements for metric in MEASUREMENTS[measurement].metrics)
    return next((metric for metric in metrics if metric.covers(name)), None)
