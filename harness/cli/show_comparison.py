"""A comparison as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.cli.columns import columns
from pybench.harness.comparison.attribution import PREFIX, TOTAL, start_of
from pybench.harness.comparison.ranks import CONFIDENCE
from pybench.harness.comparison.runs import BASE, PHASE
from pybench.reports.numbers import DASH, one_line, single

if TYPE_CHECKING:
    from pybench.harness.comparison.attribution import Attribution
    from pybench.harness.comparison.cells import Change, Side
    from pybench.harness.comparison.runs import Comparison, Judged
    from pybench.harness.comparison.shift import Shift
    from pybench.harness.stats import CellKey

_ROUNDING: Final = 1e-9
_QUIET: Final = frozenset({"same", "inconclusive"})
_HEAD: Final = (
    *(
        "workload",
        "target",
        "metric",
        "parameters",
        "baseline",
        "candidate",
        "change",
        "95 % interval",
        "p",
        "delta",
    ),
    *("detectable", "verdict"),
)
_RIGHT: Final = frozenset(range(4, 11))


def comparison_lines(comparison: Comparison, *, with_phases: bool) -> list[str]:
    """One line per cell, then what is behind each change."""
    shown = [each for each in comparison.cells if with_phases or not each.change.cell[2].startswith(PREFIX)]
    lines = columns([_HEAD, *(_row(each) for each in shown)], right=_RIGHT)
    for judged in shown:
        if judged.verdict not in _QUIET:
            lines += ["", *_details(judged)]
    changed = {
        start_of(each.change.cell)
        for each in comparison.cells
        if each.verdict not in _QUIET and each.change.cell[2] == TOTAL
    }
    for attribution in comparison.attributions:
        if attribution.start in changed:
            lines += ["", *attribution_lines(attribution)]
    return lines


def _row(judged: Judged) -> tuple[str, ...]:
    change = judged.change
    workload, target, metric, unit, label = change.cell
    explained = judged.reason not in {"", "shift"} and judged.verdict != "same"
    told_by = one_line(judged.told_by, 48)
    verdict: str = judged.verdict
    if explained:
        verdict += f": {told_by if judged.reason in {BASE, PHASE} else judged.reason}"
    if told_by and judged.reason not in {BASE, PHASE}:
        verdict += f", by the {told_by}"
    names = (one_line(workload, 24), one_line(target, 24), one_line(metric, 32), one_line(label, 32))
    if judged.telling is None or change.effect is None:
        return (*names, side(change.baseline, unit), side(change.candidate, unit), *[DASH] * 5, verdict)
    shift, p = judged.telling
    return (
        *names,
        side(change.baseline, unit),
        side(change.candidate, unit),
        relative(change, shift.value),
        interval(change, shift),
        f"{p:.2g}",
        f"{change.effect.value:+.2f}".replace("-", "−"),
        DASH if judged.detectable is None else relative(change, judged.detectable).lstrip("+"),
        verdict,
    )


def cell_name(cell: CellKey) -> str:
    """The words that tell a cell from others."""
    workload, target, metric, _, label = cell
    return " ".join(one_line(word, 32) for word in (workload, target, metric, label) if word)


def side(one: Side, unit: str) -> str:
    """The median of one side and its number of samples; of all launches, if not all of them count."""
    launches = f" of {one.launched}" if one.n < one.launched else ""
    return f"{single(one.median, unit) if one.n else DASH} ({one.n}{launches})"


def interval(change: Change, shift: Shift) -> str:
    """The interval of a shift; where few samples cannot make one, it is called the range that it is."""
    called = "" if shift.confidence >= CONFIDENCE - _ROUNDING else "range "
    return f"{called}{relative(change, shift.low)} … {relative(change, shift.high)}"


def relative(change: Change, difference: float) -> str:
    """A difference as a share of the baseline's median, or in its unit where that is 0."""
    median, unit = change.baseline.median, change.cell[3]
    if not median:
        return f"{'+' if difference >= 0 else '−'}{single(abs(difference), unit)}"
    return f"{difference / abs(median):+.1%}".replace("%", " %").replace("-", "−")


def _details(judged: Judged) -> list[str]:
    change = judged.change
    unit = change.cell[3]
    lines = [f"{cell_name(change.cell)}: {judged.verdict}"]
    quantiles = ", ".join(
        f"p{each.probability * 100:g} {_signed(each.value, unit)}" for each in change.quantiles
    )
    if quantiles:
        lines.append(f"  quantiles  {quantiles}")
    before, after = len(change.baseline.modes), len(change.candidate.modes)
    if before != after and before and after:
        parts = ", ".join(
            f"{single(mode.center, unit)} ({mode.share:.0%})" for mode in change.candidate.modes
        )
        lines.append(f"  modes      {before} → {after}: {parts}")
    return lines


def attribution_lines(attribution: Attribution) -> list[str]:
    """Each phase's part of a changed start."""
    names = " ".join(one_line(word, 32) for word in attribution.start if word)
    total = attribution.total.value
    rows: list[Sequence[str]] = []
    for part in (*attribution.phases, attribution.total):
        share = f"{part.value / total:.0%}".replace("-", "−") if total else ""
        interval = f"{_signed(part.low, 's')} … {_signed(part.high, 's')}"
        rows.append((f"  {one_line(part.phase, 32)}", _signed(part.value, "s"), interval, share))
    return [f"{names}: where the change of the mean start comes from", *_right(rows)]


def _right(rows: Iterable[Sequence[str]]) -> list[str]:
    return columns(list(rows), right=frozenset({1, 2, 3}))


def _signed(value: float, unit: str) -> str:
    return f"{'−' if value < 0 else '+'}{single(abs(value), unit)}"
