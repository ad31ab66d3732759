"""Several runs side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from gate_runs import night_run, night_samples
from report_runs import HOSTILE, failed_sample, make_run, make_samples

from pybench.harness.model import Environment, Run, Sample
from pybench.reports.comparison import render_comparison


def text_of(measured: Sequence[tuple[Run, Sequence[Sample]]]) -> str:
    """What the page says, without scripts and tags."""
    page = re.sub(r"<(script|style).*?</\1>", "", render_comparison(measured), flags=re.S)
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


def test_one_run_is_no_comparison() -> None:
    """Fewer than two runs are refused."""
    with pytest.raises(ValueError, match="needs two runs"):
        render_comparison(NIGHTS[:1])
