"""Probes about limits; what was used is what the host counts, whatever the guest says."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.core_dumps import core_pattern, is_given_to_a_program
from pybench.harness.audit.model import (
    Expected,
    Parameters,
    Probe,
    Verdict,
    error,
    isolated,
    leak,
    not_applicable,
    shared,
)
from pybench.harness.audit.observation import evidence
from pybench.harness.audit.probes import control_groups
from pybench.harness.audit.watch import SPAN, Watch, watch
from pybench.runtime.container.defaults import INOTIFY_INSTANCES, TMPFS_BYTES

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_MEBIBYTE: Final = 1 << 20
_TOLERANCE: Final = 1.05
_QUOTA_PERIOD: Final = 0.1
"""Seconds. A span may begin and end within a period of the quota, and so meet one more of them."""
_MONITOR_MEMORY: Final = 256 * _MEBIBYTE
"""Bytes that a monitor may need beside its guest's memory: emulated devices, translated code, libraries."""
_MORE_PROCESSES: Final = 16
_HOLD: Final = 60
"""Milliseconds."""
_READ_BURST: Final = 4 * _MEBIBYTE
_MORE_INSTANCES: Final = 32
_FILLING: Final = TMPFS_BYTES + _MEBIBYTE


def _spinners(_ground: Ground) -> Parameters:
    return {"spinners": 4 * (os.cpu_count() or 1) + 1}


def _cpu(observation: Observation) -> Verdict:
    limit = observation.subject.limits.cpus
    rate = observation.watched(Watch).highest_rate(lambda usage: usage.cpu_seconds)
    if limit is None:
        return not_applicable("it was promised no limit")
    if rate is None:
        return error("the host does not count its processor time")
    most = limit * _TOLERANCE * (1 + _QUOTA_PERIOD / SPAN)
    told = f"{rate:.2f} processors at most, over {SPAN:g} s, of {limit:g}"
    if rate > most:
        return leak("it uses more processor time than it was promised", told)
    return isolated(f"its processor time stays within its limit: {told}")


def _more_memory(ground: Ground) -> Parameters:
    return {"bytes": (ground.subject.limits.memory or 0) * 5 // 4}


def _memory(observation: Observation) -> Verdict:
    limit, watched = observation.subject.limits.memory, observation.watched(Watch)
    if limit is None:
        return not_applicable("it was promised no limit")
    most = limit + (_MONITOR_MEMORY if observation.subject.own_kernel else 0)
    peak = watched.highest(lambda usage: usage.memory_peak) or watched.highest(lambda usage: usage.memory)
    if peak is None:
        return error("the host does not count its memory")
    touched = observation.number("touched")
    told = f"at most {_mebibytes(peak)} of {_mebibytes(most)} by the host's count"
    if peak > most or touched > most:
        return leak("it uses more memory than it was promised", told, f"{_mebibytes(touched)} were touched")
    if not observation.flag("killed") and touched >= limit:
        return error(f"{_mebibytes(touched)} were touched, yet the host counts {told}")
    if not observation.flag("killed"):
        return isolated(f"{told}; more was refused")
    kills = watched.growth(lambda usage: usage.oom_kills)
    return isolated(f"{told}; what asked for more was killed inside ({kills} by its control group)")


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:.0f} MiB"


def _host_swaps() -> bool:
    return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1


