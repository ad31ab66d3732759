"""Probes about what is known of the machine, and of who else uses it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.page_cache import PageCacheCanary, kept_by_lot
from pybench.harness.audit.guest.information import IDENTITIES, SWEPT, brand, digest, digests
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
from pybench.harness.audit.perturbation import FALSE_ALARM, PACE_SECONDS, READINGS, Perturbation, perturb
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_OF_THE_KERNEL: Final = frozenset(
    {
        "bootconfig", "cmdline", "config.gz", "consoles", "cpuinfo", "crypto", "devices", "dma", "drivers",
        "execdomains", "fb", "filesystems", "kallsyms", "ldiscs", "locks", "misc", "modules", "version",
    }
)  # fmt: skip
"""Names of files about the kernel and the processor, which all share; other probes are about them."""
_FEWEST_LINES: Final = 2
"""A table without an entry is the same everywhere."""


def _sweep(observation: Observation) -> Verdict:
    theirs = observation.table("digests")
    same = [path for path, found in theirs.items() if found == _own_digest(path)]
    if same and not observation.subject.own_kernel:
        return leak(f"of the machine {count(len(same), 'file')} said what the host is told", *evidence(same))
    if same:
        return leak("files of the guest have the content of the host's", *evidence(same))
    if not observation.flag("complete"):
        return error(f"only {count(len(theirs), 'file')} could be read in the time")
    return isolated(
        f"none of {count(len(theirs), 'file')} in /proc says of the machine what it says to the host"
    )


def _own_digest(path: str) -> str:
    """Of the host's file, if it can tell of the machine; empty otherwise. Only what is swept is read."""
    file = Path(path)
    if str(file.parent) not in SWEPT or file.name in _OF_THE_KERNEL:
        return ""
    try:
        with file.open("rb") as opened:
            data = opened.read(65536)
    except OSError:
        return ""
    if file.name == "boot_id" or (
        data.count(b"\n") >= _FEWEST_LINES and any(each in data for each in b"123456789")
    ):
        return digest(data)
    return ""


def _pace(_ground: Ground) -> Parameters:
    return {"readings": READINGS, "pace": int(PACE_SECONDS * 1000)}


def _correlate(observation: Observation) -> Verdict:
    series, done = observation.series("series"), observation.watched(Perturbation)
    times = observation.series("times")["times"] if series else []
    if any(len(figures) != len(times) for figures in series.values()) or times != sorted(times):
        return error("its readings and their times do not belong together")
    scores, bound = done.scores(times, series)
    found = [
        f"{name} follows the host's work: {score:.1f} deviations, by chance below {bound:.1f}"
        for name, score in scores.items()
        if score > bound
    ]
    if found:
        return leak("it sees when the host is busy", *evidence(found))
    return isolated(
        f"none of {count(len(series), 'figure')} follows the host's work "
        f"(with an error of {FALSE_ALARM:g} at most)"
    )


def _host_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemTotal")


def _system_information(observation: Observation) -> Verdict:
    if fault := observation.text("fault"):
        return isolated(f"sysinfo is refused with {fault}")
    memory, processes = observation.number("memory"), observation.number("processes")
    told = f"sysinfo: {memory} bytes of memory, {processes} processes"
    if memory == _host_memory():
        return leak("it knows the host's memory and load", told)
    return isolated(f"it knows its own: {told}")


def _sensors(observation: Observation) -> Verdict:
    readable = observation.texts("readable")
    if observation.subject.own_kernel:
        return isolated(f"its sensors are emulated, or none ({count(len(readable), 'file')})")
    if readable:
        return leak("it reads counters and sensors of the host's hardware", *evidence(readable))
    return isolated("no counter or sensor of the hardware can be read")


def _identity(observation: Observation) -> Verdict:
    theirs, ours = observation.table("digests"), digests(IDENTITIES, 4)
    if not ours:
        return not_applicable("nothing identifies this host")
    by_digest = {found: path for path, found in ours.items()}
    same = [
        f"{path}: as the host's {by_digest[found]}" for path, found in theirs.items() if found in by_digest
    ]
    if same:
        return leak("it reads what identifies the host's hardware", *evidence(same))
    return isolated(f"none of {count(len(theirs), 'file')} that identify hardware says what the host's say")


def _kernel_files(observation: Observation) -> Verdict:
    readable = observation.texts("readable")
    if observation.subject.own_kernel:
        return isolated("what it reads is about its own kernel", *evidence(readable))
    if readable:
        return leak("it reads about the inside of the host's kernel", *evidence(readable))
    return isolated("no file about the inside of the kernel tells anything")


