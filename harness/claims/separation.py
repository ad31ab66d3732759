"""Claims about what containers share with their host and with one another: what the audit's probes imply."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.model import Outcome
from pybench.harness.claims.evidence import told
from pybench.harness.claims.model import Claim, Finding, Verdict, judged_by, undecided
from pybench.harness.gate.verdicts import ERROR, LEAK

if TYPE_CHECKING:
    from pybench.harness.claims.evidence import Answer, Evidence

ISOLATED: Final = Outcome.ISOLATED.value
SHARED: Final = Outcome.SHARED.value


def is_isolated(evidence: Evidence, probes: tuple[str, ...]) -> Finding:
    """No probe finds a leak in any container, and each of them could look."""
    answers = evidence.answers(probes, "container")
    if missing := [probe for probe in probes if probe not in {each.probe for each in answers}]:
        return undecided(f"it takes the probes {', '.join(missing)} on a container (`measure: [isolation]`)")
    lines = tuple(_line(each) for each in answers)
    if any(each.outcome == LEAK for each in answers):
        return Finding(Verdict.REFUTED, lines)
    if any(each.outcome == ERROR for each in answers):
        return Finding(Verdict.UNDECIDED, lines)
    limits = tuple(_line(each) for each in answers if each.outcome != ISOLATED)
    return judged_by(any(each.outcome == ISOLATED for each in answers), lines, limits)


def shares_the_kernel(evidence: Evidence) -> Finding:
    """A container's kernel is the host's, and a machine's is not."""
    containers, machines = (evidence.answers(("K1",), kind) for kind in ("container", "vm"))
    if not containers or not machines:
        return undecided(
            "it takes the probe K1 on a container and on a virtual machine (`measure: [isolation]`)"
        )
    answers = [*containers, *machines]
    lines = tuple(_line(each) for each in answers)
    if any(each.outcome == ERROR for each in answers):
        return Finding(Verdict.UNDECIDED, lines)
    return judged_by(
        all(each.outcome in {SHARED, LEAK} for each in containers)
        and all(each.outcome == ISOLATED for each in machines),
        lines,
    )


def is_an_ordinary_process(evidence: Evidence) -> Finding:
    """The host sees a container's processes as its own, and not a machine's."""
    containers, machines = (evidence.answers(("P7",), kind) for kind in ("container", "vm"))
    if not containers:
        return undecided("it takes the probe P7 on a container (`measure: [isolation]`)")
    lines = tuple(_line(each) for each in (*containers, *machines))
    if any(each.outcome == ERROR for each in (*containers, *machines)):
        return Finding(Verdict.UNDECIDED, lines)
    return judged_by(all(each.outcome in {SHARED, LEAK} for each in containers), lines)


def ports_never_clash(evidence: Evidence) -> Finding:
    """Every one of several servers on one port answers, in containers; without them all but one fail."""
    parts = {
        what: evidence.figure(f"ports.{what}", "container") for what in ("answering", "conflicts", "asked")
    }
    if any(part is None for part in parts.values()):
        return undecided("it takes several containers with one port (`measure: [ports]`)")
    answering, conflicts, asked = (part for part in parts.values() if part is not None)
    lines = [f"{each.metric}: {told(each)}" for each in (answering, conflicts, asked)]
    controls = [
        *evidence.figures("ports.conflicts", "process"),
        *evidence.figures("ports.conflicts", "chroot"),
    ]
    lines += [f"as a control, {each.metric}: {told(each)}" for each in controls]
    if not any(each.median > 0 for each in controls):
        lines.append("nothing shows that the port clashes without containers: add the target chroot")
        return Finding(Verdict.UNDECIDED, tuple(lines))
    return judged_by(conflicts.median == 0 and answering.median == asked.median, tuple(lines))


def another_distribution(evidence: Evidence) -> Finding:
    """Instances of unlike images lived together, each told of its own, and no file of the host changed."""
    parts = [
        evidence.figure(f"coexistence.{what}", "container") for what in ("alive", "different", "host.changes")
    ]
    alive, different, changes = parts
    if alive is None or different is None or changes is None:
        return undecided("it takes containers of unlike images (`measure: coexistence`, as in `distro`)")
    lines = tuple(f"{each.metric}: {told(each)}" for each in (alive, different, changes))
    return judged_by(different.median == alive.median > 1 and changes.median == 0, lines)


def _line(answer: Answer) -> str:
    return f"{answer.text} ({answer.reason})" if answer.reason else answer.text


def _probed(*probes: str) -> Callable[[Evidence], Finding]:
    return partial(is_isolated, probes=probes)


SEPARATION: Final = (
    Claim("ordinary-process", "A container is an ordinary process of the host.", is_an_ordinary_process),
    Claim(
        "same-kernel", "Containers share the host's kernel; a virtual machine has its own.", shares_the_kernel
    ),
    Claim(
        "own-processes",
        "A container sees no process but its own, nor can it signal another.",
        _probed("P1", "P2", "P4", "P5", "P6"),
    ),
    Claim(
        "own-root",
        "A container has a root of its own, who is not the host's.",
        _probed("U1", "U3", "U4", "U6"),
    ),
    Claim("own-users", "User and group ids of containers do not collide.", _probed("U2", "U7")),
    Claim("own-files", "A container has its own file tree and no way out of it.", _probed("M1", "M2", "M3")),
    Claim("fixed-hosts", "/etc/hosts is read-only even for a container's root.", _probed("M5")),
    Claim(
        "own-network",
        "A container has its own network: neither the host's interfaces nor its sockets are within reach.",
        _probed("N1", "N4", "N5", "N6"),
    ),
    Claim(
        "no-port-clash", "Ports of containers never clash, since each has its own address.", ports_never_clash
    ),
    Claim(
        "limits-hold",
        "Limits on a container's processors, memory and processes hold.",
        _probed("R1", "R2", "R4"),
    ),
    Claim(
        "own-distribution",
        "A whole other distribution fits in a directory, and runs from it as if it were alone.",
        another_distribution,
    ),
)
