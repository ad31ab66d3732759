"""What a report says in sentences: the answer first, then what supports it, then what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pybench.harness.gate.verdicts import INDEX
from pybench.harness.units import count
from pybench.reports.analysis import MetricTable, Report, Row, times
from pybench.reports.families import family_of
from pybench.reports.isolation import isolation_sentence
from pybench.reports.numbers import TIMES, one_line, single, tied
from pybench.reports.phases import PhaseBar
from pybench.reports.vocabulary import (
    BASELINE,
    CONTAINER,
    HEADLINES,
    KVM,
    LIMIT,
    MEMORY_PREFIX,
    TCG,
    TEARDOWN,
    VM,
    noun,
)

FEWEST_FOR_INTERVAL = 6
"""The smallest n for which minimum to maximum covers the median with 95 %: 1 - 2·0.5⁶ = 0.969."""
PAIR = 2

Kind = Literal["answer", "finding", "caution"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence or two; `section` is the id of the report's section that shows it."""

    kind: Kind
    text: str
    section: str


def findings(report: Report) -> list[Finding]:
    """All findings: one answer for each workload, then what supports it, then what limits it."""
    if not report.workloads and report.isolation:
        return [Finding("answer", isolation_sentence(report.isolation), "isolation"), *_status(report)]
    if not report.workloads:
        return [
            Finding("answer", "Nothing was measured: the run holds no samples.", "validity"),
            *_status(report),
        ]
    found: list[Finding] = []
    for workload in sorted(report.workloads, key=lambda each: _telling(report.headline(each))):
        prefix = f"Workload {one_line(workload)}: " if len(report.workloads) > 1 else ""
        table = report.headline(workload)
        if table is None:
            section = "failures" if report.failed else "validity"
            found.append(Finding("answer", prefix + _nothing_measured(report, workload), section))
            continue
        if table.metric == INDEX and report.isolation:
            continue  # The probes themselves say more.
        found.append(Finding("answer", prefix + answer(table), family_of(table.metric).id))
        found.extend(Finding("finding", prefix + text, section) for text, section in _support(report, table))
    if report.isolation:
        kind: Kind = "finding" if found else "answer"
        found.append(Finding(kind, isolation_sentence(report.isolation), "isolation"))
    return sorted([*found, *_status(report), *_cautions(report)], key=lambda each: _KINDS.index(each.kind))


def _telling(table: MetricTable | None) -> int:
    """The place of a workload among the answers: what decides most stands first."""
    metric = table.metric if table else ""
    return HEADLINES.index(metric) if metric in HEADLINES else len(HEADLINES)


def answer(table: MetricTable) -> str:
    """The sentence that the table is read for: numbers, intervals, n and caveats."""
    return tied(f"On this host {_clause(table)}.")


def finding(table: MetricTable) -> str:
    """The same as a title, without the evidence that the figure and its table show."""
    pair = chosen_pair(table)
    if pair is None:
        row = table.measured[0]
        return _sentence(table.text.single.format(target=row.noun, value=row.median))
    return _sentence(_compared(table, *pair, with_evidence=False))


def chosen_pair(table: MetricTable) -> tuple[Row, Row] | None:
    """Container and VM where both were measured, else the lowest and the highest; None for one target.

    The floor is a limit, not something to choose, so it is compared only if nothing else is left.
    """
    container, vm = table.row(CONTAINER), table.row(VM)
    if container and vm:
        return container, vm
    rows = [row for row in table.measured if row.target != LIMIT]
    if len(rows) < PAIR:
        rows = list(table.measured)
    if len(rows) < PAIR:
        return None
    ordered = sorted(rows, key=_median)
    return ordered[0], ordered[-1]


def phase_finding(bars: Sequence[PhaseBar]) -> str:
    """Which phase takes most of the start, on the target that takes longest."""
    bar = max(bars, key=lambda each: each.total)
    span = bar.longest
    who = noun(bar.target, bar.said.caveats)
    if len(bar.spans) == 1:
        return f"The start of {who} was seen as a single phase, {one_line(span.name)}."
    return tied(
        f"{span.share * 100:.0f} % of the start of {who} is the phase “{one_line(span.name)}”: "
        f"{span.quantity.text} (n = {bar.n})."
    )


