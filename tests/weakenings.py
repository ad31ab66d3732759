"""Containers of which one mechanism is switched off, and the probes that find out.

For each probe that a container can be weakened for there is one change that makes it leak, beside the base
that is changed, on which it does not. What no change of a container brings about is found on another target.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pytest import MonkeyPatch  # noqa: PT013 - for its type

from pybench.harness.audit.canaries.base import Planting
from pybench.harness.audit.canaries.files import TEMPORARY
from pybench.harness.audit.canaries.place import WRITABLE
from pybench.harness.audit.model import Kind
from pybench.harness.audit.subjects import container as subjects
from pybench.harness.audit.subjects.base import ENVIRONMENT
from pybench.harness.audit.subjects.container import ContainerMaker, ContainerSubject
from pybench.runtime.container import notify, sandbox, stage
from pybench.runtime.container.assembly.assemble import Surroundings, assemble
from pybench.runtime.container.defaults import specification
from pybench.runtime.container.identity import reserve
from pybench.runtime.container.interactive import Exchange
from pybench.runtime.container.network import firewall
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.container.profiles import MASKED_PATHS, PROFILES, READ_ONLY_PATHS, ProfileName
from pybench.runtime.container.rootfs import Volume
from pybench.runtime.container.sandbox import SandboxSpec
from pybench.runtime.container.spawn.spawner import Program
from pybench.runtime.container.spawn.steps import CloseFrom
from pybench.runtime.container.specification.model import Capabilities, Mount, ResourceLimit, Specification
from pybench.runtime.container.specification.namespaces import FLAGS
from pybench.vm_images import Image

BaseName = Literal[
    "default",
    "strict",
    "privileged",
    "unconfined",
    "host's root",
    "masked",
    "without Landlock",
    "no volumes",
    "bridge",
]
SHARED = Path("/dev/shm")
KERNEL_LOG = (1, 11)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a mechanism is switched off, for as long as containers are under audit."""

    patch: MonkeyPatch
    planting: Planting
    removal: ExitStack


Apply = Callable[[Setting], None]


@dataclass(frozen=True, slots=True)
class Weakening:
    """One mechanism of a base that is switched off."""

    what: str
    base: BaseName
    fires: tuple[str, ...]
    """The probes that leak then and not before; the first is the one it is meant for."""
    apply: Apply
    beside: tuple[str, ...] = ()
    """More of them, which are asked beside what the host does, and take longer."""
    perhaps: tuple[str, ...] = ()
    """Those that leak if the host has what they look for."""
    alone: bool = False
    """Other probes cannot work then."""


def _confinement(**changes: object) -> Apply:
    """Change every profile alike; the container under test is made from one of them."""

    def apply(setting: Setting) -> None:
        for name, profile in list(PROFILES.items()):
            setting.patch.setitem(PROFILES, name, replace(profile, **changes))  # type: ignore[arg-type]

    return apply


def _unmasked(*paths: str) -> Apply:
    return _confinement(masked_paths=tuple(path for path in MASKED_PATHS if path not in paths))


def _specified(change: Callable[[Specification], Specification]) -> Apply:
    """Change what a container is in OCI's vocabulary."""

    def apply(setting: Setting) -> None:
        setting.patch.setattr(
            sandbox, "specification", lambda *given, **named: change(specification(*given, **named))
        )

    return apply


def _prepared(change: Callable[[SandboxSpec, Planting], SandboxSpec]) -> Apply:
    """Change what a sandbox is prepared for."""

    def apply(setting: Setting) -> None:
        setting.patch.setattr(
            subjects,
            "SandboxSpec",
            lambda *given, **named: change(SandboxSpec(*given, **named), setting.planting),
        )

    return apply


def _volume(source: Callable[[Planting], Path], destination: str, *, writable: bool = False) -> Apply:
    def change(spec: SandboxSpec, planting: Planting) -> SandboxSpec:
        shown = Volume(source(planting), destination, writable=writable, id_map=False)
        return replace(spec, volumes=(*spec.volumes, shown))

    return _prepared(change)


def _limited(**changes: object) -> Apply:
    """Other limits than those that were promised."""
    return _prepared(
        lambda spec, _planting: replace(spec, limits=replace(spec.limits, **changes))  # type: ignore[arg-type]
    )


