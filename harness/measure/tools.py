"""Tools: the throughput that standard tools find in an instance of the image `bench`, to check our own by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import DiskSize, MemorySize, Port
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading
from pybench.harness.measure.standard_tools import LONGEST_OUTPUT, TOOLS, Place, Tool
from pybench.harness.measure.work import FACTOR, PATIENCE, Worker, disk_of, failed, worker
from pybench.harness.targets.base import COMMAND_ENVIRONMENT, Completed
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench

METRICS: Final = tuple(
    Metric(f"tools.{tool.name}", tool.unit, f"what {tool.name.partition('.')[0]} itself tells")
    for tool in TOOLS
)
NAMES: Final = frozenset(tool.name for tool in TOOLS)
SERVED: Final = """\
"$1" --server --one-off --bind 127.0.0.1 --port "$2" >/dev/null 2>&1 &
shift 2
tries=0
until "$@" >"$TMPDIR/result" 2>&1 && grep -q sum_received "$TMPDIR/result"; do
    tries=$((tries + 1))
    if [ "$tries" -eq 100 ]; then
        cat "$TMPDIR/result" >&2
        exit 1
    fi
    sleep 0.1
done
cat "$TMPDIR/result"
rm -f "$TMPDIR/result"
"""
"""Run by the image's shell: a server for one client, which is asked until it answers."""
_ERROR_TEXT: Final = 300
_OVERHEAD: Final = 1.5
"""Seconds that a tool takes beside its own time, on the reference host under emulation."""


def _known(names: list[str]) -> list[str]:
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"no tool is called {unknown[0]!r}; known are {', '.join(sorted(NAMES))}")
    if len(set(names)) != len(names):
        raise ValueError("a tool is named twice")
    return names


class ToolsSettings(ProcedureSettings):
    """Options of tools."""

    tools: Annotated[list[str], Field(min_length=1), AfterValidator(_known)] | None = None
    """By default all."""
    seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 1
    """That each works; whole ones, since some take no others."""
    buffer: MemorySize = 64 << 20
    """Bytes of memory that sysbench goes through."""
    file: DiskSize = 64 << 20
    """Bytes of fio's file; it must fit on the workload's disk."""
    port: Port = 5201
    """Where iperf3 listens, inside."""

    def size(self, tool: Tool) -> int:
        """Bytes that a tool works on."""
        return self.file if tool.needs_disk else self.buffer

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """One launch, and each tool in turn."""
        return launch + len(self.tools or NAMES) * (self.seconds + _OVERHEAD)


def measure_tools(bench: Bench) -> None:
    """Each tool in turn, in one instance."""
    options = bench.options(ToolsSettings)
    instance = worker(bench.launch(), bench.target.name)
    for tool in TOOLS:
        if options.tools is None or tool.name in options.tools:
            bench.record(_reading(instance, tool, options))


def _reading(instance: Worker, tool: Tool, options: ToolsSettings) -> Reading:
    metric = f"tools.{tool.name}"
    disk = disk_of(instance)
    try:
        if tool.needs_disk and not disk:
            raise InstanceError("the workload has no disk: give it one, such as `disk: 128MiB`")
        place = Place(options.seconds, options.size(tool), disk, ("127.0.0.1", options.port))
        done = _run(instance, tool, place)
        if done.status != 0:
            said = printable((done.stderr or done.stdout)[-_ERROR_TEXT:]).strip()
            raise InstanceError(f"{tool.program} failed with status {done.status}: {said}")
        value = tool.parse(done.stdout)
    except InstanceError as error:
        if instance.ended:
            raise
        return failed(metric, tool.unit, error.message)
    # By the tool's own clock, which is why these check our figures and do not replace them.
    return Reading(metric, tool.unit, value, "program-clock", 0.0)


def _run(instance: Worker, tool: Tool, place: Place) -> Completed:
    command = (tool.program, *tool.arguments(place))
    if tool.needs_server:
        command = ("/bin/sh", "-c", SERVED, "sh", tool.program, str(place.server[1]), *command)
    environment = {**COMMAND_ENVIRONMENT, "TMPDIR": place.directory or "/tmp"}  # noqa: S108 - inside
    return instance.execute(
        command, FACTOR * place.seconds + PATIENCE, environment=environment, output_limit=LONGEST_OUTPUT
    )
