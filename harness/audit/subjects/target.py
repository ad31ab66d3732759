"""An instance of any target that runs commands, as a scenario's workload would run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.payload import beacon
from pybench.harness.audit.subjects.base import (
    BEACON,
    ENVIRONMENT,
    IDLE,
    PYTHON,
    READY_SECONDS,
    VARIABLE,
    Ports,
    has_python,
    read_ports,
)
from pybench.harness.errors import HostError
from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import HasCommands, Instance, Target
from pybench.runtime.container.cgroup.base import Limits

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.vm_images import Image

_NO_VOLUMES: Final[Mapping[str, str]] = {}


class TargetSubject:
    """One such instance."""

    own_kernel = False
    group = None
    limits = Limits()
    volumes = _NO_VOLUMES

    def __init__(self, instance: Instance, token: str, maker: TargetMaker) -> None:
        self._instance = instance
        self.token = token
        self.kind: Kind = maker.kind
        self.shared = maker.shared
        self.address = maker.address
        self.qualifiers = instance.qualifiers
        self.ports: Ports | None = read_ports(instance.output)

    @property
    def pid(self) -> int | None:
        """Of its first process."""
        return next(iter(self._instance.processes), None)

    @property
    def processes(self) -> tuple[int, ...]:
        """All of its processes."""
        return self._instance.processes

    def run(self, interpreter: Sequence[str], script: bytes, timeout: float, maximum: int) -> bytes:
        """Run a script as a further command of the instance.

        Raises:
            InstanceError: it did not end in time, printed too much, or the instance is gone.
        """
        assert isinstance(self._instance, HasCommands), "its maker has checked that"  # noqa: S101
        done = self._instance.execute(
            interpreter, timeout, stdin=script, environment=ENVIRONMENT, output_limit=maximum
        )
        return done.stdout


class TargetMaker:
    """Makes instances of a kind of target.

    Args:
        name: of the kind of target, and its label.
        kind: the class that is expected of it.
        shared: it has the host's namespaces.
        address: where its instances might be reached.
    """

    def __init__(self, name: str, kind: Kind, *, shared: bool, address: str | None = None) -> None:
        self.label = name
        self.kind: Kind = kind
        self.shared = shared
        self.address = address

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[TargetSubject]]:
        """Start instances on demand, each on a target object of its own.

        Raises:
            HostError: this host cannot run it, or its instances run no commands.
        """

        def start() -> Iterator[TargetSubject]:
            while True:
                target = open_target(
                    TargetChoice(self.label, self.label, 1), TargetContext(planting.journal, Path(scratch))
                )
                removal.callback(target.cleanup)
                yield self._start(target, planting, image, removal)

        with ExitStack() as removal:
            scratch = removal.enter_context(TemporaryDirectory(prefix="pybench-scratch-"))
            yield start()

    def _start(self, target: Target, planting: Planting, image: Image, removal: ExitStack) -> TargetSubject:
        token = planting.tokens.make()
        command = (PYTHON, "-I", "-c", beacon(), token) if has_python(image) else IDLE
        workload = Workload(
            "audit",
            image.name,
            command,
            environment={**ENVIRONMENT, VARIABLE: token},
            readiness=Readiness("line", BEACON),
        )
        target.prepare(workload, image)
        instance = target.launch(READY_SECONDS)
        removal.callback(instance.stop, 0)
        if not isinstance(instance, HasCommands):
            raise HostError(
                f"instances of {self.label} run no commands, so that nothing can look from inside"
            )
        return TargetSubject(instance, token, self)
