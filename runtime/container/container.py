"""One running container of the harness: what it costs, what can be done to it, and its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pybench.runtime.container import leftovers
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.readings import KernelMemory
from pybench.runtime.container.instance import CLOCK_RESOLUTION, Instance
from pybench.runtime.container.interactive import Completed
from pybench.runtime.container.network.pool import Lease
from pybench.runtime.errors import HostError, InstanceError, LeftoverError, PybenchError
from pybench.runtime.marks import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How a command is run in a running container."""

    given: bytes = b""
    """Its standard input."""
    environment: Mapping[str, str] | None = None
    """All of it; None: the container's."""
    timeout: float = 60.0
    """Seconds, after which it is killed."""
    maximum: int = 1 << 20
    """Bytes kept of its output, and as many of its errors."""


NO_REQUEST = Request()


class Container:
    """One running container."""

    def __init__(
        self,
        started: Instance,
        group: Group | None,
        network: Lease | None,
        resources: contextlib.ExitStack,
        join: Callable[[int, Group | None, Sequence[str], Request], Completed],
    ) -> None:
        self._instance = started
        self._join = join
        self.network = network
        """Its interface and address, or None where it has loopback alone."""
        self.group = group
        """Its control group, or None where none can be made."""
        self._resources = resources
        self._paused = False
        self._out_of_memory_kills = 0
        """The count at its end."""

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have something done once it is gone."""
        self._resources.callback(callback)

    @property
    def pid(self) -> int:
        """The host's pid of the container's first process."""
        return self._instance.pid

    @property
    def marks(self) -> tuple[Mark, ...]:
        """From `preparing` and `request` to `ready`, and to `stopped` once it is."""
        return tuple(self._instance.marks)

    @property
    def processes(self) -> tuple[int, ...]:
        """Host pids of everything inside."""
        if self._instance.status is not None:
            return ()
        return self.group.processes() if self.group else leftovers.descendants(self.pid)

    @property
    def memory_charged(self) -> int | None:
        """Bytes charged to its control group, or None where there is none."""
        return self.group.memory_charged() if self.group else None

    @property
    def kernel_memory(self) -> KernelMemory | None:
        """What the kernel keeps for it and charges to its control group; None where that is not counted."""
        return self.group.kernel_memory() if self.group else None

    @property
    def out_of_memory_kills(self) -> int:
        """How many of its processes its memory limit has killed, also once it is gone."""
        if self.group and self._instance.pidfd >= 0:
            return self.group.out_of_memory_kills()
        return self._out_of_memory_kills

    @property
    def status(self) -> int | None:
        """Exit code of its first process, or minus the signal; None while it runs."""
        return self._instance.status

    @property
    def output(self) -> str:
        """The last of what it printed, escaped."""
        return self._instance.tail.text

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of its first process; false if that still runs after `timeout` seconds."""
        return self._instance.wait(timeout)

    def execute(self, command: Sequence[str], request: Request = NO_REQUEST) -> Completed:
        """Run another command in it, confined as the first one is, and wait for its end.

        Raises:
            InstanceError: it could not be started, or did not end in time.
        """
        if self._instance.status is not None:
            raise InstanceError("the container has ended")
        return self._join(self.pid, self.group, command, request)

    def pause(self) -> None:
        """Stop every process inside.

        Raises:
            HostError: it has no control group, or this host cannot.
        """
        if self.group is None:
            raise HostError("a container without a control group cannot be paused")
        # In the spawning thread, which is in the group while it starts something, and would freeze with it.
        self._instance.spawner.call(self.group.freeze)
        self._paused = True

    def resume(self) -> None:
        """Let it go on. Idempotent."""
        if self.group is not None and self._paused:
            self.group.thaw()
            self._paused = False

    def send_signal(self, number: int) -> None:
        """Signal its first process."""
        self._instance.send_signal(number)

    def stop(self, timeout: float) -> None:
        """End it: SIGTERM, `timeout` seconds of grace, SIGKILL; then remove its group. Idempotent.

        One that is paused goes on for that, since a frozen process takes no signal.

        Raises:
            LeftoverError: something survived.
        """
        if self._instance.pidfd < 0:
            return
        self._instance.take_output()
        marks = self._instance.marks
        marks.append(Mark("stopping", time.monotonic_ns(), "call", CLOCK_RESOLUTION))
        try:
            # Also where its end fails: the group's own kill may still succeed.
            with self._resources:
                self.resume()
                self._instance.end(timeout)
                self._out_of_memory_kills = self.out_of_memory_kills
        except (PybenchError, OSError) as error:
            raise LeftoverError(f"container {self.pid} could not be removed: {error}") from error
        finally:
            self._instance.release()
        marks.append(Mark("stopped", time.monotonic_ns(), "call", CLOCK_RESOLUTION))
