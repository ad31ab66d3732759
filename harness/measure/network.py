"""Network: latency and throughput of TCP inside an instance, between it and the host, and between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Duration, Port
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading
from pybench.harness.measure.program import PROGRAM
from pybench.harness.measure.work import Timed, Worker, do_work, failed, long_enough, worker
from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets.base import HasAddress

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.targets.base import Target

Path = Literal["inside", "host", "between"]
PATHS: Final[tuple[Path, ...]] = get_args(Path)
PROCESS: Final = "process"
"""The kind of target from which the host asks."""
SHARED: Final = frozenset({PROCESS, "chroot"})
"""Kinds whose instances have the host's own network."""

METRICS: Final = (
    Metric("network.latency.inside", "s", "a byte there and back over the instance's loopback (median)"),
    Metric("network.latency.host", "s", "a byte from the host to the instance and back (median)"),
    Metric("network.latency.between", "s", "a byte from one instance to another and back (median)"),
    Metric("network.latency.<path>.p99", "s", "99th percentile of such round trips"),
    Metric("network.throughput.inside", "B/s", "bytes over the instance's loopback"),
    Metric("network.throughput.to", "B/s", "bytes from the host to the instance"),
    Metric("network.throughput.from", "B/s", "bytes from the instance to the host"),
    Metric("network.throughput.between", "B/s", "bytes from one instance to another"),
)
STREAMS: Final[Mapping[Path, tuple[tuple[str, str], ...]]] = {
    "inside": (("network.throughput.inside", "network.send"),),
    "host": (("network.throughput.to", "network.send"), ("network.throughput.from", "network.receive")),
    "between": (("network.throughput.between", "network.send"),),
}
"""Path → metrics, each with the kind of work that the client does for it."""
_OVERHEAD: Final = 0.5
_WARMING: Final = 1.25
_WORKS: Final = 7
_LAUNCHES: Final = 2


def _distinct(paths: list[Path]) -> list[Path]:
    if len(set(paths)) != len(paths):
        raise ValueError("a path is named twice")
    return paths


class NetworkSettings(ProcedureSettings):
    """Options of network."""

    paths: Annotated[list[Path], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default_factory=lambda: list(PATHS)
    )
    """`inside`: its loopback; `host`: between host and instance; `between`: from one instance to another."""
    duration: Annotated[Duration, AfterValidator(long_enough)] = 0.5
    """Seconds that are measured of each figure; warming up takes a quarter more."""
    port: Port = 5201
    """At which the instance listens."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """Two launches, and each kind of work on each path."""
        return _LAUNCHES * launch + _WORKS * (_WARMING * self.duration + _OVERHEAD)


def measure_network(bench: Bench) -> None:
    """One instance serves; the host, the instance itself and a second one are its clients in turn."""
    options = bench.options(NetworkSettings)
    own = bench.target
    is_shared = own.kind in SHARED
    serving = _serving(bench.workload, options.port, local=is_shared)
    target = own if is_shared else dataclasses.replace(own, options={**own.options, **_siblings(own)})
    opened = bench.open(serving, target)
    server = worker(bench.launch(opened), own.name)
    for path in options.paths:
        client = None
        for metric, unit, kind in _figures(path):
            try:
                address = _address(server, path)
                client = client or _client(bench, path, server, opened, is_shared=is_shared)
                place = (address, options.port) if address else None
                timed = do_work(client, kind, options.duration, server=place)
                bench.record(*(_said(each, server) for each in _readings(timed, metric, unit)))
            except InstanceError as error:
                if server.ended:
                    raise
                bench.record(_said(failed(metric, unit, error.message), server))


def _serving(workload: Workload, port: int, *, local: bool) -> Workload:
    """The same workload, with our own server as its program."""
    command = [PROGRAM, "serve", "--port", str(port)]
    if local:
        # On the host's own interfaces nobody else is to be answered.
        command += ["--address", "127.0.0.1"]
    return dataclasses.replace(
        workload, command=tuple(command), readiness=Readiness("line", "listening"), ports=(), files=()
    )


def _siblings(target: TargetChoice) -> dict[str, bool]:
    return {"siblings": True} if target.options.get("network") == "bridge" else {}


def _figures(path: Path) -> list[tuple[str, str, str]]:
    """Metric, unit and kind of work."""
    latency = [(f"network.latency.{path}", "s", "network.latency")]
    return latency + [(metric, "B/s", kind) for metric, kind in STREAMS[path]]


def _address(server: Worker, path: Path) -> str:
    """Where the server is for a client on this path; empty where the client is to have one of its own."""
    if path == "inside":
        return ""
    address = server.address if isinstance(server, HasAddress) else ""
    if not address:
        raise InstanceError("the instance has no address", "give the target `network: bridge`")
    return address


def _client(bench: Bench, path: Path, server: Worker, opened: Target, *, is_shared: bool) -> Worker:
    """Who asks on this path."""
    if path == "inside":
        return server
    if path == "between" and not is_shared:
        return worker(bench.launch(opened), bench.target.name)
    host = bench.open(target=TargetChoice(PROCESS, PROCESS, 1))
    return worker(bench.launch(host), PROCESS)


def _readings(timed: Timed, metric: str, unit: str) -> list[Reading]:
    latency = timed.work.latency
    if latency is None:
        return [timed.rate(metric, unit)]
    return [timed.latency(metric, latency.p50), timed.latency(f"{metric}.p99", latency.p99)]


def _said(reading: Reading, server: Worker) -> Reading:
    """With what must be said of the instance, which is not one of the step's own target."""
    return dataclasses.replace(reading, qualifiers={**server.qualifiers, **reading.qualifiers})
