"""The words for what instances get done: throughput, networks and limits.

For each metric its title, its definition, what is said of a comparison (the better one, then what the other
costs) and of a single value; see `vocabulary.MetricText`.
"""

from __future__ import annotations

Texts = tuple[str, str, str, str, str]


def _more(title: str, definition: str, deed: str) -> Texts:
    """Of a rate: `deed` completes "a container …", e.g. `computes`."""
    return (
        title,
        definition,
        f"{{high}} {deed} {{ratio}} as fast as {{low}}",
        f"{{high}} {deed} {{ratio}} as fast as {{low}}",
        f"{{target}} {deed} at {{value}}",
    )


def _longer(title: str, definition: str, what: str) -> Texts:
    """Of a duration: `what` completes "… of a container"."""
    return (
        title,
        definition,
        f"{what} of {{high}} takes {{ratio}} that of {{low}}",
        f"{what} of {{high}} takes {{ratio}} that of {{low}}",
        f"{what} of {{target}} takes {{value}}",
    )


def _held(title: str, definition: str) -> Texts:
    """Of a limit that was tried."""
    return (
        title,
        definition,
        "{high} gets {ratio} what {low} gets within the same limit",
        "{high} gets {ratio} what {low} gets within the same limit",
        "{target} gets {value} within the limit",
    )


WORK_TEXTS: dict[str, Texts] = {
    "throughput.cpu": _more(
        "Computing, integers",
        "Operations that each need the one before, on one processor, each second.",
        "computes",
    ),
    "throughput.cpu.float": _more(
        "Computing, floating point",
        "Operations of double precision that each need the one before, on one processor, each second.",
        "computes with floating point",
    ),
    "throughput.memory.read": _more(
        "Memory, reading",
        "Bytes read each second, in order, of a buffer larger than the caches.",
        "reads memory",
    ),
    "throughput.memory.write": _more(
        "Memory, writing",
        "Bytes written each second, in order, to a buffer larger than the caches.",
        "writes memory",
    ),
    "throughput.memory.copy": _more(
        "Memory, copying",
        "Bytes copied each second from one buffer to another, both larger than the caches.",
        "copies memory",
    ),
    "throughput.syscall": _more(
        "System calls",
        "Calls of getppid each second, which do next to nothing: entering the kernel and leaving it.",
        "makes system calls",
    ),
    "throughput.switch": _more(
        "Switches between processes",
        "Switches each second between two processes on one processor that pass a byte to and fro.",
        "switches between processes",
    ),
    "throughput.file.sequential.read": _more(
        "Disk, reading in order",
        "Bytes read each second in blocks of 1 MiB, past the page cache.",
        "reads from the disk",
    ),
    "throughput.file.sequential.write": _more(
        "Disk, writing in order",
        "Bytes written each second in blocks of 1 MiB, past the page cache.",
        "writes to the disk",
    ),
    "throughput.file.random.read": _more(
        "Disk, reading at random",
        "Blocks of 4 KiB read each second at random places, one at a time, past the page cache.",
        "reads blocks at random",
    ),
    "throughput.file.random.write": _more(
        "Disk, writing at random",
        "Blocks of 4 KiB written each second at random places, one at a time, past the page cache.",
        "writes blocks at random",
    ),
    "throughput.file.fsync": _more(
        "Disk, durable writes",
        "Blocks of 4 KiB each second that were written and, by fsync, are on the disk.",
        "writes durably",
    ),
    "latency.file.random.read.p99": _longer(
        "Disk, slowest random reads (p99)",
        "99th percentile of the duration of one read of 4 KiB, by the clock inside.",
        "one in a hundred random reads",
    ),
    "latency.file.random.write.p99": _longer(
        "Disk, slowest random writes (p99)",
        "99th percentile of the duration of one write of 4 KiB, by the clock inside.",
        "one in a hundred random writes",
    ),
    "latency.file.fsync.p99": _longer(
        "Disk, slowest durable writes (p99)",
        "99th percentile of the duration of one write of 4 KiB with its fsync, by the clock inside.",
        "one in a hundred durable writes",
    ),
    "network.latency.inside": _longer(
        "Round trip inside",
        "Median time of a byte there and back over TCP on the instance’s loopback interface.",
        "a round trip inside",
    ),
    "network.latency.host": _longer(
        "Round trip from the host",
        "Median time of a byte from the host to the instance and back over TCP.",
        "a round trip from the host",
    ),
    "network.latency.between": _longer(
        "Round trip between two instances",
        "Median time of a byte from one instance to another and back over TCP.",
        "a round trip between two instances",
    ),
    "network.latency.inside.p99": _longer(
        "Slowest round trips inside (p99)",
        "99th percentile of such round trips.",
        "one in a hundred round trips inside",
    ),
    "network.latency.host.p99": _longer(
        "Slowest round trips from the host (p99)",
        "99th percentile of such round trips.",
        "one in a hundred round trips from the host",
    ),
    "network.latency.between.p99": _longer(
        "Slowest round trips between two instances (p99)",
        "99th percentile of such round trips.",
        "one in a hundred round trips between two instances",
    ),
    "network.throughput.inside": _more(
        "Network, inside",
        "Bytes each second over TCP on the instance’s loopback interface.",
        "sends to itself",
    ),
    "network.throughput.to": _more(
        "Network, host to instance",
        "Bytes each second over TCP from the host to the instance.",
        "receives from the host",
    ),
    "network.throughput.from": _more(
        "Network, instance to host",
        "Bytes each second over TCP from the instance to the host.",
        "sends to the host",
    ),
    "network.throughput.between": _more(
        "Network, between two instances",
        "Bytes each second over TCP from one instance to another.",
        "sends to another instance",
    ),
    "limits.cpu": _held(
        "Processors within the limit",
        "Processors’ worth of time that workers who want more have got, as the host counts.",
    ),
    "limits.cpu.share": _held(
        "Processors, as a share of the limit",
        "What was got, divided by the limit: 1 is exact, more is not held.",
    ),
    "limits.cpu.inside": _held(
        "Processors within the limit, counted inside",
        "The same, as the kernel inside counts; a guest does not see what its monitor takes.",
    ),
    "limits.memory": _held(
        "Memory within the limit",
        "How far an attempt got that wanted half as much again as is allowed.",
    ),
    "limits.memory.share": _held(
        "Memory, as a share of the limit",
        "How far the attempt got, divided by the limit; the rest is what the workload itself takes.",
    ),
    "limits.memory.outside": _held(
        "Killed outside for it",
        "Processes outside the instance that the host’s kernel killed for want of memory meanwhile.",
    ),
    "limits.processes": _held(
        "Processes within the limit",
        "How many could be started beside the workload and the one that tries.",
    ),
    "limits.processes.share": _held(
        "Processes, as a share of the limit",
        "How many could be started, divided by the limit.",
    ),
}
