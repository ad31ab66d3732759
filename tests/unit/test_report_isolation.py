"""The audit in reports: verdicts with their evidence, counts, the leak index, the frontier."""

from __future__ import annotations

import re

import pytest
from audit_samples import ERROR, ISOLATED, LEAK, TITLES, audit_samples, verdict
from report_runs import HOSTILE, make_run, make_samples

from pybench.reports.analysis import analyse
from pybench.reports.decision import decision
from pybench.reports.html import render
from pybench.reports.isolation import Isolation, isolation
from pybench.reports.markdown import render_markdown


def found() -> Isolation:
    """What the example audit says."""
    said = isolation(audit_samples(), TITLES)
    assert said is not None
    return said


def text_of(page: str) -> str:
    """What a page says, without scripts and tags."""
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ")


def test_the_leak_index_is_the_weighted_share_of_leaks() -> None:
    """Weights 8, 4, 2 and 1; what is shared, does not apply or failed stands on neither side."""
    indices = {tally.target: tally.index for tally in found().tallies}
    assert indices == {"process": 100.0, "container": pytest.approx(100 * 2 / 19), "vm": 0.0}


def test_the_worst_stands_first_in_its_category() -> None:
    """Rows are grouped by category, and one where the container leaks precedes one where it does not."""
    leaking = [*audit_samples(), verdict("container", "P4", LEAK, "seen")]
    said = isolation(leaking, {})
    assert said is not None
    groups = dict(said.groups)
    assert [row.id for row in groups["Processes"]] == ["P4", "P1"]
    assert list(groups) == ["Processes", "Users", "Network", "File systems", "Information and co-residency"]


def test_a_probe_asked_twice_counts_by_its_worst() -> None:
    """One leak among many audits is a leak; an error hides nothing."""
    repeated = [verdict("container", "P1", each, each.value) for each in (ISOLATED, LEAK, ERROR, ISOLATED)]
    said = isolation(repeated, {})
    assert said is not None
    [(_, [row])] = said.groups
    assert row.cells[0] is not None
    assert row.cells[0].outcome is LEAK


def test_the_page_has_evidence_behind_each_cell() -> None:
    """Verdict, reason and evidence of every probe and target are there, and in no table of metrics."""
    text = text_of(render(make_run(), [*make_samples(), *audit_samples()], probes=TITLES))
    assert "M4 The root filesystem is writable" in text
    assert "leak M4 on container. read: token-M4" in text
    assert "A container leaks by 1 of 5 probes (1 medium), none of severity high or critical; a bare" in text
    assert "the positive control, by 6." in text
    assert "isolation.M4" not in text.split("Method")[0]
    assert "Failures" not in text


def test_an_audit_alone_answers() -> None:
    """A run of `pybench audit` has its own answer, and says that the machine was emulated."""
    text = text_of(render(make_run(), audit_samples(), probes=TITLES))
    assert re.search(r"The answer A container leaks by 1 of 5 probes", text)
    assert "Nothing was measured" not in text
    assert "vm TCG emulation" in text


def test_isolation_is_a_criterion() -> None:
    """The decision weighs the leak index, in which nothing is best."""
    table = decision(analyse(make_run(), [*make_samples(), *audit_samples()]))
    assert table is not None
    (line,) = [line for line in table.lines if line.criterion.id == "isolation"]
    texts = dict(zip(table.targets, line.judgements, strict=True))
    assert (texts["vm"].text, texts["container"].text) == ("0.0", "10.5")
    assert texts["vm"].score is not None
    assert texts["vm"].score.value == 1.0


def test_the_frontier_names_who_is_beaten() -> None:
    """A target that is dearer and leaks more than another is said to be so."""
    text = text_of(render(make_run(), [*make_samples(), *audit_samples()]))
    assert "Every target trades cost for isolation" in text
    worse = [verdict("vm", probe, LEAK, "seen") for probe in ("P1", "P4", "U1", "N4", "M4")]
    text = text_of(render(make_run(), [*make_samples(), *audit_samples(), *worse]))
    assert "never the best choice: vm." in text


def test_hostile_evidence_is_text() -> None:
    """What a guest wrote as evidence, or names nobody knows, becomes no markup."""
    page = render(make_run(), [verdict("container", HOSTILE[:40], LEAK, HOSTILE), *audit_samples()])
    assert "<img" not in page
    assert "<script>document.title" not in page
    assert "\u202e" not in page


def test_markdown_has_counts_and_every_leak() -> None:
    """Leaks by severity are a table; those of others than the bare process are listed with their reason."""
    text = render_markdown(make_run(), audit_samples(), probes=TITLES)
    assert "| container | 0 | 0 | 1 | 0 | 10.5 |" in text
    assert "- M4 The root filesystem is writable (medium) on container: M4 on container." in text
    assert "on process: " not in text
