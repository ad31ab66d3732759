"""What the gate says, as lines for a terminal or the log of a nightly job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.cli.columns import columns
from pybench.harness.cli.show_comparison import attribution_lines, cell_name, interval, relative, side
from pybench.harness.comparison.runs import TAIL
from pybench.harness.units import count
from pybench.reports.numbers import DASH, one_line, single
from pybench.reports.slowdown import slowdown_told

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.comparison.cells import Side
    from pybench.harness.comparison.runs import Judged
    from pybench.harness.environment import Mismatch
    from pybench.harness.gate.calibration import Calibration
    from pybench.harness.gate.check import Finding, GateResult
    from pybench.harness.gate.judgement import Judgement

_SAYING: Final = {
    "pass": "pass: nothing became worse",
    "regression": "regression",
    "inconclusive": "inconclusive",
}
_MOST_BLIND: Final = 8


def judgement_lines(judgement: Judgement) -> list[str]:
    """What a judgement says, or why there is none."""
    if judgement.result is None:
        return refusal_lines(judgement.baseline, judgement.candidate, judgement.differences)
    lines = result_lines(judgement.result, judgement.baseline, judgement.candidate)
    taken = count(len(judgement.gathered), "run")
    return [*lines, f"with {taken} more: {', '.join(judgement.gathered)}"] if judgement.gathered else lines


def result_lines(result: GateResult, baseline: str, candidate: str) -> list[str]:
    """The outcome, each finding, its phases, and what the gate could not have seen."""
    lines = [f"{_SAYING[result.outcome]} ({candidate} against {baseline}, {_held(result)})"]
    if told := slowdown_told(result.slowdown):
        lines.append(f"  {told}")
    lines += [f"  {finding_line(each)}" for each in result.findings]
    lines += [f"  accepted {finding_line(each)}" for each in result.waived]
    lines += [
        f"  within its limit of {relative(each.change, each.margin)}: {_change(each)}"
        for each in result.cells
        if each.only_the_limit_hides
    ]
    for attribution in result.attributions:
        lines += ["", *attribution_lines(attribution)]
    better = [each for each in result.cells if each.verdict in {"faster", "smaller"} and not each.worse]
    lines += [f"  better: {_change(each)}" for each in better]
    if result.blind:
        lines += [
            "",
            f"too few samples, or too noisy, to see a change as small as its limit: {len(result.blind)}",
        ]
        rows = [
            (
                f"  {cell_name(each.change.cell)}",
                "detectable" if each.detectable is not None else "",
                DASH if each.detectable is None else relative(each.change, each.detectable),
                f"limit {relative(each.change, each.margin)}",
            )
            for each in result.blind[:_MOST_BLIND]
        ]
        lines += columns(rows, right=frozenset({2}))
        if len(result.blind) > _MOST_BLIND:
            lines.append(f"  and {len(result.blind) - _MOST_BLIND} more")
    return lines


def _held(result: GateResult) -> str:
    """How much was held against the baseline."""
    said = [count(len(result.cells), "cell")] if result.cells or not result.verdicts else []
    return ", ".join([*said, count(result.verdicts, "verdict")] if result.verdicts else said)


def refusal_lines(baseline: str, candidate: str, differences: Iterable[Mismatch]) -> list[str]:
    """That the runs may not be compared, and what to do about it."""
    lines = [f"inconclusive: {candidate} and {baseline} were not obtained alike"]
    lines += [f"  {one_line(str(each), 200)}" for each in differences]
    options = " ".join(f"--allow-mismatch {each.field}" for each in differences)
    return [*lines, f"  choose another baseline, or compare nevertheless with {options}"]


def calibration_lines(calibration: Calibration, written: Path | None) -> list[str]:
    """False alarms first, then the limit and the smallest detected regression of each cell."""
    rate = f"{calibration.alarms / calibration.nights * 100:.1f} % of nights"
    lines = [
        f"{count(calibration.runs, 'run')} of the same thing, "
        f"{count(calibration.nights, 'simulated night')}: {count(calibration.alarms, 'false alarm')}, "
        f"{rate} (95 % interval up to {calibration.bound * 100:.1f} %)",
        "",
    ]
    head = ("cell", "largest difference", "limit", "of the tail", "floor", "detected in 95 % of nights")
    rows: list[Sequence[str]] = [head]
    for each in calibration.cells:
        detected = DASH if each.detected is None else f"+{each.detected * 100:g} %"
        floor = single(each.limit.absolute, each.cell[3])
        tail = each.limit.relative if each.limit.tail is None else each.limit.tail
        shares = (f"{share * 100:.1f} %" for share in (each.largest, each.limit.relative, tail))
        rows.append((cell_name(each.cell), *shares, floor, detected))
    lines += columns(rows, right=frozenset({1, 2, 3, 4, 5}))
    return lines + ([f"limits {written}; `pybench gate --limits {written}` uses them"] if written else [])


def finding_line(finding: Finding) -> str:
    """One finding, with what it rests on."""
    judged, point, unit = finding.judged, finding.point, finding.cell[3]
    said = f"{finding.kind}: {cell_name(finding.cell)}"
    if point is not None:
        levels = f"{single(point.before, unit)} → {single(point.after, unit)}"
        return f"{said}: {levels} since {finding.against}, for {count(point.length, 'run')}"
    if judged is None:
        return f"{said}: {one_line(finding.said, 200)}"
    match finding.kind:
        case "failures":
            before, after = judged.change.baseline, judged.change.candidate
            return f"{said}: {_failed(after)} launches failed, {_failed(before)} before"
        case "maximum":
            return f"{said}: the median is {single(judged.change.candidate.median, unit)}"
        case "missing":
            return f"{said}: no value that counts, {count(judged.change.baseline.n, 'value')} before"
        case _:
            older = f", against {finding.against}" if finding.kind == "drift" else ""
            return f"{finding.kind}: {_change(judged)}{older}"


def _failed(one: Side) -> str:
    return f"{one.failed} of {one.launched}"


def _change(judged: Judged) -> str:
    change, moved = judged.change, judged.change.movement
    name, unit = cell_name(change.cell), change.cell[3]
    if moved is None or judged.telling is None:
        return name
    medians = f"{side(change.baseline, unit)} → {side(change.candidate, unit)}"
    if judged.reason == TAIL:
        said = f"in the tail by {relative(change, moved.tail)} (p {judged.adjusted.tail:.1g})"
        return f"{name}: {judged.verdict} {said}, {medians}"
    said = judged.verdict if judged.verdict not in {"same", "inconclusive"} else "changed"
    shift, p = judged.telling
    source = f", by the {one_line(judged.told_by, 48)}" if judged.told_by else ""
    support = f"({interval(change, shift)}, p {p:.1g}{source})"
    return f"{name}: {said} by {relative(change, shift.value)} {support}, {medians}"
