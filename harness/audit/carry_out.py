"""An audit from what a user asks for to its result: targets by name, image, host lock, session."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.runner.interruption import Interruption
from pybench.harness.runner.lock import host_lock
from pybench.runtime.container.profiles import ProfileName

if TYPE_CHECKING:
    from pybench.harness.audit.model import Audit, Probe
    from pybench.harness.audit.session import Tell
    from pybench.harness.audit.subjects.base import SubjectMaker
    from pybench.harness.model import TargetChoice

TARGETS: Final = ("process", "chroot", "container", "vm")
"""Those that can be audited, by name."""
_PROFILES: Final[tuple[ProfileName, ...]] = get_args(ProfileName)
_NETWORKS: Final = ("none", "bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be audited."""

    targets: tuple[str, ...]
    image: str
    profiles: tuple[str, ...] = ("default",)
    network: str = "none"
    probes: tuple[Probe, ...]


def makers(request: Request) -> list[SubjectMaker]:
    """What makes the instances of each target asked for; a container for each profile.

    Raises:
        InputError: there is no such target, profile or network.
    """
    profiles = _PROFILES if "all" in request.profiles else request.profiles
    _check("--profile", profiles, _PROFILES)
    _check("--network", (request.network,), _NETWORKS)
    names = tuple(name.strip() for name in request.targets)
    _check("--targets", names, TARGETS)
    found: list[SubjectMaker] = []
    for name in dict.fromkeys(names):
        found += _made(name, [each for each in _PROFILES if each in profiles], request.network)
    return found


def maker_of(choice: TargetChoice) -> SubjectMaker:
    """What makes the instances of a scenario's target.

    Raises:
        InstanceError: nothing is known of what to expect of this kind of target.
    """
    if choice.kind not in TARGETS:
        raise InstanceError(
            f"targets of kind {choice.kind} are not audited", f"those that are: {', '.join(TARGETS)}"
        )
    options = {key: value for key, value in choice.options.items() if key in {"profile", "network"}}
    profile = next(each for each in _PROFILES if each == options.get("profile", "default"))
    (maker,) = _made(choice.kind, [profile], str(options.get("network", "none")))
    return maker


def _made(name: str, profiles: Sequence[ProfileName], network: str) -> list[SubjectMaker]:
    """What each target needs is imported when it is asked for."""
    if name == "process":
        from pybench.harness.audit.subjects.process import ProcessMaker  # noqa: PLC0415

        return [ProcessMaker()]
    if name == "chroot":
        from pybench.harness.audit.subjects.target import TargetMaker  # noqa: PLC0415

        return [TargetMaker("chroot", "chroot", shared=True, address="127.0.0.1")]
    if name == "vm":
        from pybench.harness.audit.subjects.machine import MachineMaker  # noqa: PLC0415

        return [MachineMaker(network)]
    from pybench.harness.audit.subjects.container import ContainerMaker  # noqa: PLC0415

    return [ContainerMaker(profile, network) for profile in profiles]


def _check(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{option} {name}: no such thing", hint)


def carry_out(request: Request, chosen: Sequence[SubjectMaker], tell: Tell, *, wait: bool = False) -> Audit:
    """Audit the targets, alone on this host.

    Raises:
        InputError: there is no such image.
        HostError: this host cannot run a target, or a run is under way.
        LeftoverError: something survived its removal.
    """
    from pybench import vm_images  # noqa: PLC0415 - slow to import
    from pybench.harness.audit.session import Session  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415
    from pybench.runtime.leftovers import remove_leftovers  # noqa: PLC0415

    def said(text: str) -> None:
        tell(request.image, text)

    for line in remove_leftovers():
        said(f"left by a run that was killed: {line}")
    image = vm_images.build(request.image, progress=said)
    with (
        host_lock("audit", wait=wait, tell=said),
        Interruption() as interruption,
        open_journal() as journal,
        Session(journal, image, request.probes, tell, interruption) as session,
    ):
        return session.audit(chosen)
