"""Runs that were not obtained alike are told apart by field."""

from __future__ import annotations

from dataclasses import replace

from report_runs import value_sample

from pybench.harness.comparability import mismatched_qualifiers
from pybench.harness.environment import Mismatch, mismatches
from pybench.harness.model import Environment


def test_fields_that_must_match_are_named() -> None:
    """A kernel that differs or is unknown is a mismatch, a host's name is none."""
    left = Environment({"host.kernel": "6.1", "host.name": "a", "host.machine": "x86_64"})
    right = Environment({"host.kernel": "6.2", "host.name": "b"})
    assert mismatches(left, right) == (
        Mismatch("host.machine", "x86_64", None),
        Mismatch("host.kernel", "6.1", "6.2"),
    )
    assert str(mismatches(left, right)[0]) == "host.machine: x86_64 ≠ unknown"
    assert mismatches(left, left) == ()


def test_emulation_is_not_compared_with_kvm() -> None:
    """A qualifier that differs is a mismatch of its target; image, number of looks and spread may differ."""
    tcg = [
        value_sample("vm", 1.0, accel="tcg", image="1", looks="10-40", spread="0.02"),
        value_sample("container", 1.0, limits="none"),
    ]
    kvm = [value_sample("vm", 1.0, accel="kvm", image="2", looks="10-60", spread="0.3")]
    assert mismatched_qualifiers(tcg, kvm) == (Mismatch("vm.accel", "tcg", "kvm"),)
    assert mismatched_qualifiers(tcg, tcg) == ()


def test_a_failed_launch_forbids_no_comparison() -> None:
    """It has no qualifiers of its target, and whether launches fail is for the gate to judge."""
    good = value_sample("vm", 1.0, accel="tcg")
    failed = replace(good, value=None, status="failed", qualifiers={})
    assert mismatched_qualifiers([good], [good, failed]) == ()
    assert mismatched_qualifiers([good], [failed]) == ()