def _more_with_swap(ground: Ground) -> Parameters:
    limit = ground.subject.limits.memory or 0
    if ground.subject.own_kernel or not _host_swaps():
        limit = 0
    return {"bytes": limit * 5 // 4, "out": limit // 2}


def _swap(observation: Observation) -> Verdict:
    limit, touched = observation.subject.limits.memory, observation.number("touched")
    if not _host_swaps():
        return not_applicable("the host has no swap")
    if observation.subject.own_kernel:
        return isolated("the guest has no swap of the host's")
    if limit is None:
        return not_applicable("it was promised no limit")
    swapped = _mebibytes(observation.number("swapped"))
    if observation.number("swapped") and touched > limit:
        return leak(
            "with the host's swap it uses more memory than it was promised",
            f"{_mebibytes(touched)} of {_mebibytes(limit)}, {swapped} of them in the host's swap",
        )
    return isolated(f"memory and swap together stay within {_mebibytes(limit)}: {swapped} were swapped out")


def _more_processes(ground: Ground) -> Parameters:
    # A guest's processes are none of the host's, however many; an emulated one is slow to start them.
    enough = 0 if ground.subject.own_kernel else ground.subject.limits.pids or 0
    return {"processes": enough + _MORE_PROCESSES, "hold": _HOLD}


def _pids(observation: Observation) -> Verdict:
    limit, watched = observation.subject.limits.pids, observation.watched(Watch)
    started, fault = observation.number("started"), observation.text("fault")
    peak = watched.highest(lambda usage: usage.pids)
    if observation.subject.own_kernel:
        return isolated(f"{started} processes of the guest's are {peak} threads of the host's")
    if limit is None:
        return not_applicable("it was promised no limit")
    if peak is None:
        return error("the host does not count its processes")
    if peak > limit or started > limit:
        return leak("it starts more processes than it was promised", f"{max(peak, started)} of {limit}")
    if not fault:
        return error(f"{started} processes were started, yet the host counts {peak}")
    return isolated(f"after {started} processes the next is refused with {fault}; the host counts {peak}")


def _file_to_read(ground: Ground) -> Parameters:
    largest = max(
        (path for path in (ground.rootfs / "usr/bin").iterdir() if path.is_file() and not path.is_symlink()),
        key=lambda path: path.stat().st_size,
        default=None,
    )
    if largest is None:
        return {"path": ""}
    return {"path": str(largest) if ground.subject.shared else f"/usr/bin/{largest.name}"}


def _io(observation: Observation) -> Verdict:
    limits = observation.subject.limits
    if not limits.io or limits.io[0].read_bytes is None:
        return not_applicable("it was promised no limit of what it reads, or its disk cannot be limited")
    watched, limit = observation.watched(Watch), limits.io[0].read_bytes
    counted = watched.highest_rate(lambda usage: usage.io_bytes_read)
    # Its own word is believed where it says more: what a group above counts is not seen here.
    rate = max(counted or 0.0, observation.number("bytes") / SPAN)
    told = f"{rate / _MEBIBYTE:.0f} MiB/s at most, over {SPAN:g} s, of {limit / _MEBIBYTE:.0f}"
    if rate > (limit * _TOLERANCE * (1 + _QUOTA_PERIOD / SPAN)) + _READ_BURST / SPAN:
        return leak("it reads faster than it was promised", told)
    if not observation.number("bytes"):
        return isolated(f"it reads nothing past the page cache: {observation.text('fault') or 'no bytes'}")
    return isolated(f"its reading stays within its limit: {told}")


def _instances(_ground: Ground) -> Parameters:
    return {"instances": INOTIFY_INSTANCES + _MORE_INSTANCES}


def _descriptors(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("files and inotify instances are counted by its own kernel")
    assert observation.subject.pid is not None, "the session checks it"  # noqa: S101
    found = []
    if not observation.text("raised"):
        found.append(f"RLIMIT_NOFILE raised beyond {observation.number('hard')}")
    made = observation.number("instances")
    if made > INOTIFY_INSTANCES:
        found.append(f"{made} inotify instances, which are counted against the host's user too")
    if found:
        return leak("it uses up files or inotify instances without a bound of its own", *found)
    hard = resource.prlimit(observation.subject.pid, resource.RLIMIT_NOFILE)[1]
    return isolated(f"at most {hard} open files by the host's count, and {made} inotify instances")


def _more_room(_ground: Ground) -> Parameters:
    return {"bytes": _FILLING}


def _room(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    filled = [f"{folder}: {_mebibytes(_FILLING)}" for folder, fault in faults.items() if not fault]
    told = ", ".join(f"{folder} {fault or 'has room'}" for folder, fault in faults.items())
    if observation.subject.own_kernel:
        return isolated(f"what it fills is its own memory, which is limited: {told}")
    if filled:
        return leak("its file systems in memory are larger than promised", *filled)
    return isolated(f"no file system in memory has room for {_mebibytes(_FILLING)}: {told}")


def _dumping(ground: Ground) -> Parameters:
    return {"piped": not ground.subject.own_kernel and is_given_to_a_program(core_pattern())}


def _elsewhere(observation: Observation) -> Verdict:
    before, after = observation.watched(Watch).packets
    sent, counted, dumped = observation.number("sent"), after - before, observation.number("dumped")
    told = f"{sent} packets sent, {counted} handled in soft interrupts of the host's kernel meanwhile"
    if observation.subject.own_kernel:
        return isolated(f"its packets are handled by its own kernel, within its processors ({told})")
    done = [told] if 0 < sent <= counted else []
    if dumped:
        done.append(f"{dumped} crashes, each given to {core_pattern()} by the host's root")
    if not done:
        return isolated(f"what it sends costs the host nothing: {told}")
    if observation.subject.shared:
        return leak("the host's kernel works for it, and nobody is charged for it", *evidence(done))
    return shared(
        "the kernel that works for it is the host's, and charges whoever it interrupts", *evidence(done)
    )


_VERSION_2: Final = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_GUARDED: Final = (
    "a bare process is watched in a control group that allows it more than a container is promised"
)


def _limit(
    identifier: str,
    title: str,
    texts: tuple[str, str, str],
    *,
    reference: str = _VERSION_2,
    letters: str = "LIII",
    note: str = _GUARDED,
    **parts: object,
) -> Probe:
    """A probe that uses something up: severity high unless `parts` say otherwise."""
    values: dict[str, object] = {"severity": "high", "seconds": 25.0, **parts}
    return Probe(
        id=identifier,
        title=title,
        category="limits",
        rationale=texts[0],
        handling=texts[1],
        remediation=texts[2],
        references=(reference,),
        expected=Expected.of(letters, chroot="N", note=note),
        beside=watch,
        consumes=True,
        **values,  # type: ignore[arg-type]
    )


_HOUDINI: Final = "https://dl.acm.org/doi/10.1145/3319535.3354227"
_SET_MEMORY: Final = "Set a limit on memory, and one of zero on swap."

PROBES: tuple[Probe, ...] = (
    *control_groups.PROBES,
    _limit(
        "R1",
        "It uses more processor time than it was promised",
        (
            "A tenant that spins takes its neighbours' time, and with it their answers.",
            "A quota is a ceiling that holds; shares and weights are not, and most engines set neither "
            "unless asked. A guest has as many processors as threads of its monitor.",
            "Set a quota of processor time.",
        ),
        parameters=_spinners,
        judge=_cpu,
    ),
    _limit(
        "R2",
        "It uses more memory than it was promised",
        (
            "When the host runs short, the kernel kills whoever it likes.",
            "A memory limit keeps the killing inside; most engines set none unless asked. A guest cannot use "
            "more than the memory it was built with.",
            _SET_MEMORY,
        ),
        parameters=_more_memory,
        judge=_memory,
    ),
    _limit(
        "R3",
        "It uses more memory than it was promised, with the host's swap",
        (
            "What is swapped out is not counted as memory, and the disk is everybody's.",
            "Docker allows as much swap as memory by default. Ours allows none beyond its memory. A guest's "
            "memory may be swapped by the host, but not at the guest's wish.",
            _SET_MEMORY,
        ),
        severity="medium",
        note=f"{_GUARDED}; a host without swap has none to use, and the audit adds none",
        parameters=_more_with_swap,
        judge=_swap,
    ),
    _limit(
        "R4",
        "It starts more processes than it was promised",
        (
            "A fork bomb ends every machine: there are only so many process numbers.",
            "Docker sets no limit unless told to, Podman 2048; ours is 256. A guest's processes are none of "
            "the host's.",
            "Set a limit on processes.",
        ),
        parameters=_more_processes,
        judge=_pids,
    ),
    _limit(
        "R5",
        "It reads from disk faster than it was promised",
        (
            "A disk serves whoever asks most.",
            "io.max, and blkio.throttle in version 1, hold what is read and written directly; version 1 does "
            "not see what is written through the page cache. Our containers can write to no disk, so the "
            "probe reads, past the page cache. Virtual machines of ours have no such limit.",
            "Set limits for each disk.",
        ),
        letters="LIIN",
        severity="medium",
        parameters=_file_to_read,
        judge=_io,
    ),
    _limit(
        "R6",
        "It uses up open files or inotify instances",
        (
            "Instances of inotify are counted for each user, and those of a user namespace for its owner as "
            "well: a tenant that makes 128 leaves none to the host's root, and services there fail.",
            "Limits of processes hold for open files. For inotify each user namespace may have a bound of "
            "its own, in /proc/sys/user, which engines leave at the host's; ours sets one.",
            "Lower user.max_inotify_instances in the container's user namespace.",
        ),
        reference="https://man7.org/linux/man-pages/man7/namespaces.7.html",
        letters="LILI",
        severity="medium",
        parameters=_instances,
        judge=_descriptors,
    ),
    _limit(
        "R7",
        "It fills file systems in memory beyond what was promised",
        (
            "A tmpfs without a size takes half of the machine's memory.",
            "Ours have a size, and what is in them counts against the memory limit as well.",
            "Give each tmpfs a size.",
        ),
        reference="https://man7.org/linux/man-pages/man5/tmpfs.5.html",
        severity="medium",
        parameters=_more_room,
        judge=_room,
    ),
    _limit(
        "R8",
        "The kernel's work for it is charged to others",
        (
            "Soft interrupts, writing back and dumping core are done by whoever is interrupted or by threads "
            "of the kernel, so that a tenant gets work done beyond its quota. Where core_pattern names a "
            "program, each crash inside starts it on the host, as root and outside of all limits.",
            "It is so wherever a kernel is shared; a limit of 0 on cores does not hold back the program. A "
            "guest's kernel does such work on the guest's own processors.",
            "Leave room for it, and have cores written to files; run what you do not trust in a virtual "
            "machine.",
        ),
        reference=_HOUDINI,
        letters="LSSI",
        severity="medium",
        parameters=_dumping,
        judge=_elsewhere,
    ),
)
