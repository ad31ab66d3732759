"""The bare process: the positive control. It inherits everything, as a child does that nobody confines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.place import READ_ONLY, WRITABLE
from pybench.harness.audit.payload import beacon
from pybench.harness.audit.subjects.base import BEACON, PYTHON, VARIABLE, Ports, read_ports
from pybench.harness.audit.subjects.limits import join, limits_for, safety_group
from pybench.harness.errors import InstanceError, LeftoverError
from pybench.runtime.container.leftovers import start_ticks

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.vm_images import Image

_QUALIFIERS: Final = {"isolation": "none", "limits": "none"}
_KILL_SECONDS: Final = 10.0


class ProcessSubject:
    """A Python of the host's."""

    kind: Kind = "process"
    own_kernel = False
    shared = True
    address = "127.0.0.1"
    qualifiers: Mapping[str, str] = _QUALIFIERS

    def __init__(self, planting: Planting, image: Image, removal: ExitStack) -> None:
        self.token = planting.tokens.make()
        volumes = planting.place.volumes
        self.limits = limits_for(image)
        self.group = removal.enter_context(safety_group(planting))
        self.volumes = {name: str(volumes / name) for name in (READ_ONLY, WRITABLE)}
        self._first = subprocess.Popen(
            [sys.executable, "-I", "-c", beacon(), self.token],
            env={**os.environ, VARIABLE: self.token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        removal.callback(_end, self._first)
        number = planting.journal.record(
            "session", session=self._first.pid, started=start_ticks(self._first.pid) or 0
        )
        removal.callback(planting.journal.forget, number)
        self.ports = self._await_beacon()

    @property
    def pid(self) -> int | None:
        """Of its first process."""
        return self._first.pid if self._first.poll() is None else None

    @property
    def processes(self) -> tuple[int, ...]:
        """Its first process."""
        return (self._first.pid,) if self._first.poll() is None else ()

    def run(self, interpreter: Sequence[str], script: bytes, timeout: float, maximum: int) -> bytes:
        """Run a script with everything that a child of the harness inherits; Python is the harness's own.

        Raises:
            InstanceError: it did not end in time.
        """
        process = subprocess.Popen(
            [sys.executable if word == PYTHON else word for word in interpreter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            start_new_session=True,
        )
        with process:
            try:
                if self.group is not None:
                    # It waits for its script until then.
                    join(self.group, process.pid)
                return process.communicate(script, timeout)[0][:maximum]
            except subprocess.TimeoutExpired as error:
                raise InstanceError(f"the payload did not end within {timeout:g} s") from error
            finally:
                process.kill()

    def _await_beacon(self) -> Ports:
        assert self._first.stdout is not None, "it is a pipe"  # noqa: S101
        line = self._first.stdout.readline(256).decode(errors="replace")
        ports = read_ports(line)
        if ports is None:
            raise InstanceError(f"the first process of the bare target said {line!r}, not {BEACON!r}")
        return ports


class ProcessMaker:
    """Makes bare processes."""

    label = "process"
    kind: Kind = "process"

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[ProcessSubject]]:
        """Start instances on demand."""

        def start() -> Iterator[ProcessSubject]:
            while True:
                yield ProcessSubject(planting, image, removal)

        with ExitStack() as removal:
            yield start()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.wait(_KILL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise LeftoverError(f"the bare process {process.pid} survived SIGKILL") from error
    finally:
        if process.stdout is not None:
            process.stdout.close()
