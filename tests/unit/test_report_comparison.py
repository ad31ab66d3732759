"""Several runs side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from audit_samples import TITLES, audit_samples, verdict
from gate_runs import night_run, night_samples
from report_runs import HOSTILE, failed_sample, make_run, make_samples

from pybench.harness.audit.model import Outcome
from pybench.harness.model import Environment, Run, Sample
from pybench.reports.comparison import render_comparison
from pybench.reports.comparison_markdown import render_comparison_markdown


def text_of(measured: Sequence[tuple[Run, Sequence[Sample]]]) -> str:
    """What the page says, without scripts and tags."""
    page = re.sub(r"<(script|style).*?</\1>", "", render_comparison(measured, probes=TITLES), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ")


NIGHTS = [
    (night_run(1), night_samples(1)),
    (night_run(2, **{"host.kernel": "6.18"}), night_samples(2, {"startup.ready": 1.3})),
]


def test_what_differs_is_what_they_are_called() -> None:
    """Runs on two kernels are called by their kernels; the difference is listed, the rest is not."""
    text = text_of(NIGHTS)
    assert "6.18 against 6.1: of 2 cells 1 worse, 1 the same." in text
    assert "host.kernel 6.1 6.18" in text
    assert "host.name" not in text


def test_every_run_is_held_against_the_first() -> None:
    """Three runs give two sets of verdicts and three columns."""
    three = [*NIGHTS, (night_run(3), night_samples(3))]
    text = text_of(three)
    assert "night-02 against night-01: of 2 cells 1 worse" in text
    assert "night-03 against night-01: of 2 cells 2 the same." in text
    assert text.count("night-03") >= 3


def test_runs_with_long_ids_are_numbered() -> None:
    """Where only their ids tell runs apart, and these are long, they are called by their places."""
    samples = make_samples({"process": 20, "container": 20})
    run = make_run()
    text = text_of([(run, samples), (replace(run, id=f"{run.id}-2"), samples)])
    assert "Run 2 against run 1: of" in text
    assert f"run 1 {run.id} " in text
    assert f"run 2 {run.id}-2 " in text


def test_every_metric_has_its_finding() -> None:
    """Above a metric stands what became of it, and nothing of a target that one run alone measured."""
    text = text_of(
        [
            (make_run(id="both"), make_samples({"process": 20, "vm": 8})),
            (make_run(id="one"), make_samples({"process": 20})),
        ]
    )
    assert re.search(r"Start until ready: (the same|inconclusive) on process\. ", text)


def test_a_side_without_a_target_has_a_dash() -> None:
    """What only one run measured is shown for it alone."""
    text = text_of(
        [
            (make_run(id="both"), make_samples({"process": 20, "vm": 8})),
            (make_run(id="one"), make_samples({"process": 20})),
        ]
    )
    assert re.search(r"vm 2\.\d+ s .{0,60}TCG emulation —", text)


def test_failures_and_nothing_are_no_broken_page() -> None:
    """A run of failures and one without samples can be compared; nothing is claimed."""
    text = text_of([(make_run(id="bad"), [failed_sample("vm", "no")]), (make_run(id="empty"), [])])
    assert "empty against bad" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_hostile_names_are_text() -> None:
    """Names and fields of either side never become markup."""
    run = make_run(id=HOSTILE[:90], scenario=HOSTILE[:90])
    other = replace(run, id="x", environment=Environment({HOSTILE[:60]: HOSTILE}))
    page = render_comparison([(run, make_samples({"vm": 3})), (other, make_samples({"vm": 3}))])
    assert "<img" not in page
    assert "<script>document.title" not in page


def audits() -> list[tuple[Run, Sequence[Sample]]]:
    """On the second kernel the container leaks the host's processes, and its root is read-only at last."""
    later = {
        "isolation.P1": verdict("container", "P1", Outcome.LEAK, "P1 saw <b>init</b>.\npid 1"),
        "isolation.M4": verdict("container", "M4", Outcome.ISOLATED, "M4 saw nothing."),
    }
    second = [
        later.get(each.metric, each) if each.target == "container" else each for each in audit_samples()
    ]
    return [(night_run(1), audit_samples()), (night_run(2, **{"host.kernel": "6.18"}), second)]


def test_audits_are_set_side_by_side() -> None:
    """What leaks only on one of two kernels is told with its evidence; what is the same is counted."""
    text = text_of(audits())
    assert (
        "6.18 against 6.1: of 18 verdicts 1 became a leak (1 of severity high or critical), "
        "1 ceased to be one." in text
    )
    assert "Of 18 verdicts, 2 differ between the runs." in text
    assert "16 verdicts that are the same everywhere" in text
    assert re.search(r"container 1 leak \(1 medium\), index [\d.]+ 1 leak \(1 high\), index", text)
    assert re.search(
        r"P1 Processes of the host are visible high container isolated P1 saw nothing. "
        r"leak P1 saw &lt;b&gt;init&lt;/b&gt;. pid 1",
        text,
    )


def test_an_audit_on_one_side_alone_is_not_compared() -> None:
    """A run without an audit beside one with it is compared by what both measured."""
    text = text_of([NIGHTS[0], (NIGHTS[1][0], [*NIGHTS[1][1], *audit_samples()])])
    assert "6.18 against 6.1: of 2 cells 1 worse, 1 the same." in text
    assert "What leaks" not in text


def test_the_text_says_what_the_page_says() -> None:
    """Markdown has every sentence, number, verdict and differing field of the page."""
    text = render_comparison_markdown(NIGHTS).replace("\u00a0", " ")
    assert "- **6.18 against 6.1: of 2 cells 1 worse, 1 the same.**" in text
    assert re.search(r"^\| container \| 1\.\d+ ms \(.*n = \d+.*\) \| 1\.\d+ ms", text, flags=re.M)
    assert "(worse) |" in text
    assert "| host.kernel | 6.1 | 6.18 |" in text
    of_audits = render_comparison_markdown(audits(), probes=TITLES).replace("\u00a0", " ")
    assert "Of 18 verdicts, 2 differ between the runs." in of_audits
    assert "leak: P1 saw &lt;b&gt;init&lt;/b&gt;." in of_audits


def test_hostile_names_are_text_in_markdown() -> None:
    """Names and fields of either side neither format nor embed anything, nor add a line."""
    run = make_run(id=HOSTILE[:90], scenario=HOSTILE[:90])
    other = replace(run, id="x", environment=Environment({HOSTILE[:60]: HOSTILE}))
    text = render_comparison_markdown([(run, make_samples({"vm": 3})), (other, make_samples({"vm": 3}))])
    assert "<" not in text
    assert all(line[:1] in {"", "#", "|", "-"} or " runs " in line for line in text.splitlines())


def test_one_run_is_no_comparison() -> None:
    """Fewer than two runs are refused."""
    with pytest.raises(ValueError, match="needs two runs"):
        render_comparison(NIGHTS[:1])
