"""Runs that were not obtained alike are told apart by field."""

from __future__ import annotations

from report_runs import value_sample

from pybench.harness.comparability import FieldMismatch, mismatched_fields, mismatched_qualifiers
from pybench.harness.model import Environment


def test_fields_that_must_match_are_named() -> None:
    """A kernel that differs or is unknown is a mismatch, a host's name is none."""
    left = Environment({"host.kernel": "6.1", "host.name": "a", "host.machine": "x86_64"})
    right = Environment({"host.kernel": "6.2", "host.name": "b"})
    assert mismatched_fields(left, right) == (
        FieldMismatch("host.machine", "x86_64", None),
        FieldMismatch("host.kernel", "6.1", "6.2"),
    )
    assert str(mismatched_fields(left, right)[0]) == "host.machine: x86_64 ≠ unknown"
    assert mismatched_fields(left, left) == ()


def test_emulation_is_not_compared_with_kvm() -> None:
    """A qualifier that differs is a mismatch of its target; another image is none."""
    tcg = [value_sample("vm", 1.0, accel="tcg", image="1"), value_sample("container", 1.0, limits="none")]
    kvm = [value_sample("vm", 1.0, accel="kvm", image="2")]
    assert mismatched_qualifiers(tcg, kvm) == (FieldMismatch("vm.accel", "tcg", "kvm"),)
    assert mismatched_qualifiers(tcg, tcg) == ()
