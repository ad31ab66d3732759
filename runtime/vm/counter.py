"""How fast the counter of an emulated guest's processor runs: as the host's own.

Under TCG on x86, RDTSC in the guest is RDTSC on the host (cpu_get_host_ticks in QEMU's include/qemu/timer.h).
A guest's kernel that is not told finds out against another clock, which takes 0.15 s more where the host
disturbs that, and is impossible on a machine without another clock, such as QEMU's `microvm`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PROCESSORS: Final = Path("/proc/cpuinfo")
_CLOCK: Final = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_SLOWEST: Final = 100_000
_FASTEST: Final = 20_000_000
"""kHz; anything else is no processor's counter."""
_CLOCKS_OF_THE_COUNTER: Final = frozenset({"tsc", "kvm-clock"})
"""Clocks for which the kernel trusts the counter to run evenly, and knows its frequency."""


def counter_frequency() -> int | None:
    """The host's counter, in kHz; None where its kernel does not vouch for it.

    BogoMIPS are twice the counter's MHz, in hundredths, once the kernel's delays count by it (`lpj_fine` in
    arch/x86/kernel/tsc.c, `show_cpuinfo` in arch/x86/kernel/cpu/proc.c).
    """
    try:
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
        clock = _CLOCK.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return parse_frequency(text, clock)


def parse_frequency(cpuinfo: str, clock: str) -> int | None:
    """As `counter_frequency`, of the text of /proc/cpuinfo and the name of the host's clock."""
    first = cpuinfo.partition("\n\n")[0]
    parts = [line.partition(":") for line in first.splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in parts}
    if clock not in _CLOCKS_OF_THE_COUNTER or "constant_tsc" not in fields.get("flags", "").split():
        return None
    try:
        kilohertz = round(float(fields["bogomips"]) * 1000 / 2)
    except (KeyError, ValueError, OverflowError):
        return None
    return kilohertz if _SLOWEST <= kilohertz <= _FASTEST else None
