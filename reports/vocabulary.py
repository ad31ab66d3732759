"""What the names in a run mean, in words: targets, metrics, marks, qualifiers.

A name that is not listed is shown as it is: a report never fails, or stays silent, over a new target
or metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pybench.reports.load_texts import LOAD_TEXTS
from pybench.reports.numbers import TIMES, one_line
from pybench.reports.work_texts import WORK_TEXTS

BASELINE = "process"
LIMIT = "floor"
CONTAINER = "container"
VM = "vm"
TCG = "TCG emulation"
KVM = "KVM"
PHASE_PREFIX = "startup.phase."
MEMORY_PREFIX = "memory."
TEARDOWN = "teardown"
HEADLINES = (
    "startup.ready",
    "startup.exec",
    "density.memory.each",
    "rate.best",
    "interference.worst",
    "memory.settled.pss",
)
"""The metrics that may give the answer, the most telling first."""

MULTIPLES = frozenset({"interference.worst", "interference.slowdown"})
"""Metrics that tell how many times something became, which units of the model cannot say."""

TARGET_ORDER = (
    "process", "floor", "chroot", "container", "bwrap", "crun", "runc", "nspawn", "lxc", "podman", "docker",
    "vm-restore", "vm",
)  # fmt: skip

TARGET_NOUNS = {
    "process": "a bare process",
    "floor": "the floor",
    "chroot": "a chroot",
    "container": "a container",
    "vm": "the VM",
    "vm-restore": "the restored VM",
}
TARGET_MEANINGS = {
    "process": "A bare process on the host: fork and exec, nothing else. What every ratio is taken against.",
    "floor": "The limit that no container beats: raw clone3 with the same namespaces, then exec.",
    "chroot": "A process in a directory of its own, without namespaces.",
    "container": "Our own container: namespaces, uid map, image as root, limits, no capabilities.",
    "vm": "A virtual machine through libvirt, with a kernel of its own, booting the same root filesystem.",
    "vm-restore": "The same virtual machine, restored from a saved state instead of booted.",
}


@dataclass(frozen=True, slots=True)
class MetricText:
    """How a metric is spoken of.

    `comparison` and `cost` take {low}, {high} (nouns of the targets with the lower and higher value) and
    {ratio}; the first speaks for the better one, the second of what the other costs. `single` takes
    {target} and {value}. All are clauses that may follow "On this host".
    """

    title: str
    definition: str
    comparison: str
    cost: str
    single: str


METRICS = {
    "startup.ready": MetricText(
        "Start until ready",
        "From the request to the moment at which the workload counts as ready, as its scenario defines it.",
        "{low} starts {ratio} faster than {high}",
        "{high} takes {ratio} as long to start as {low}",
        "{target} is ready after {value}",
    ),
    "startup.exec": MetricText(
        "Start until the first instruction",
        "From the request to the first instruction of the workload.",
        "{low} runs the workload’s first instruction {ratio} sooner than {high}",
        "{high} takes {ratio} as long to its first instruction as {low}",
        "{target} runs the workload’s first instruction after {value}",
    ),
    "startup.ahead": MetricText(
        "Prepared ahead of the clock",
        "What was done for this one instance before the request; no part of its start.",
        "{low} takes {ratio} less preparation than {high}",
        "{high} takes {ratio} the preparation of {low}",
        "{target} is prepared within {value}",
    ),
    "teardown": MetricText(
        "Teardown",
        "From the request to stop until the instance is gone and nothing of it is left.",
        "{low} is gone {ratio} sooner than {high}",
        "{high} takes {ratio} as long to be gone as {low}",
        "{target} is gone {value} after the request to stop",
    ),
    "restart": MetricText(
        "Restart",
        "From the request to stop an instance until the next one of the same workload is ready.",
        "{low} restarts {ratio} faster than {high}",
        "{high} takes {ratio} as long to restart as {low}",
        "{target} is ready again {value} after the request to stop",
    ),
    "memory.host.pss": MetricText(
        "Host memory at ready (PSS)",
        "Proportional set size of all host processes of the instance at ready, QEMU and helpers included.",
        "{high} takes {ratio} the host memory of {low}",
        "{high} takes {ratio} the host memory of {low}",
        "{target} takes {value} of host memory",
    ),
    "memory.host.cgroup": MetricText(
        "Host memory at ready (cgroup)",
        "What the kernel has charged to the instance’s own cgroup at ready, page cache and kernel included.",
        "{high} is charged {ratio} the memory of {low}",
        "{high} is charged {ratio} the memory of {low}",
        "{target} is charged {value}",
    ),
    "memory.host.uss": MetricText(
        "Host memory of its own (USS)",
        "Pages that only this instance’s processes have: what the host would get back if it ended.",
        "{high} holds {ratio} the memory of {low} for itself",
        "{high} holds {ratio} the memory of {low} for itself",
        "{target} holds {value} for itself",
    ),
    "memory.host.rss": MetricText(
        "Resident memory (RSS)",
        "Resident set size over all processes of the instance; a page that several share counts in each.",
        "{high} has {ratio} the resident memory of {low}",
        "{high} has {ratio} the resident memory of {low}",
        "{target} has {value} resident",
    ),
    "memory.host.mapped": MetricText(
        "Address space",
        "All that the instance’s processes have mapped, touched or not; costs next to nothing by itself.",
        "{high} maps {ratio} as much as {low}",
        "{high} maps {ratio} as much as {low}",
        "{target} maps {value}",
    ),
    "memory.host.guest": MetricText(
        "Guest’s memory, resident on the host",
        "What of the guest’s memory is backed by the host’s: touched by the guest and not given back.",
        "the guest of {high} has touched {ratio} the memory of {low}",
        "the guest of {high} has touched {ratio} the memory of {low}",
        "the guest of {target} has touched {value}",
    ),
    "memory.vmm": MetricText(
        "Monitor’s own memory",
        "Private pages of the virtual machine monitor beside the guest’s memory, translated code included.",
        "the monitor of {high} takes {ratio} the memory of that of {low}",
        "the monitor of {high} takes {ratio} the memory of that of {low}",
        "the monitor of {target} takes {value} beside its guest’s memory",
    ),
    "memory.guest.used": MetricText(
        "Memory used, as the guest sees it",
        "What the guest itself counts as used at ready; not comparable with what the host pays.",
        "the guest of {high} uses {ratio} the memory of {low}",
        "the guest of {high} uses {ratio} the memory of {low}",
        "the guest of {target} uses {value}",
    ),
    "memory.guest.total": MetricText(
        "Memory of the guest, as it sees it",
        "What the guest’s kernel manages: the machine’s memory without the kernel’s own image.",
        "the guest of {high} has {ratio} the memory of {low}",
        "the guest of {high} has {ratio} the memory of {low}",
        "the guest of {target} has {value}",
    ),
    "memory.guest.kernel": MetricText(
        "Memory of the guest’s kernel",
        "What the guest’s kernel takes for itself, its image included, as the guest counts it.",
        "the kernel of {high} takes {ratio} the memory of that of {low}",
        "the kernel of {high} takes {ratio} the memory of that of {low}",
        "the kernel of {target} takes {value}",
    ),
    "memory.host.merged": MetricText(
        "Memory shared by merging (KSM)",
        "Pages that the host’s kernel has found to be equal and keeps once; none where that is off.",
        "{high} has {ratio} the merged pages of {low}",
        "{high} has {ratio} the merged pages of {low}",
        "{target} has {value} merged",
    ),
    "memory.vmm.files": MetricText(
        "Monitor’s unchanged file pages",
        "The part of the monitor’s own memory that is pages of files: guests side by side share them.",
        "the monitor of {high} holds {ratio} the file pages of that of {low}",
        "the monitor of {high} holds {ratio} the file pages of that of {low}",
        "the monitor of {target} holds {value} of files",
    ),
    "memory.vmm.code": MetricText(
        "Monitor’s translated code",
        "The part of the monitor’s own memory in which TCG keeps the guest’s code translated; KVM has none.",
        "the monitor of {high} holds {ratio} the translated code of that of {low}",
        "the monitor of {high} holds {ratio} the translated code of that of {low}",
        "the monitor of {target} holds {value} of translated code",
    ),
    "ports.answering": MetricText(
        "Servers that answer at once on one port",
        "Of the instances that were started with the same port, those that answered while all of them lived.",
        "{high} has {ratio} the answering servers of {low}",
        "{high} has {ratio} the answering servers of {low}",
        "of the servers in {target}, {value} answer at once",
    ),
    "ports.conflicts": MetricText(
        "Servers whose port was taken",
        "Instances that could not have their port because an earlier one of the same kind had it.",
        "{high} has {ratio} the conflicts of {low}",
        "{high} has {ratio} the conflicts of {low}",
        "of the servers in {target}, {value} found their port taken",
    ),
    "coexistence.alive": MetricText(
        "Unlike systems alive at once",
        "Instances of different images that were alive together.",
        "{high} runs {ratio} the systems of {low}",
        "{high} runs {ratio} the systems of {low}",
        "{target} runs {value} unlike systems at once",
    ),
    "coexistence.different": MetricText(
        "Different answers of unlike systems",
        "How many different answers they gave to the same question; the qualifiers have the answers.",
        "{high} gives {ratio} the answers of {low}",
        "{high} gives {ratio} the answers of {low}",
        "{target} gives {value} different answers",
    ),
    "layers.cache": MetricText(
        "Page cache of many instances, together",
        "What the host, and each guest besides, keeps in memory of the files that the instances run from.",
        "{high} takes {ratio} the page cache of {low}",
        "{high} takes {ratio} the page cache of {low}",
        "the instances of {target} take {value} of page cache together",
    ),
    "layers.disk": MetricText(
        "Disk of many instances, together",
        "What the files take on disk that the instances run from.",
        "{high} takes {ratio} the disk of {low}",
        "{high} takes {ratio} the disk of {low}",
        "the instances of {target} take {value} of disk together",
    ),
    **{name: MetricText(*texts) for name, texts in WORK_TEXTS.items()},
    **{name: MetricText(*texts) for name, texts in LOAD_TEXTS.items()},
}

SWEPT = {"instances": "instances alive", "concurrency": "starts at once", "neighbour": "beside"}
"""Parameters that a measurement goes through by itself, in words."""
COMPANIONS = (".low", ".high", ".fit")
"""Ends of metrics that only say how sure another one is: an interval's ends, and R² of a line."""