def spread_finding(table: MetricTable) -> str:
    """Which target scatters most, as the ratio of the 95th percentile to the median."""
    factors = [
        (row.estimate.p95 / row.estimate.median, row)
        for row in table.measured
        if row.estimate and row.estimate.p95 and row.estimate.median
    ]
    title = table.text.title
    if not factors:
        return f"{title}: every sample; each target has too few for a 95th percentile."
    factor, widest = max(factors, key=lambda item: item[0])
    who = "Relative to its median it scatters most for" if len(factors) > 1 else "For"
    return tied(
        f"{title}: every sample. {who} {widest.noun}"
        f"{':' if len(factors) > 1 else ''} 95 % stay below {single(factor, TIMES, 2)} the median."
    )


_ARTICLES = ("a ", "the ", "no ", "each ", "one ", "what ", "of ")
_KINDS: tuple[Kind, ...] = ("answer", "finding", "caution")


def _clause(table: MetricTable) -> str:
    pair = chosen_pair(table)
    return _single(table) if pair is None else _compared(table, *pair)


def _compared(
    table: MetricTable, one: Row, other: Row, *, is_cost: bool = False, with_evidence: bool = True
) -> str:
    """`one` against `other` by the table's metric, without a capital and a full stop.

    `is_cost` makes the one with the higher value the subject: what it costs over the other.
    """
    low, high = sorted((one, other), key=_median)
    template = table.text.cost if is_cost else table.text.comparison
    first, second = (low, high) if template.index("{low}") < template.index("{high}") else (high, low)
    numbers = f"{first.median} against {second.median}"
    if with_evidence:
        numbers += f" ({_evidence(first, second)})"
    title = table.text.title[0].lower() + table.text.title[1:]
    factor = times(high.values, low.values)
    if factor is None:
        return f"the values of {first.noun} and {second.noun} have no ratio ({title}): {numbers}"
    if factor.low_value <= 1:
        return (
            f"no difference is shown between {first.noun} and {second.noun} in {title}: {numbers}; "
            f"the ratio lies within {factor.interval}"
        )
    sentence = template.format(low=low.noun, high=high.noun, ratio=factor.text)
    few = with_evidence and min(low.n, high.n) < FEWEST_FOR_INTERVAL
    return f"{sentence}: {numbers}" + ("; so few samples are an indication, not a result" if few else "")


def _single(table: MetricTable) -> str:
    row = table.measured[0]
    sentence = table.text.single.format(target=row.noun, value=row.median)
    return f"{sentence} ({_row_evidence(row)}); no other target was measured to compare it with"


def _support(report: Report, headline: MetricTable) -> Iterator[tuple[str, str]]:
    """What an architect asks next: what a container costs, where the time goes, memory, teardown."""
    container = headline.row(CONTAINER)
    for reference in (headline.row(BASELINE), headline.row(LIMIT)):
        if container and reference and _targets(chosen_pair(headline)) != {reference.target, CONTAINER}:
            yield (
                _sentence(_compared(headline, reference, container, is_cost=True)),
                family_of(headline.metric).id,
            )
    bars = [bar for bar in report.phases if bar.workload == headline.workload]
    if bars:
        yield phase_finding(bars), "phases"
    tables = [table for table in report.tables if table.workload == headline.workload and chosen_pair(table)]
    memory = [table for table in tables if table.metric.startswith(MEMORY_PREFIX)]
    for table in memory[:1]:
        yield _sentence(_clause(table)), "memory"
    for table in tables:
        if table.metric == TEARDOWN:
            yield _sentence(_clause(table)), "comparison"


def _targets(pair: tuple[Row, Row] | None) -> set[str]:
    return {row.target for row in pair or ()}


def _status(report: Report) -> Iterator[Finding]:
    texts = {
        "interrupted": "The run was interrupted before its plan ended: this is what had been measured.",
        "running": "The run has not ended: this is what had been measured when the report was written.",
        "failed": "The run ended with an error: this is what had been measured by then.",
        "abandoned": "The process that carried out the run died: this is what it had stored by then.",
    }
    if text := texts.get(report.run.status):
        yield Finding("caution", text, "validity")


def _cautions(report: Report) -> Iterator[Finding]:
    if report.failed:
        total = sum(each.launches for each in report.counts)
        several = len(report.workloads) > 1
        by_target = ", ".join(
            f"{each.failed} of {each.launches} on {one_line(each.target, 40)}"
            + (f" for {one_line(each.workload, 40)}" if several else "")
            for each in report.counts
            if each.failed
        )
        failed = f"{report.failed} of {count(total, 'launch', 'launches')} failed"
        text = f"{failed} ({by_target}); what failed is part of no number."
        yield Finding("caution", text, "failures")
    caveats: dict[str, tuple[str, ...]] = {}
    for table in report.tables:
        for row in table.rows:
            if row.said.caveats:
                caveats.setdefault(row.target, row.said.caveats)
    for target, texts in caveats.items():
        yield from _emulation(noun(target), texts)
    for text in dict.fromkeys(text for texts in caveats.values() for text in texts):
        if TCG not in text and text != KVM:
            targets = ", ".join(one_line(target, 40) for target, texts in caveats.items() if text in texts)
            yield Finding("caution", f"On {targets}: {text}. The numbers hold for that only.", "validity")
    yield from _samples_cautions(report)


