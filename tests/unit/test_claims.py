"""Claims: each verdict follows from the samples, and nothing is concluded from what was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from pybench.harness.audit.model import Outcome
from pybench.harness.audit.record import VALUES
from pybench.harness.claims import CLAIMS, Verdict, declared, judge
from pybench.harness.model import Sample


def samples(metric: str, target: str, values: Sequence[float], **more: str) -> list[Sample]:
    """One cell."""
    return [
        Sample("w", target, metric, "s", value, number, False, number, "pipe", 1e-6, qualifiers=more)
        for number, value in enumerate(values)
    ]


def answer(probe: str, target: str, outcome: Outcome) -> Sample:
    """One verdict of the audit."""
    value = VALUES.get(outcome)
    return Sample(
        "audit", target, f"isolation.{probe}", "verdict", value, 0, False, 0, "audit", 0.0,
        qualifiers={"verdict": outcome}, status="failed" if value is None else "ok", reason="seen\nmuch",
    )  # fmt: skip


def verdict(claim: str, found: Iterable[Sample]) -> Verdict:
    """Of one claim."""
    (judged,) = judge([claim], list(found))
    assert judged.finding.evidence
    return judged.verdict


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_measurements_nothing_is_decided(claim: str) -> None:
    """A claim of which nothing was measured is undecided, and says what it takes."""
    (judged,) = judge([claim], [])
    assert judged.verdict is Verdict.UNDECIDED
    assert "it takes" in judged.finding.evidence[0]


@pytest.mark.parametrize(
    ("machine", "accel", "expected"),
    [
        (1.0, "kvm", Verdict.CONFIRMED),
        (1.0, "tcg", Verdict.LIMITED),
        (0.03, "kvm", Verdict.LIMITED),
        (0.01, "kvm", Verdict.REFUTED),
        (0.001, "kvm", Verdict.REFUTED),
    ],
)
def test_a_container_starts_faster_by_how_much(machine: float, accel: str, expected: Verdict) -> None:
    """Far faster, under emulation, a little faster, alike, slower."""
    spread = [1 + 0.001 * number for number in range(20)]
    found = samples("startup.ready", "container", [0.01 * each for each in spread])
    found += samples("startup.ready", "vm", [machine * each for each in spread], accel=accel)
    assert verdict("starts-far-faster", found) is expected


def test_a_factor_of_thousands_is_written_out() -> None:
    """A factor has three digits of its own and is no power of ten."""
    found = samples("startup.ready", "container", [0.001] * 20) + samples(
        "startup.ready", "vm", [7.6584] * 20
    )
    (judged,) = judge(["starts-far-faster"], found)
    assert judged.finding.evidence[2] == "the machine takes 7660 times as long, at least 7660 times"


@pytest.mark.parametrize(("kernel", "expected"), [(0.8, Verdict.CONFIRMED), (0.2, Verdict.REFUTED)])
def test_a_kernel_is_the_reason_if_most_time_goes_there(kernel: float, expected: Verdict) -> None:
    """The share of the phases in which the guest boots decides."""
    found = samples("startup.ready", "vm", [1.0] * 8, accel="kvm")
    found += samples("startup.phase.kernel", "vm", [kernel] * 8, accel="kvm")
    assert verdict("no-second-kernel", found) is expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((Outcome.ISOLATED, Outcome.ISOLATED), Verdict.CONFIRMED),
        ((Outcome.ISOLATED, Outcome.NOT_APPLICABLE), Verdict.LIMITED),
        ((Outcome.ISOLATED, Outcome.LEAK), Verdict.REFUTED),
        ((Outcome.ERROR, Outcome.LEAK), Verdict.REFUTED),
        ((Outcome.ISOLATED, Outcome.ERROR), Verdict.UNDECIDED),
        ((Outcome.ISOLATED,), Verdict.UNDECIDED),
    ],
)
def test_a_claim_of_separation_needs_every_probe(outcomes: tuple[Outcome, ...], expected: Verdict) -> None:
    """One leak refutes it; an error or a probe that was not tried decides nothing."""
    probes = ("U2", "U7")[: len(outcomes)]
    found = [answer(probe, "container", outcome) for probe, outcome in zip(probes, outcomes, strict=True)]
    assert verdict("own-users", found) is expected


def test_what_is_privileged_on_purpose_proves_nothing() -> None:
    """Leaks of the profile `privileged` and of the bare process do not count against containers."""
    found = [answer(probe, "container", Outcome.ISOLATED) for probe in ("U2", "U7")]
    found += [answer(probe, "container-privileged", Outcome.LEAK) for probe in ("U2", "U7")]
    found += [answer(probe, "process", Outcome.LEAK) for probe in ("U2", "U7")]
    assert verdict("own-users", found) is Verdict.CONFIRMED
    assert verdict("own-users", [*found, answer("U2", "container-strict", Outcome.LEAK)]) is Verdict.REFUTED


@pytest.mark.parametrize(
    ("container", "machine", "expected"),
    [
        (Outcome.SHARED, Outcome.ISOLATED, Verdict.CONFIRMED),
        (Outcome.ISOLATED, Outcome.ISOLATED, Verdict.REFUTED),
        (Outcome.SHARED, Outcome.LEAK, Verdict.REFUTED),
        (Outcome.SHARED, Outcome.ERROR, Verdict.UNDECIDED),
    ],
)
def test_kernels_are_shared_by_containers_alone(
    container: Outcome, machine: Outcome, expected: Verdict
) -> None:
    """Both halves of the claim have to hold."""
    assert (
        verdict("same-kernel", [answer("K1", "container", container), answer("K1", "vm", machine)])
        is expected
    )


@pytest.mark.parametrize(
    ("answering", "conflicts", "control", "expected"),
    [
        (4, 0, 3, Verdict.CONFIRMED),
        (1, 3, 3, Verdict.REFUTED),
        (3, 0, 3, Verdict.REFUTED),
        (4, 0, 0, Verdict.UNDECIDED),
    ],
)
def test_ports_need_a_control(answering: float, conflicts: float, control: float, expected: Verdict) -> None:
    """Where nothing clashes without containers either, nothing is shown."""
    found = samples("ports.answering", "container-bridge", [answering])
    found += samples("ports.conflicts", "container-bridge", [conflicts])
    found += samples("ports.asked", "container-bridge", [4])
    found += samples("ports.conflicts", "chroot", [control])
    assert verdict("no-port-clash", found) is expected


@pytest.mark.parametrize(
    ("metric", "claim"), [("memory.host.pss", "less-memory"), ("startup.ready", "starts-far-faster")]
)
def test_failed_samples_decide_nothing(metric: str, claim: str) -> None:
    """A cell in which nothing counts is as good as none."""
    failed = [Sample("w", "vm", metric, "s", None, 0, False, 0, "none", 0.0, status="failed", reason="died")]
    assert verdict(claim, [*samples(metric, "container", [1.0] * 6), *failed]) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("claims: [own-users, own-files]", ("own-users", "own-files")),
        ("name: x", ()),
        ("claims: 7", ()),
        ("claims: [1, {a: b}]", ()),
        ("claims: [", ()),
        ("", ()),
    ],
)
def test_a_stored_definition_may_be_anything(definition: str, expected: tuple[str, ...]) -> None:
    """What cannot be read as a list of names declares nothing, and an unknown name is left out."""
    assert declared(definition) == expected
    assert [each.name for each in judge((*expected, "gone"), [])] == list(expected)