def companion_of(metric: str) -> str:
    """The metric that this one only completes; empty if it stands for itself."""
    return next((metric.removesuffix(end) for end in COMPANIONS if metric.endswith(end)), "")


METRICS["isolation.leak_index"] = MetricText(
    "Leak index",
    "Of what probes of the audit could leak, weighed by severity, the share that does, from 0 to 100.",
    "{high} has {ratio} the leak index of {low}",
    "{high} has {ratio} the leak index of {low}",
    "{target} has a leak index of {value}",
)

MARK_MEANINGS = {
    "request": "The harness asks for the instance; the clock starts. Everything that can be prepared was.",
    "vmm": "The virtual machine monitor is up, just before the guest’s first instruction.",
    "firmware": "The guest’s firmware has handed over.",
    "kernel": "The guest’s kernel has booted and starts its first process.",
    "restored": "A restored guest’s first process runs again.",
    "preparing": "The runtime begins to make the sandbox.",
    "clone": "The new process runs its first instruction, in the namespaces that its target gives it.",
    "identity": "Its users are mapped to ids of the host’s, and it has been told so.",
    "sandbox": "What surrounds the workload stands (nothing does for a bare process); execve has succeeded.",
    "exec": "The first instruction of the workload runs.",
    "ready": "The workload is ready, as its scenario defines it: its first instruction or a line of output. "
    "For a restored guest: it has an identity of its own, and its workload goes on.",
    "stopping": "The harness asks the instance to stop.",
    "stopped": "The instance is gone and that was verified.",
}

