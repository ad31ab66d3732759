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
}