def _processor(observation: Observation) -> Verdict:
    ours = {name for name in (brand(), _listed_model()) if name}
    told = {name for name in (observation.text("instruction"), observation.text("file")) if name}
    same = sorted(told & ours)
    if not same:
        return isolated(f"it is shown another processor: {', '.join(sorted(told)) or 'none'}")
    if observation.subject.shared:
        return leak("it knows the host's processor", *evidence(same))
    return shared("the processor is the host's, and says so itself", *evidence(same))


def _listed_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return ""


def _cache_paths(ground: Ground) -> Parameters:
    canary = ground.canary(PageCacheCanary)
    root = str(ground.rootfs) if ground.subject.shared and ground.subject.kind == "process" else ""
    return {"paths": [f"{root}/{file}" for file in canary.files]}


def _page_cache(observation: Observation) -> Verdict:
    canary, told = observation.canary(PageCacheCanary), observation.texts("cached")
    if not canary.files:
        return not_applicable("the image has too few files that nobody needs")
    if len(told) != len(canary.cached):
        return error(f"it told of {count(len(told), 'file')}, not of {len(canary.cached)}")
    answered = [each for each in told if each in {"0", "1"}]
    if not answered:
        return isolated(f"whether a page is cached is not told: {', '.join(sorted(set(told)))}")
    right = sum(each == str(int(cached)) for each, cached in zip(told, canary.cached, strict=True))
    bound = _more_than_chance(len(told))
    if right >= bound:
        return leak(
            "it sees which files of the image others have read",
            f"{right} of {len(told)} drawn by lot were told rightly; by chance {bound - 1} at most",
        )
    return isolated(f"{right} of {len(told)} were guessed rightly, which chance explains")


def _more_than_chance(count: int) -> int:
    """The least number of right answers of `count` that guessing reaches with less than `FALSE_ALARM`."""
    chance, least = 0.0, count + 1
    while least > 0 and chance + math.comb(count, least - 1) / 2**count < FALSE_ALARM:
        least -= 1
        chance += math.comb(count, least) / 2**count
    return least


