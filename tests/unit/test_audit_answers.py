"""What a payload answers is believed only as far as it can be checked."""

from __future__ import annotations

import json

import pytest

from pybench.harness.audit.answer import LARGEST_LINE, Answer, MalformedAnswerError, read_answers
from pybench.harness.audit.canaries.base import Tokens
from pybench.harness.audit.catalogue import find
from pybench.harness.audit.controls import controlled, without_control
from pybench.harness.audit.model import Outcome, error, isolated, leak, not_applicable
from pybench.harness.audit.observation import clean, evidence


def line(**values: object) -> bytes:
    """One line of a payload."""
    return json.dumps({"probe": "P1", "status": "done", **values}).encode() + b"\n"


def test_answers_are_read() -> None:
    """Facts and sightings arrive as the payload told them."""
    answers, faults = read_answers(line(facts={"processes": 3}, seen=[["pbc-1", "/proc/1/cmdline"]]), ["P1"])
    assert faults == {}
    assert answers["P1"].facts == {"processes": 3}
    assert answers["P1"].seen == [("pbc-1", "/proc/1/cmdline")]


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (b"", "did not answer"),
        (b"no json at all\n", "no answer"),
        (b"[" * 200_000 + b"\n", "no answer"),
        (b"\xff\xfe\x00\n", "no answer"),
        (line(status="isolated"), "no answer"),
        (line(facts={"a": {"b": {"c": {}}}}), "no answer"),
        (line(seconds=-1), "no answer"),
        (line(seconds=1e400), "no answer"),
        (line(verdict="isolated"), "no answer"),
        (line(facts={"text": "x" * 5000}), "no answer"),
        (line(facts={str(number): 1 for number in range(300)}), "no answer"),
        (line(seen=[["pbc-1", "here"]] * 300), "no answer"),
        (b'{"probe": "P1", "facts": "' + b"x" * LARGEST_LINE + b'"}\n', "a line of"),
        (line() + line(), "answered twice"),
        (line(probe="P2\x1b[31m"), "was not asked"),
    ],
)
def test_a_payload_that_lies_or_floods_is_an_error(output: bytes, fault: str) -> None:
    """What is no answer makes none, and the fault says what was wrong, without control characters."""
    answers, faults = read_answers(output, ["P1"])
    assert answers == {}
    assert fault in faults["P1"]
    assert faults["P1"].isprintable()


def test_one_bad_line_harms_no_other_probe() -> None:
    """Answers before and after it count."""
    output = line(probe="P1") + b"garbage\n" + line(probe="P2")
    answers, faults = read_answers(output, ["P1", "P2", "P3"])
    assert set(answers) == {"P1", "P2"}
    assert set(faults) == {"P3"}


def test_facts_have_the_type_that_is_asked_for() -> None:
    """A fact of another type is the guest's fault, and never taken for something else."""
    answer = Answer(probe="P1", status="done", facts={"flag": True, "text": "a\nb\x1b", "rows": [["a"], [1]]})
    from pybench.harness.audit.observation import Observation

    observation = Observation.__new__(Observation)
    object.__setattr__(observation, "answer", answer)
    assert observation.flag("flag") is True
    assert observation.text("text") == "a\\nb\\x1b"
    for reading in (observation.number, observation.text, observation.texts, observation.table):
        with pytest.raises(MalformedAnswerError):
            reading("flag")
    with pytest.raises(MalformedAnswerError):
        observation.rows("rows")
    with pytest.raises(MalformedAnswerError):
        observation.flag("missing")


def test_evidence_is_bounded_and_printable() -> None:
    """However much a guest claims to have seen."""
    kept = evidence([f"{number}\n" * 500 for number in range(100)])
    assert len(kept) == 13
    assert kept[-1] == "and 88 more"
    assert all(len(each) <= 200 and each.isprintable() for each in kept)
    assert clean("\u202etxt") == "\\u202etxt"


def test_tokens_are_of_one_audit() -> None:
    """Two audits on one host have tokens of unlike shapes, and each knows what it has made."""
    import re

    one, other = Tokens(), Tokens()
    token = one.make()
    assert re.fullmatch(one.shape, token)
    assert not re.fullmatch(other.shape, token)
    assert one.was_made(token)
    assert not one.was_made(token[:-1] + ("0" if token[-1] != "0" else "1"))


def test_nothing_counts_as_isolated_without_its_positive_control() -> None:
    """Where the bare process did not find it, that nobody else did proves nothing."""
    probe, nothing = find("P1"), isolated("nothing was seen")
    assert without_control(probe, nothing, privileged=True).outcome is Outcome.ERROR
    assert without_control(probe, nothing, privileged=False).outcome is Outcome.NOT_APPLICABLE
    assert without_control(probe, leak("seen"), privileged=True).outcome is Outcome.LEAK
    assert controlled(probe, nothing, leak("seen")) == nothing
    assert controlled(probe, nothing, None).outcome is Outcome.ERROR
    assert controlled(probe, nothing, error("crashed")).outcome is Outcome.ERROR
    assert controlled(probe, nothing, not_applicable("not root")).outcome is Outcome.NOT_APPLICABLE
    assert controlled(probe, leak("seen"), error("crashed")).outcome is Outcome.LEAK