def _without(*kinds: str) -> Apply:
    """Share namespaces with the host."""

    def apply(setting: Setting) -> None:
        flags = sum(FLAGS[kind] for kind in FLAGS if kind in kinds)
        for name, profile in list(PROFILES.items()):
            setting.patch.setitem(
                PROFILES, name, replace(profile, namespaces_left_out=profile.namespaces_left_out | flags)
            )
        if "uts" in kinds:
            # Else the name of the container would become the host's.
            _specified(lambda made: replace(made, hostname=""))(setting)
        if "time" in kinds:
            setting.patch.setattr(sandbox, "zero_clocks", dict)

    return apply


def _one_range_for_all(setting: Setting) -> None:
    shared = setting.removal.enter_context(reserve())
    setting.patch.setattr(sandbox, "reserve", lambda: nullcontext(shared))


def _unfiltered(setting: Setting) -> None:
    setting.patch.setattr(notify, "unavailable", lambda: "switched off")
    setting.patch.setattr(sandbox, "policy_of", lambda *_given, **_named: None)


def _unsupervised(setting: Setting) -> None:
    setting.patch.setattr(notify, "unavailable", lambda: "switched off")


def _without_landlock(setting: Setting) -> None:
    setting.patch.setattr(sandbox, "scope_steps", lambda: ())


def _inheriting(setting: Setting) -> None:
    closing = Exchange.steps
    setting.patch.setattr(
        Exchange,
        "steps",
        lambda self, slots: (step for step in closing(self, slots) if not isinstance(step, CloseFrom)),
    )


def _environment(setting: Setting) -> None:
    setting.patch.setattr(subjects, "ENVIRONMENT", {**os.environ, **ENVIRONMENT})


def _forged_masks(setting: Setting) -> None:
    """Masks that give zeros for ever, instead of nothing."""

    def with_zeros(made: Specification, around: Surroundings) -> Program:
        return assemble(made, replace(around, null=str(Path(around.null).with_name("zero"))))

    setting.patch.setattr(sandbox, "assemble", with_zeros)


def _volumes(volumes: Mapping[str, str]) -> Apply:
    return lambda setting: setting.patch.setattr(ContainerSubject, "volumes", volumes)


def _unfiltered_bridge(setting: Setting) -> None:
    opened = Bridge.__enter__

    def enter(bridge: Bridge) -> Bridge:
        opened(bridge)
        firewall.remove(bridge.name)
        return bridge

    setting.patch.setattr(Bridge, "__enter__", enter)


def _friendly_bridge(setting: Setting) -> None:
    setting.patch.setattr(subjects, "Bridge", lambda journal: Bridge(journal, siblings=True))


def _process(made: Specification, **changes: object) -> Specification:
    assert made.process is not None
    return replace(made, process=replace(made.process, **changes))  # type: ignore[arg-type]


def _capable(made: Specification) -> Specification:
    held = ("CAP_SYS_ADMIN",)
    return _process(made, capabilities=Capabilities(bounding=held, effective=held, permitted=held))


def _cores(made: Specification) -> Specification:
    assert made.process is not None
    limits = [each for each in made.process.rlimits if each.type != "RLIMIT_CORE"]
    return _process(made, rlimits=(*limits, ResourceLimit(type="RLIMIT_CORE", hard=1 << 20, soft=1 << 20)))


def _options(destination: str, *, without: str) -> Apply:
    """Mount one of its own file systems without an option."""

    def change(made: Specification) -> Specification:
        return replace(
            made,
            mounts=tuple(
                replace(mount, options=tuple(each for each in mount.options if not each.startswith(without)))
                if mount.destination == destination
                else mount
                for mount in made.mounts
            ),
        )

    return _specified(change)


def _more_devices(setting: Setting) -> None:
    setting.patch.setattr(stage, "DEVICE_NODES", {**stage.DEVICE_NODES, "kmsg": KERNEL_LOG})


def _pretended_proc(made: Specification) -> Specification:
    """A /proc that somebody has written."""
    others = (mount for mount in made.mounts if mount.destination != "/proc")
    pretended = Mount(destination="/proc", type="tmpfs", source="tmpfs", options=("nosuid", "nodev"))
    linux = replace(made.linux, masked_paths=(), readonly_paths=(), sysctl={})
    return replace(made, mounts=(pretended, *others), linux=linux)


def _unconfined_root(setting: Setting) -> None:
    _confinement(confined=False)(setting)
    _without("user")(setting)


def _nothing(_setting: Setting) -> None:
    """As the base is."""


