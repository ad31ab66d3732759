"""Claims about what containers and virtual machines cost: start, memory, disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pybench.harness.claims.evidence import is_emulated, told
from pybench.harness.claims.model import Claim, Finding, judged_by, undecided
from pybench.harness.units import format_value

if TYPE_CHECKING:
    from pybench.harness.claims.evidence import Evidence
    from pybench.harness.model import Estimate

FAR_FASTER: Final = 5.0
"""From here on one start is called far faster than another."""
MOST_OF: Final = 0.5
KERNEL_PHASES: Final = ("startup.phase.kernel", "startup.phase.sandbox")
"""From the monitor's hand-over to the guest's first program, and on to where the workload is started."""
EMULATION: Final = (
    "the virtual machine ran under TCG emulation; with hardware virtualization it would start sooner, so the "
    "factor holds for this host alone"
)


def starts_far_faster(evidence: Evidence) -> Finding:
    """The whole interval of the container's start lies far below that of the machine's."""
    container, machine = (evidence.figure("startup.ready", kind) for kind in ("container", "vm"))
    if container is None or machine is None:
        return undecided("it takes the start of a container and of a virtual machine (`measure: [startup]`)")
    factor = machine.median / container.median
    least = machine.ci_low / container.ci_high
    said = f"the machine takes {_times(factor)} as long, at least {_times(least)}"
    limits = (EMULATION,) if is_emulated(machine) else ()
    if 1 < least < FAR_FASTER:
        limits = (*limits, f"it is faster, but not {FAR_FASTER:g} times")
    return judged_by(least > 1, (told(container), told(machine), said), limits)


def _times(factor: float) -> str:
    """E.g. `1020 times`: to three digits, and never as a power of ten below a million."""
    return f"{format_value(float(f'{factor:.3g}'), '')} times"


def kernel_is_the_reason(evidence: Evidence) -> Finding:
    """Most of a machine's start passes while its own kernel and user space boot."""
    total = evidence.figure("startup.ready", "vm")
    phases = [each for each in evidence.phases("vm") if total is None or each.target == total.target]
    booting = [each for each in phases if each.metric in KERNEL_PHASES]
    if total is None or not booting:
        return undecided("it takes the phases of a virtual machine's start (`measure: [startup]`)")
    share = sum(each.median for each in booting) / total.median
    lines = tuple(f"{each.metric}: {told(each)}" for each in booting)
    said = f"{share:.0%} of {told(total)} is the boot of its kernel and user space"
    return judged_by(share > MOST_OF, (*lines, said), (EMULATION,) if is_emulated(total) else ())


def takes_less_memory(evidence: Evidence) -> Finding:
    """The host's memory for a container is less than for a machine."""
    container, machine = (evidence.figure("memory.host.pss", kind) for kind in ("container", "vm"))
    if container is None or machine is None:
        return undecided("it takes the memory of a container and of a virtual machine (`measure: [memory]`)")
    said = f"the machine takes {_times(machine.median / container.median)} as much"
    return judged_by(machine.ci_low > container.ci_high, (told(container), told(machine), said))


def shares_layers(evidence: Evidence) -> Finding:
    """Several containers of an image take less disk and page cache than copies of it would."""
    parts: list[tuple[Estimate, Estimate]] = []
    for what in ("layers.disk", "layers.cache"):
        shared, copies = (evidence.figure(name, "container") for name in (what, f"{what}.copies"))
        if shared is None or copies is None:
            return undecided("it takes several containers of one image (`measure: [layers]`)")
        parts.append((shared, copies))
    lines = tuple(f"{shared.metric}: {told(shared)}, as copies {told(copies)}" for shared, copies in parts)
    return judged_by(all(shared.median < copies.median for shared, copies in parts), lines)


COST: Final = (
    Claim("starts-far-faster", "A container starts far faster than a virtual machine.", starts_far_faster),
    Claim(
        "no-second-kernel",
        "A virtual machine starts slowly because a second kernel boots in it.",
        kernel_is_the_reason,
    ),
    Claim("less-memory", "A container takes less memory than a virtual machine.", takes_less_memory),
    Claim(
        "shared-layers",
        "Images are layers that an overlay merges, so that containers of one image share its files.",
        shares_layers,
    ),
)
