"""The claims that a run's scenario wants judged, from its definition and its samples."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from pybench.harness.claims import Judged, Verdict, declared, judge
from pybench.harness.model import Run, Sample
from pybench.reports.numbers import one_line

_STYLES = {
    Verdict.CONFIRMED: "green",
    Verdict.LIMITED: "yellow",
    Verdict.REFUTED: "bold red",
    Verdict.UNDECIDED: "bold yellow",
}
LONGEST_LINE = 400


def judged_claims(run: Run, samples: Sequence[Sample]) -> tuple[Judged, ...]:
    """Every claim that the scenario names, in its order; none where it names none."""
    return judge(declared(run.definition), samples)


def tally(judged: Sequence[Judged]) -> str:
    """`9 of 15 claims confirmed, 4 confirmed with limits, 1 refuted, 1 undecided`."""
    counts = {verdict: sum(each.verdict is verdict for each in judged) for verdict in Verdict}
    first, *others = Verdict
    parts = [f"{counts[first]} of {len(judged)} claims {first.value}"]
    parts += [f"{counts[verdict]} {verdict.value}" for verdict in others if counts[verdict]]
    return ", ".join(parts)


def lines_of(judged: Judged) -> tuple[str, ...]:
    """What speaks for the verdict, then what has to be said with it; bounded, in single lines."""
    finding = judged.finding
    told = (*finding.evidence, *(f"limit: {each}" for each in finding.limits))
    return tuple(one_line(each, LONGEST_LINE) for each in told)


def claims_table(judged: Sequence[Judged]) -> Table:
    """For the console: each claim with its verdict and, below it, the evidence."""
    table = Table(
        title=Text(f"Claims: {tally(judged)}", "bold"), title_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim, and what it rests on", overflow="fold")
    for each in judged:
        text = Text(each.sentence)
        for line in lines_of(each):
            text.append(f"\n  {line}", style="dim")
        table.add_row(Text(each.verdict.value, _STYLES[each.verdict]), text)
    return table