BASES: Mapping[BaseName, tuple[ProfileName, str, Apply]] = {
    "default": ("default", "none", _nothing),
    "strict": ("strict", "none", _nothing),
    "unconfined": ("default", "none", _confinement(confined=False)),
    "privileged": ("privileged", "none", _nothing),
    "host's root": ("default", "none", _unconfined_root),
    "masked": ("privileged", "none", _confinement(masked_paths=MASKED_PATHS)),
    "without Landlock": ("default", "none", _without_landlock),
    "no volumes": ("default", "none", _volumes({})),
    "bridge": ("default", "bridge", _nothing),
}
"""Name → profile, network and how it is made from them."""


class WeakenedMaker(ContainerMaker):
    """Makes containers of a base with one mechanism switched off, or none."""

    def __init__(self, base: BaseName, weakening: Weakening | None = None) -> None:
        profile, network, self._base = BASES[base]
        super().__init__(profile, network)
        self._apply = weakening.apply if weakening else _nothing
        self.label = f"{base}: {weakening.what if weakening else 'as it is'}"

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[ContainerSubject]]:
        """Start instances on demand."""
        with ExitStack() as removal, MonkeyPatch.context() as patch:
            setting = Setting(patch, planting, removal)
            self._base(setting)
            self._apply(setting)
            with super().opened(planting, image) as instances:
                yield instances


def _engine(planting: Planting) -> Path:
    return planting.place.path / "engine.sock"


def _hosts(planting: Planting) -> Path:
    made = planting.place.volumes / WRITABLE / "hosts"
    made.touch()
    made.chmod(0o666)
    return made


_UNCONFINED = ("C1", "C2", "C3", "C4", "I3", "I5", "K3", "K4", "K6", "M9", "M11", "N10", "X3")
_HOSTS_ROOT = ("E3", "G2", "G3", "K5", "M5", "M10", "P3", "T2", "U1", "U2", "U3", "U4", "U7", "X6")

WEAKENINGS: tuple[Weakening, ...] = (
    Weakening(
        "the host's pid namespace",
        "privileged",
        ("P1", "P2", "P4", "P5", "P6", "M2", "F4"),
        _without("pid"),
        beside=("P8",),
    ),
    Weakening("the host's cgroup namespace", "default", ("G1", "P3"), _without("cgroup")),
    Weakening(
        "the host's user namespace", "default", ("U1", "U2", "U3", "U4", "U7", "P3", "X6"), _without("user")
    ),
    Weakening("one range of ids for all", "default", ("U2",), _one_range_for_all),
    Weakening("the host's passwd", "default", ("U5",), _volume(lambda _: Path("/etc/passwd"), "/etc/passwd")),
    Weakening("a /tmp that honours setuid", "privileged", ("U6", "M7"), _options("/tmp", without="nosuid")),
    Weakening(
        "the host's network namespace",
        "default",
        ("N1", "N3", "N4", "N5", "N6", "P3"),
        _without("network"),
        perhaps=("N9",),
    ),
    Weakening(
        "the host's network namespace",
        "privileged",
        ("N11", "N1", "N3", "N4", "N5", "N6"),
        _without("network"),
        beside=("N8",),
        perhaps=("N9",),
    ),
    Weakening("no filter of packets", "bridge", ("N2",), _unfiltered_bridge),
    Weakening("ports that are not isolated", "bridge", ("N7",), _friendly_bridge),
    Weakening(
        "no filter of system calls",
        "default",
        ("C3", "I3", "I5", "K3", "K4", "K6", "N10", "X3"),
        _unfiltered,
        beside=("X8",),
    ),
    Weakening("nobody answers sysinfo", "default", ("X3",), _unsupervised),
    Weakening("a capability", "default", ("C1",), _specified(_capable)),
    Weakening(
        "execve may give rights",
        "without Landlock",
        ("C2",),
        _specified(lambda made: _process(made, no_new_privileges=False)),
    ),
    Weakening("no domain of Landlock", "default", ("C4",), _without_landlock),
    Weakening(
        "the host's /tmp", "default", ("M1",), _volume(lambda _: TEMPORARY, str(TEMPORARY), writable=True)
    ),
    Weakening("descriptors stay open", "default", ("F1", "F2", "M3", "D4"), _inheriting),
    Weakening("the environment of the harness", "default", ("F3",), _environment),
    Weakening(
        "a writable root", "default", ("M4",), _prepared(lambda spec, _: replace(spec, writable=16 << 20))
    ),
    Weakening("a writable hosts file", "default", ("M5",), _volume(_hosts, "/etc/hosts", writable=True)),
    Weakening("volumes", "no volumes", ("M6",), _volumes(ContainerSubject.volumes)),
    Weakening("no confinement", "default", _UNCONFINED, _confinement(confined=False)),
    Weakening("no user namespace", "unconfined", _HOSTS_ROOT, _without("user")),
    Weakening("a writable /proc/sys", "host's root", ("E1", "E2"), _confinement(read_only_paths=())),
    Weakening("a forged null device", "default", ("M12",), _forged_masks, alone=True),
    Weakening("the host's IPC namespace", "default", ("I1", "I2", "P3"), _without("ipc")),
    Weakening(
        "the host's /dev/shm", "default", ("I2",), _volume(lambda _: SHARED, str(SHARED), writable=True)
    ),
    Weakening("no mask of keys", "masked", ("I4",), _unmasked("/proc/keys")),
    Weakening(
        "no mask of the boot's number", "default", ("K2",), _unmasked("/proc/sys/kernel/random/boot_id")
    ),
    Weakening("no mask of interrupts", "default", ("X4",), _unmasked("/proc/interrupts")),
    Weakening("no mask of the command line", "default", ("X6",), _unmasked("/proc/cmdline")),
    Weakening(
        "the host's name",
        "default",
        ("I7",),
        _specified(lambda made: replace(made, hostname=os.uname().nodename)),
    ),
    Weakening("the host's uts namespace", "privileged", ("I8", "I7"), _without("uts")),
    Weakening("the host's time namespace", "default", ("T1", "P3"), _without("time")),
    Weakening(
        "a whole /proc",
        "strict",
        ("X1",),
        _confinement(
            proc_options=("hidepid=invisible",), masked_paths=MASKED_PATHS, read_only_paths=READ_ONLY_PATHS
        ),
        beside=("X2",),
    ),
    Weakening("the host's /sys", "privileged", ("X5", "G4"), _volume(lambda _: Path("/sys"), "/sys")),
    Weakening("no hidepid", "unconfined", ("X9",), _confinement(proc_options=(), confined=False)),
    Weakening("a device of the kernel's log", "privileged", ("D1", "D3"), _more_devices),
    Weakening("a /tmp with devices", "privileged", ("D2", "M7"), _options("/tmp", without="nodev")),
    Weakening("cores of any size", "default", ("E5",), _specified(_cores)),
    Weakening("a /proc that is none", "default", ("E6",), _specified(_pretended_proc), alone=True),
    Weakening("an engine's socket", "default", ("N12",), _volume(_engine, "/run/docker.sock")),
)
"""Found out by asking, at once, everything that a guest answers at once."""

