"""The guest kernel's command line: what each argument is for.

The same on KVM and under emulation, so that a verdict on acceleration holds for what is measured; beside it
an emulated guest is told only what KVM tells by itself.
Nothing here weakens the guest: no mitigation, check of memory or protection is switched off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pybench.runtime.vm.counter import counter_frequency
from pybench.runtime.vm.domain import MICROVM

if TYPE_CHECKING:
    from pybench.runtime.vm.domain import Acceleration

ARGUMENTS: Final = (
    # Kernel messages go to the first serial line, where a panic is seen; `quiet` keeps the rest off it,
    # because every byte is an exit to QEMU.
    "console=ttyS0",
    "quiet",
    # init comes with the initramfs, next to the image's own files.
    "rdinit=/.pybench/init",
    # A panic resets at once, and the domain ends on a reset: nobody waits for a guest that is dead.
    "panic=-1",
    # Tests of the kernel's own ciphers, off in kernels built with upstream's default
    # (CONFIG_CRYPTO_MANAGER_DISABLE_TESTS=y): they are some 0.2 s of an emulated start.
    "cryptomgr.notests",
    # Patching the lock prefixes away for one processor is 0.1 s of an emulated start, since each patch
    # throws translated code away; leaving them costs next to nothing.
    "noreplace-smp",
    # Whether the timer's interrupt arrives is tried for four ticks otherwise. On KVM a kernel leaves that out
    # by itself (paravirt_ops_setup in arch/x86/kernel/kvm.c); an emulated one has to be told.
    "no_timer_check",
)

COMMAND_LINE: Final = " ".join(ARGUMENTS)
"""What an image's kernel is always told."""


def command_line(acceleration: Acceleration, machine: str) -> str:
    """All that a guest's kernel is told on this host.

    Emulated, how fast its counter runs, as far as the host knows, and that it can be trusted as on the host;
    KVM tells its guests by itself (kvmclock). The kernel goes on to refine the figure where the machine has
    a clock to do so, but does not give the counter up for an emulation that was held up.
    """
    arguments = [COMMAND_LINE]
    if machine == MICROVM:
        # A reset is asked of the keyboard controller first, which this machine lacks: seconds of waiting.
        arguments.append("reboot=triple")
    if acceleration == "tcg" and (frequency := counter_frequency()) is not None:
        arguments += [f"tsc_early_khz={frequency}", "tsc=reliable"]
    return " ".join(arguments)