def _between_users(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return not_applicable("users of a guest are its own kernel's business")
    told, options = observation.text("told"), observation.text("options")
    if not told:
        return error("the user without rights did not tell")
    if not told.isdigit():
        # Without capabilities root cannot become another user, so nobody else is there to look.
        hidden = "hidepid" in options
        return (
            isolated(f"nobody inside may become another user ({told}), and /proc is mounted {options}")
            if hidden
            else error(f"the user without rights could not be made: {told}")
        )
    if int(told):
        pids = [f"/proc/{pid}/cmdline" for pid in observation.texts("pids")]
        return leak(f"a user without rights looks at {told} processes of others", *evidence(pids))
    return isolated("a user without rights sees no process of others")


PROC: Final = "https://man7.org/linux/man-pages/man5/proc.5.html"
_LEAKY_PROC: Final = "https://ieeexplore.ieee.org/document/8023126"
_USE_STRICT: Final = "Use the profile `strict`, whose /proc has processes alone."
_COST: Final = (
    "programs need /proc/meminfo, /proc/stat and /proc/cpuinfo, which the kernel has for the whole machine "
    "alone; the profile `strict` has none of them"
)

PROBES: tuple[Probe, ...] = (
    Probe(
        id="X1",
        title="Files tell of the machine what they tell the host",
        category="information",
        severity="medium",
        rationale="Two tenants that read the same know that they are on one machine, and attack there.",
        handling=(
            "Most of /proc knows no namespaces. Engines mask some ten files of it; lxcfs shows some with the "
            "container's own figures. `subset=pid` leaves nothing but processes."
        ),
        remediation=_USE_STRICT,
        references=(PROC, _LEAKY_PROC),
        expected=Expected.of("LLLI", strict="I", note=_COST),
        seconds=20.0,
        judge=_sweep,
    ),
    Probe(
        id="X2",
        title="It sees when the host is busy",
        category="information",
        severity="medium",
        rationale=(
            "Figures that move with the host's work carry messages between tenants, tell when a neighbour is "
            "worth attacking, and prove that two share a machine."
        ),
        handling=(
            "No namespace holds it: memory, load, interrupts and tables of files are the machine's. lxcfs "
            "shows others for a few. A guest's kernel counts its own."
        ),
        remediation=_USE_STRICT,
        references=(_LEAKY_PROC, PROC),
        expected=Expected.of("LLLI", strict="I", note=_COST),
        seconds=30.0,
        parameters=_pace,
        beside=perturb,
        watches=True,
        judge=_correlate,
    ),
    Probe(
        id="X3",
        title="The call sysinfo tells of the host's memory and load",
        category="information",
        severity="medium",
        rationale="It is a call, not a file: no mask keeps it from telling the same.",
        handling=(
            "The kernel bends its uptime alone to the time namespace. Our container has the call answered by "
            "a supervisor, with the container's own figures; engines let it through."
        ),
        remediation="Answer sysinfo by a listener of seccomp, or refuse it.",
        references=("https://man7.org/linux/man-pages/man2/sysinfo.2.html",),
        expected=Expected.of("LILI"),
        judge=_system_information,
    ),
    Probe(
        id="X4",
        title="Counters and sensors of the hardware can be read",
        category="information",
        severity="medium",
        rationale="Counters of energy and interrupts give away what neighbours compute, keys included.",
        handling=(
            "Engines mask /proc/interrupts since 2025 and the energy counters since 2020. Our container has "
            "no /sys. A guest has no real sensors."
        ),
        remediation="Mask /proc/interrupts, /sys/class/powercap and /sys/devices/virtual/powercap.",
        references=("https://platypusattack.com/", PROC),
        expected=Expected.of("LILI", chroot="L"),
        judge=_sensors,
    ),
    Probe(
        id="X5",
        title="What identifies the host's hardware can be read",
        category="information",
        severity="medium",
        rationale="Serial numbers and firmware tables tell machines apart for ever.",
        handling="Engines mask /sys/firmware; ours mounts no /sys. A guest has its hypervisor's firmware.",
        remediation="Mount no /sys, or mask /sys/firmware and /sys/devices/virtual/dmi.",
        references=("https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-firmware-acpi",),
        expected=Expected.of("LIII", chroot="I", note="none of our profiles has a /sys, nor has a chroot"),
        judge=_identity,
    ),
    Probe(
        id="X6",
        title="The inside of the host's kernel can be read about",
        category="information",
        severity="high",
        rationale="Exploits are fitted to addresses, configuration and modules; kcore is all memory.",
        handling=(
            "Engines mask kcore, and leave cmdline, modules and config.gz. Ours masks all of them. Without "
            "capabilities kallsyms has zeros for addresses."
        ),
        remediation="Mask them, and set kernel.kptr_restrict to 2.",
        references=(PROC, "https://docs.kernel.org/admin-guide/sysctl/kernel.html"),
        expected=Expected.of("LILI"),
        judge=_kernel_files,
    ),
    Probe(
        id="X7",
        title="The host's processor is known",
        category="information",
        severity="low",
        rationale="Its model tells which of its faults leak data between those who share it.",
        handling=(
            "An instruction tells it, which no container can hold back. A guest is told what the hypervisor "
            "says, which under KVM is the host's model by default."
        ),
        remediation="Show guests a named model of processor.",
        references=("https://docs.kernel.org/admin-guide/hw-vuln/index.html",),
        expected=Expected.of(
            "LSSI",
            note="under emulation a guest has QEMU's processor; under KVM it is shown the host's by design",
        ),
        judge=_processor,
    ),
    Probe(
        id="X8",
        title="Which files of a shared image are cached can be seen",
        category="information",
        severity="medium",
        rationale=(
            "Containers of one image share its pages: who sees what is cached sees which programs neighbours "
            "run, and can pass messages."
        ),
        handling=(
            "Sharing pages saves memory, and every engine does it. mincore is restricted to files of one's "
            "own, but preadv2 with RWF_NOWAIT tells as well. Our filter refuses that flag, and cachestat. A "
            "guest has a cache of its own."
        ),
        remediation="Refuse preadv2 with RWF_NOWAIT, mincore and cachestat by seccomp.",
        references=(
            "https://arxiv.org/abs/1901.01161",
            "https://man7.org/linux/man-pages/man2/preadv2.2.html",
        ),
        expected=Expected.of(
            "LILI",
            chroot="I",
            note=(
                "our filter answers preadv2 with RWF_NOWAIT as if no file system knew it; the overlay that "
                "is a chroot's root does not know it"
            ),
        ),
        canaries=("page-cache",),
        parameters=_cache_paths,
        beside=kept_by_lot,
        judge=_page_cache,
    ),
    Probe(
        id="X9",
        title="Users inside see one another's processes",
        category="information",
        severity="low",
        rationale="A service that was taken over reads the command lines of all others beside it.",
        handling="With `hidepid` /proc shows each user its own processes alone; only ours has it by default.",
        remediation="Mount /proc with hidepid=invisible.",
        references=(PROC,),
        expected=Expected.of("LILN"),
        judge=_between_users,
    ),
)