_QUALIFIER_TEXTS = {
    ("accel", "tcg"): TCG,
    ("accel", "kvm"): KVM,
    ("start", "restore"): "restored from a saved state",
    ("limits", "none"): "no limits applied",
    ("isolation", "none"): "no isolation",
    ("cgroup", "none"): "no cgroup of its own",
    ("rootless", "yes"): "rootless",
    ("image-ids", "unmapped"): "owners of the image’s files not mapped",
    ("pretended", "yes"): "pretended, not measured",
    ("sysinfo", "host"): "sysinfo(2) tells the host’s figures",
    ("sysinfo", "refused"): "sysinfo(2) refused",
    ("cpu-latency", "0 us"): "idle processors kept awake",
    ("cpu-latency", "refused"): "wake-up of idle processors not bounded: refused",
    ("cpu-latency", "without effect"): "wake-up of idle processors not bounded: this kernel cannot",
}
UNSPOKEN_QUALIFIERS = frozenset({"image", "readiness", "kind", "looks", "spread"})
"""Recorded with every sample and listed under validity, but not beside each number."""
CAVEAT_KEYS = frozenset({"accel", "degraded", "limits", "image-ids", "rootless", "pretended"})
CAVEATS = frozenset({("cgroup", "none")})
"""What changes the meaning of a number so much that no sentence may leave it out."""


