"""What the audit needs of an instance, whatever its target; another target is audited by providing this."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.targets.commands import check_command

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.runtime.container.cgroup.base import Group, Limits
    from pybench.vm_images import Image

PYTHON: Final = "/usr/bin/python3"
PYTHON_SCRIPT: Final = (PYTHON, "-I", "-")
SHELL_SCRIPT: Final = ("/bin/sh", "-s")
"""How a script is run that comes through standard input."""
VARIABLE: Final = "PYBENCH_BEACON"
BEACON: Final = "beacon"
"""What the line of an instance's first process begins with."""
READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 3.0
ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
IDLE: Final = ("/bin/sh", "-c", f"echo {BEACON}; exec sleep 2147483647")
"""The first process where there is no Python."""
VOLUMES: Final = "/run/pybench-audit"
"""Where the volumes are inside, under their names."""


class NoPythonError(InstanceError):
    """The payload cannot run: there is no Python inside."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where an instance's first process listens, inside."""

    tcp: int
    udp: int


class Subject(Protocol):
    """One running instance that is audited."""

    @property
    def kind(self) -> Kind:
        """The class of its target."""
        ...

    @property
    def own_kernel(self) -> bool:
        """What answers its system calls is not the host's kernel."""
        ...

    @property
    def shared(self) -> bool:
        """It has the host's namespaces: what mutates has to make its own first."""
        ...

    @property
    def token(self) -> str:
        """In the command line and environment of its first process, and its answer on its ports."""
        ...

    @property
    def pid(self) -> int | None:
        """The host's number of its first process, or of its monitor; None if it ended."""
        ...

    @property
    def processes(self) -> tuple[int, ...]:
        """Host pids of everything it consists of."""
        ...

    @property
    def group(self) -> Group | None:
        """Its control group, where it has one of its own."""
        ...

    @property
    def limits(self) -> Limits:
        """What it was promised at most; for the bare process, what others are promised."""
        ...

    @property
    def ports(self) -> Ports | None:
        """Where its first process listens; None where there is no Python to listen."""
        ...

    @property
    def address(self) -> str | None:
        """Where others might reach it over a network; None if it has none but loopback."""
        ...

    @property
    def volumes(self) -> Mapping[str, str]:
        """Volume → its path inside; nothing where it can have none."""
        ...

    @property
    def qualifiers(self) -> Mapping[str, str]:
        """What must be said beside its verdicts."""
        ...

    def run(self, interpreter: Sequence[str], script: bytes, timeout: float, maximum: int) -> bytes:
        """Run a script, as much as the instance's own root may.

        Args:
            interpreter: `PYTHON_SCRIPT` where there is a Python (`ports` tells), else `SHELL_SCRIPT`.
            script: its text.
            timeout: seconds after which it is killed.
            maximum: bytes of its output that are kept.

        Returns:
            What it printed; hostile.

        Raises:
            InstanceError: it did not end in time, or the instance is gone.
        """
        ...


class SubjectMaker(Protocol):
    """A target under audit: makes instances that live until it is left; a context manager."""

    @property
    def label(self) -> str:
        """By which results call it, such as `container-strict`."""
        ...

    @property
    def kind(self) -> Kind:
        """Its class."""
        ...

    def opened(self, planting: Planting, image: Image) -> AbstractContextManager[Iterator[Subject]]:
        """Start instances on demand, one for each `next`; on leaving, all are stopped, and that is verified.

        Raises:
            HostError: this host cannot run it.
            InstanceError: one did not start.
        """
        ...


def read_ports(output: str) -> Ports | None:
    """The ports in the line of an instance's first process; None if there is no such line."""
    found = re.search(rf"^{BEACON} tcp=(\d{{1,5}}) udp=(\d{{1,5}})$", output, flags=re.MULTILINE)
    return Ports(int(found[1]), int(found[2])) if found else None


def has_python(image: Image) -> bool:
    """Whether the payload can run in an image."""
    try:
        check_command(image.rootfs, (PYTHON,))
    except InputError:
        return False
    return True