def _emulation(who: str, texts: Sequence[str]) -> Iterator[Finding]:
    if TCG in texts:
        text = (
            f"{who} ran under {TCG}, which carries out every guest instruction in software. Hardware "
            "virtualisation is much faster: its figures hold for hosts without KVM only."
        )
        yield Finding("caution", _capital(text), "validity")
    elif any(TCG in text for text in texts):
        text = f"{who} ran partly under {TCG}: its numbers mix two ways of running and describe neither."
        yield Finding("caution", _capital(text), "validity")


def _samples_cautions(report: Report) -> Iterator[Finding]:
    few: dict[str, int] = {}
    for workload in report.workloads:
        table = report.headline(workload)
        for row in table.measured if table else ():
            if row.n < FEWEST_FOR_INTERVAL:
                few[row.target] = min(row.n, few.get(row.target, row.n))
    if few:
        listed = ", ".join(f"{one_line(target, 40)} (n = {n})" for target, n in few.items())
        text = f"Too few samples for a 95 % interval: {listed}. What is shown is minimum to maximum."
        yield Finding("caution", text, "validity")
    rejected = [
        row
        for table in report.tables
        for row in table.rows
        if table.metric == HEADLINES[0] and row.rejected > row.n
    ]
    if rejected:
        listed = ", ".join(f"{row.label} ({row.rejected} of {row.rejected + row.n})" for row in rejected)
        # An error that is the same in all of them is a smaller share of the longer ones.
        text = (
            f"Most samples were rejected for their estimated error: {listed}. Those left are mostly the "
            "longer ones, so that the medians are too high. Measure on a quieter host."
        )
        yield Finding("caution", text, "validity")
    coarse: dict[str, list[str]] = {}
    for channel in report.channels:
        if channel.is_coarse:
            coarse.setdefault(one_line(channel.channel, 40), []).append(one_line(channel.target, 40))
    if coarse:
        listed = "; ".join(f"{name} on {', '.join(targets)}" for name, targets in coarse.items())
        text = tied(f"The channel’s resolution exceeds 5 % of a median: {listed}.")
        yield Finding("caution", text, "validity")
    if len({image for images in report.images.values() for image in images}) > max(1, len(report.workloads)):
        text = "The targets did not all run the same image: differences between them may come from that."
        yield Finding("caution", text, "validity")


def _nothing_measured(report: Report, workload: str) -> str:
    failed = sum(each.failed for each in report.counts if each.workload == workload)
    rejected = sum(each.rejected for each in report.counts if each.workload == workload)
    if rejected and not failed:
        return "No sample counts: the estimated error of every one is too large. Measure on a quieter host."
    if not failed:
        return "Nothing was measured: only warm-ups are stored."
    reason = next((group.reason for group in report.failures if group.workload == workload), "")
    launches = "the only launch" if failed == 1 else f"all {count(failed, 'launch', 'launches')}"
    return f"Nothing was measured: {launches} failed. The most frequent reason: {one_line(reason, 160)}"


def _evidence(first: Row, second: Row) -> str:
    if _has_interval(first) and _has_interval(second):
        return f"95 % intervals {first.interval} and {second.interval}, n = {first.n} and {second.n}"
    return f"{first.label}: {_row_evidence(first)}; {second.label}: {_row_evidence(second)}"


def _row_evidence(row: Row) -> str:
    if row.n == 1:
        return "n = 1, no interval"
    return f"{'range' if row.interval_is_range else '95 % interval'} {row.interval}, n = {row.n}"


def _has_interval(row: Row) -> bool:
    return row.n > 1 and not row.interval_is_range


def _median(row: Row) -> float:
    return row.estimate.median if row.estimate else 0.0


def _sentence(clause: str) -> str:
    return tied(_capital(clause) + ".")


def _capital(text: str) -> str:
    """With a capital, unless a name begins the sentence: names are written as they are."""
    return text[:1].upper() + text[1:] if text.startswith(_ARTICLES) else text