def target_order(name: str) -> tuple[int, str]:
    """Sorting key: the known targets from bare to heavy, then the others by name."""
    return (TARGET_ORDER.index(name) if name in TARGET_ORDER else len(TARGET_ORDER), name)


def metric_order(name: str) -> tuple[int, str]:
    """Sorting key: the known metrics as they are listed here, then the others by name."""
    known = tuple(METRICS)
    return (known.index(name) if name in known else len(known), name)


def shown_unit(metric: str, unit: str) -> str:
    """The unit that a metric is shown in: `×` for a multiple, which is stored as a number without a unit."""
    return TIMES if metric in MULTIPLES else unit


def metric_text(name: str) -> MetricText:
    """The metric's words; an unknown one is spoken of by its own name."""
    if name in METRICS:
        return METRICS[name]
    label = one_line(name)
    literal = label.replace("{", "{{").replace("}", "}}")
    comparison = f"{literal} of {{high}} is {{ratio}} that of {{low}}"
    return MetricText(
        label,
        "",
        comparison,
        comparison,
        f"{literal} of {{target}} is {{value}}",
    )


def phase_name(metric: str) -> str:
    """The last part of `startup.phase.<name>`."""
    return metric.removeprefix(PHASE_PREFIX)


def qualifier_text(key: str, value: str) -> str:
    """One qualifier in words; TCG is always called TCG emulation."""
    if (key, value) in _QUALIFIER_TEXTS:
        return _QUALIFIER_TEXTS[key, value]
    if key in {"degraded", "limits"}:
        return f"{key}: {one_line(value, 120)}"
    return f"{one_line(key)}={one_line(value)}"


@dataclass(frozen=True, slots=True)
class Said:
    """The qualifiers of a cell in words: `caveats` belong beside every number, `details` into its table."""

    caveats: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def said(cells: Iterable[Mapping[str, str]]) -> Said:
    """What must be said beside a number, from the qualifiers of all its samples.

    A qualifier that some of the samples lack or that differs between them is said to be mixed.
    """
    # Samples share their qualifiers by the thousand.
    samples = list({id(qualifiers): qualifiers for qualifiers in cells}.values())
    caveats: list[str] = []
    details: list[str] = []
    for key in sorted({key for qualifiers in samples for key in qualifiers} - UNSPOKEN_QUALIFIERS):
        values = sorted({qualifiers[key] for qualifiers in samples if key in qualifiers})
        words = [qualifier_text(key, value) for value in values]
        if not all(key in qualifiers for qualifiers in samples):
            words.append(f"no {one_line(key)}")
        text = words[0] if len(words) == 1 else "mixed: " + ", ".join(words)
        is_caveat = key in CAVEAT_KEYS or any((key, value) in CAVEATS for value in values)
        (caveats if is_caveat else details).append(text)
    return Said(tuple(caveats), tuple(details))


def noun(target: str, caveats: Iterable[str] = ()) -> str:
    """The target in a sentence with what must be said about it, e.g. `the VM (TCG emulation)`."""
    remarks = "; ".join(caveats)
    name = TARGET_NOUNS.get(target, one_line(target, 40))
    return f"{name} ({remarks})" if remarks else name
