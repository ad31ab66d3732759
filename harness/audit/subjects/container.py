"""Our container, in one of its profiles: two tenants, each prepared by itself as two workloads would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.place import READ_ONLY, WRITABLE
from pybench.harness.audit.payload import beacon
from pybench.harness.audit.subjects.base import (
    BEACON,
    ENVIRONMENT,
    IDLE,
    PYTHON,
    READY_SECONDS,
    VARIABLE,
    VOLUMES,
    Ports,
    has_python,
    read_ports,
)
from pybench.harness.audit.subjects.limits import limits_for
from pybench.runtime.container.cgroup.base import Group, Limits
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.container import Container, Request
from pybench.runtime.container.instance import Readiness
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.container.network.pool import NetworkPool
from pybench.runtime.container.profiles import ProfileName
from pybench.runtime.container.rootfs import Volume
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.vm_images import Image

_KINDS: Final[Mapping[ProfileName, Kind]] = {
    "default": "container",
    "strict": "strict",
    "privileged": "privileged",
}


class ContainerSubject:
    """A running container."""

    own_kernel = False
    shared = False
    volumes: Mapping[str, str] = {name: f"{VOLUMES}/{name}" for name in (READ_ONLY, WRITABLE)}

    def __init__(
        self, container: Container, token: str, kind: Kind, limits: Limits, qualifiers: Mapping[str, str]
    ) -> None:
        self._container = container
        self.token = token
        self.kind: Kind = kind
        self.limits = limits
        self.qualifiers = qualifiers
        self.ports: Ports | None = read_ports(container.output)

    @property
    def pid(self) -> int | None:
        """Of its first process."""
        return self._container.pid if self._container.status is None else None

    @property
    def processes(self) -> tuple[int, ...]:
        """Everything inside."""
        return self._container.processes

    @property
    def group(self) -> Group | None:
        """Its control group."""
        return self._container.group

    @property
    def address(self) -> str | None:
        """On its bridge."""
        lease = self._container.network
        return str(lease.address.ip) if lease else None

    def run(self, interpreter: Sequence[str], script: bytes, timeout: float, maximum: int) -> bytes:
        """Run a script as a further command of the container.

        Raises:
            InstanceError: it did not end in time, or the container is gone.
        """
        request = Request(given=script, timeout=timeout, maximum=maximum)
        return self._container.execute(interpreter, request).output


class ContainerMaker:
    """Makes containers of one profile."""

    def __init__(self, profile: ProfileName = "default", network: str = "none") -> None:
        self._profile: ProfileName = profile
        self._network = network
        self.kind: Kind = _KINDS[profile]
        self.label = "container" if profile == "default" else f"container-{profile}"

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[ContainerSubject]]:
        """Start instances on demand, each in a sandbox of its own."""

        def start() -> Iterator[ContainerSubject]:
            pool = None
            if self._network == "bridge":
                bridge = removal.enter_context(Bridge(planting.journal))
                pool = removal.enter_context(NetworkPool(bridge, 2))
            while True:
                yield self._start(planting, image, spawner, pool, removal)

        with ExitStack() as removal:
            spawner = removal.enter_context(Spawner(planting.journal))
            yield start()

    def _start(
        self,
        planting: Planting,
        image: Image,
        spawner: Spawner,
        pool: NetworkPool | None,
        removal: ExitStack,
    ) -> ContainerSubject:
        token = planting.tokens.make()
        python = has_python(image)
        directory, limits = planting.place.volumes, limits_for(image)
        spec = SandboxSpec(
            image.rootfs,
            (PYTHON, "-I", "-c", beacon(), token) if python else IDLE,
            {**ENVIRONMENT, VARIABLE: token},
            Readiness(marking=False, line=BEACON),
            limits=limits,
            host_name="audit",
            profile=self._profile,
            network=pool,
            # Without mapped ids: a mapped volume gives its files to the container's root on purpose.
            volumes=tuple(
                Volume(directory / name, path, writable=name == WRITABLE, id_map=False)
                for name, path in ContainerSubject.volumes.items()
            ),
        )
        sandbox = removal.enter_context(Sandbox(spawner, detect(), spec))
        container = sandbox.start(READY_SECONDS)
        removal.callback(container.stop, 0)
        return ContainerSubject(container, token, self.kind, limits, sandbox.qualifiers)
