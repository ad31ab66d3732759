"""The console's tables read well at 80 columns, plain when piped, whatever the names."""

from __future__ import annotations

import io

import pytest
from report_runs import HOSTILE, failed_sample, make_run, make_samples, value_sample
from rich.console import Console, RenderableType

from pybench.harness.stats import estimates
from pybench.reports.console import summary, summary_table, summary_tables


def printed(*parts: RenderableType, width: int = 80) -> str:
    """What a pipe of this width would receive."""
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    for part in parts:
        console.print(part)
    return stream.getvalue().replace("\u00a0", " ")


def test_whole_at_80_columns() -> None:
    """Every number of a row is there in full, with its unit; nothing is cut and nothing is coloured."""
    text = printed(summary(make_run(), make_samples()))
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "container        2.98 ms   2.88–3.12 ms  3.46 ms  40  2.91× (2.68–3.06)" in text
    assert "vm                2.31 s    2.26–2.37 s        —  12" in text
    assert "…" not in text


def test_begins_with_the_answer_and_ends_with_what_limits_it() -> None:
    """The first line answers, the last ones caution."""
    lines = printed(summary(make_run("interrupted"), make_samples())).splitlines()
    assert lines[0].startswith("On this host a container starts 773× faster than the VM (TCG emulation)")
    assert any(line.startswith("! The run was interrupted") for line in lines)


def test_every_table_names_the_emulation() -> None:
    """Each table that has a VM row says TCG emulation beside it."""
    tables = summary_tables(make_run(), make_samples())
    assert len(tables) == 4
    for table in tables:
        assert "TCG emulation" in printed(table)


def test_failed_launches_stand_beside_the_row() -> None:
    """A row with failures says how many; one with nothing but failures shows dashes."""
    text = printed(
        *summary_tables(make_run(), [*make_samples({"process": 20}), failed_sample("vm", HOSTILE)])
    )
    assert "1 failed" in text
    [line] = [line for line in text.splitlines() if line.strip().startswith("vm")]
    assert line.split() == ["vm", "—", "—", "—", "0", "—"]


def test_estimates_alone_make_one_table() -> None:
    """From estimates there is one table with a section for each metric and ratios without intervals."""
    text = printed(summary_table(make_run(), estimates(make_samples())))
    assert "startup.ready" in text
    assert "  2.91×" in text
    assert "TCG emulation" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_few_samples_are_marked() -> None:
    """An interval that falls short of 95 % carries a mark that the caption explains."""
    text = printed(
        *summary_tables(make_run(), [value_sample("vm", 1.0 + each, order=each) for each in range(4)])
    )
    assert "1.0–4.0 s*" in text
    assert "* too few samples for 95 %" in text


@pytest.mark.parametrize("width", [80, 160])
def test_names_are_only_text(width: int) -> None:
    """Markup, escapes and endless names change neither style nor layout."""
    samples = [value_sample("[red]x[/red]", 1.0), value_sample(HOSTILE, 2.0), value_sample("y" * 300, 3.0)]
    text = printed(summary(make_run(), samples), width=width)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_an_empty_run_prints_its_answer() -> None:
    """A run without samples is told in words, without an empty table."""
    assert printed(summary(make_run(), [])).strip() == "Nothing was measured: the run holds no samples."