LIMITS_LIFTED: tuple[Weakening, ...] = (
    Weakening(
        "no quota of processors",
        "default",
        ("R1",),
        # Its weight lets it show even on a busy host.
        _limited(cpus=None, cpu_weight=10_000),
    ),
    Weakening("twice the memory", "default", ("R2",), _limited(memory=384 << 20)),
    Weakening("four times the processes", "default", ("R4",), _limited(pids=512)),
    Weakening("no limit of the disk", "default", ("R5",), _limited(io=())),
    Weakening(
        "the host's bound of inotify instances",
        "default",
        ("R6",),
        _specified(lambda made: replace(made, linux=replace(made.linux, sysctl={}))),
    ),
    Weakening("a larger /tmp", "default", ("R7",), _options("/tmp", without="size=")),
)
"""Found out by using something up."""

SWAP_ALLOWED: tuple[Weakening, ...] = (Weakening("swap", "default", ("R3",), _limited(swap=None)),)
"""The same, on a host that has swap."""

ELSEWHERE: Mapping[str, tuple[Kind | None, str]] = {
    "P7": ("process", "the host sees every container's processes by design"),
    "N9": ("process", "whether a host has such a service is no container's doing"),
    "M8": ("process", "our runtime mounts nothing that could spread, whatever it is told"),
    "I6": ("process", "who shares a file shares its locks by design"),
    "R8": ("process", "the kernel works for every container by design"),
    "T3": ("process", "there is one clock by design"),
    "K1": ("process", "there is one kernel by design"),
    "X7": ("process", "there is one processor by design"),
    "C5": (None, "it is shared by design everywhere, and never leaks"),
    "E4": ("process", "it takes CAP_SYS_RESOURCE over the host"),
    "V1": (None, "only machines have devices; tests/unit/test_audit_machine.py has those that leak"),
}
"""Probe → the target on which it fires instead, and why no change of a container makes it."""
