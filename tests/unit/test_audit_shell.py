"""What a guest without python3 answers: its script runs in any shell, and what it prints is not trusted."""

from __future__ import annotations

import subprocess

import pytest

from pybench.harness.audit.catalogue import catalogue, find
from pybench.harness.audit.model import Parameters
from pybench.harness.audit.shell.parts import PARTS, error_in
from pybench.harness.audit.shell.script import ShellPayload, read_answers
from pybench.harness.audit.subjects.base import NoPythonError

SHAPE = "pbc-[0-9a-f]{4}"
GIVEN: Parameters = {"pid": 1, "path": "/etc/hostname", "users": ["root:0"], "directory": "/nonexistent"}
"""What parts are told here; none of it leads to anything that may be changed."""
CHANGING = frozenset({"M5", "E1", "E2", "E3", "N11", "D3"})
"""Parts that open devices or settings."""


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_runs_in_a_shell_and_its_answers_are_valid(shell: str) -> None:
    """Every part that can be run anywhere answers, with the facts that the payload in Python gives."""
    asked = [(find(name), GIVEN) for name in PARTS if name not in CHANGING]
    payload = ShellPayload(SHAPE, asked, shared=True)
    done = subprocess.run([shell, "-s"], input=payload.script, capture_output=True, check=False, timeout=120)
    answers, faults = payload.read(done.stdout)
    assert faults == {}
    assert set(answers) == {probe.id for probe, _ in asked}
    assert answers["U5"].facts == {"known": ["root"], "asked": 1}
    assert answers["P3"].facts["namespaces"]
    assert answers["I7"].facts["name"]


def test_every_part_belongs_to_a_probe_that_asks_a_guest() -> None:
    """There is no part without its probe, nor one for what only the host looks at."""
    assert set(PARTS) <= {probe.id for probe in catalogue() if probe.guest}


def printed(*lines: str) -> bytes:
    """Output of a guest."""
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (b"", "did not answer"),
        (b"\xff\x00" * 5000, "did not answer"),
        (printed("@I7", "|name=guest"), "did not answer"),
        (printed("@I7", "|name=guest", "@end", "@I7", "|name=host", "@end"), "twice"),
        (printed("@I7", "|nonsense", "@end"), "no name"),
        (printed("@I7", "|name=" + "x" * 5000, "@end"), "no answer"),
        (printed("@I8", "|name=guest", "@end"), "did not answer"),
    ],
)
def test_what_is_no_answer_is_an_error(output: bytes, fault: str) -> None:
    """Silence, noise, what is cut off, what comes twice and what is too long say nothing."""
    answers, faults = read_answers(output, [(find("I7"), {})], SHAPE)
    assert answers == {}
    assert fault in faults["I7"]


def test_tokens_are_found_with_the_file_they_were_in() -> None:
    """A sighting names the file that the guest has shown."""
    output = printed("@P1", "|>/proc/7/cmdline", "|sleep pbc-12ab", "|>/proc/7/environ", "@end")
    answers, _ = read_answers(output, [(find("P1"), {})], SHAPE)
    assert answers["P1"].seen == [("pbc-12ab", "/proc/7/cmdline")]
    assert answers["P1"].facts == {"processes": 1}


def test_a_guest_that_lacks_tools_is_told_which() -> None:
    """Without them a part would find nothing, and pass for isolated."""
    output = printed("@tools", "|head", "|stat", "@end", "@X6", "@end")
    with pytest.raises(NoPythonError, match="neither python3 nor head stat"):
        read_answers(output, [(find("X6"), {})], SHAPE)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("", ""),
        ("sh: can't create /x: Read-only file system", "EROFS"),
        ("sh: 1: cannot create /x: Permission denied", "EACCES"),
        ("kill: (7) - No such process", "ESRCH"),
        ("sh: can't kill pid 7: Operation not permitted", "EPERM"),
        ("what is this", "EIO"),
    ],
)
def test_messages_of_shells_are_errors(message: str, name: str) -> None:
    """Those of busybox, dash and bash; one that is unknown is an error all the same."""
    assert error_in(message) == name
