"""What an emulated guest is told of its processor's counter."""

from __future__ import annotations

import pytest

from pybench.runtime.vm.command_line import COMMAND_LINE, command_line
from pybench.runtime.vm.counter import counter_frequency, parse_frequency

CPUINFO = (
    "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nopl\nbogomips\t: 5192.26\n\n"
    "processor\t: 1\nbogomips\t: 1.0\n"
)


def test_the_counter_runs_at_half_the_bogomips_of_the_first_processor() -> None:
    """In kHz, of a host that keeps its own time by the counter."""
    assert parse_frequency(CPUINFO, "tsc") == 2_596_130
    assert parse_frequency(CPUINFO, "kvm-clock") == 2_596_130


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        (CPUINFO, "hpet"),
        (CPUINFO.replace("constant_tsc ", ""), "tsc"),
        (CPUINFO.replace("5192.26", "nan"), "tsc"),
        (CPUINFO.replace("5192.26", "48.00"), "tsc"),
        (CPUINFO.replace("bogomips", "BogoMIPS"), "tsc"),
        ("", "tsc"),
    ],
)
def test_no_frequency_is_made_up(text: str, clock: str) -> None:
    """Where the host's kernel does not vouch for its counter, or names no plausible speed."""
    assert parse_frequency(text, clock) is None


def test_kvm_tells_its_guests_by_itself() -> None:
    """A guest under KVM is told nothing of the counter, an emulated one what this host knows."""
    assert command_line("kvm", "q35") == COMMAND_LINE
    frequency = counter_frequency()
    told = f"{COMMAND_LINE} tsc_early_khz={frequency} tsc=reliable" if frequency else COMMAND_LINE
    assert command_line("tcg", "q35") == told
