"""Under which circumstances a run was measured, and what its samples say as series; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median
from typing import Final

from pybench.harness import conditions as names
from pybench.harness.model import Conditions, Run, Sample
from pybench.harness.stats import CellSamples, gathered, quantile
from pybench.harness.stats.series import autocorrelation, drift, modes
from pybench.harness.units import count, format_bytes, format_seconds, format_value
from pybench.reports.numbers import one_line, percent_change, single, tied
from pybench.reports.vocabulary import PHASE_PREFIX, target_order

STEAL_FROM: Final = 0.01
BUSY_FROM: Final = 0.9
REJECTED_FROM: Final = 0.1
SLOWED_FROM: Final = 0.1
"""Of the pace at its best, which is what one launch in twenty had."""
FREQUENCY_FROM: Final = 0.05
CACHE_FROM: Final = 0.1
OWN_FROM: Final = 5e-3
"""The harness's own work between two samples is to take no longer, in the median."""
LATE_FROM: Final = 2e-4
"""A pushed mark is to be seen no later, in the median."""
CORRELATED_FROM: Final = 1.96
"""Times 1/√n: the bound within which the coefficient of independent samples lies 95 times in 100."""
NOTEWORTHY_CORRELATION: Final = 0.3
LISTED: Final = 2
"""Metrics of a target that are named one by one where samples of them were rejected."""
_WHOLE_FROM: Final = 0.995
_CALIBRATION: Final = "calibration."


@dataclass(frozen=True, slots=True)
class Circumstance:
    """One line of the validity section; a concern is one that the reader should weigh."""

    subject: str
    finding: str
    is_concern: bool = False


def circumstances(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions],
    *,
    with_series: bool = True,
    of_curves: Sequence[Sample] = (),
    found: Sequence[CellSamples] | None = None,
) -> tuple[Circumstance, ...]:
    """Everything there is to say; of a run that kept no conditions, what its samples tell.

    Args:
        run: the run, whose environment holds the calibration of its channels.
        samples: its samples, in the order in which they were stored, without those of curves.
        conditions: those of its steps, in the order of the plan.
        with_series: whether drift, dependence and modes are looked for.
        of_curves: those of curves: no series, but some may have been rejected.
        found: the cells of `samples`, where they have been gathered already.
    """
    if not samples:
        return ()
    told = [*_marks(run), *_rejections([*samples, *of_curves])]
    if conditions:
        told += [*_processors(conditions), *_waiting(conditions), *_memory(conditions)]
        told += [*_harness(samples, conditions)]
    if with_series:
        told += [*_series(gathered(samples) if found is None else found)]
    return tuple(told)


def _values(conditions: Sequence[Conditions], name: str) -> list[float]:
    return [each.values[name] for each in conditions if name in each.values]


def _marks(run: Run) -> Iterator[Circumstance]:
    """How late marks are seen, by channels that were calibrated alike."""
    alike: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    fields = run.environment.fields
    for field, value in fields.items():
        if field.startswith(_CALIBRATION) and field.endswith(".p50"):
            channel = field.removeprefix(_CALIBRATION).removesuffix(".p50")
            alike[value, fields.get(f"{_CALIBRATION}{channel}.p95", "")].append(one_line(channel))
    for (usual, high), channels in alike.items():
        latencies = [_number(usual), _number(high)]
        if None in latencies:
            continue
        typical, most = (single(value or 0.0, "s", 2) for value in latencies)
        yield Circumstance(
            "marks",
            f"seen {typical} late (95 %: {most}) over {', '.join(channels)}; not subtracted",
            (latencies[0] or 0.0) > LATE_FROM,
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rejections(samples: Sequence[Sample]) -> Iterator[Circumstance]:
    """Samples whose estimated error is too large, of each target and metric; phases go with their start."""
    counted = Counter(map(attrgetter("target", "metric", "status", "warmup"), samples))
    rejected: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for (target, metric, status, warmup), number in counted.items():
        if not warmup and not metric.startswith(PHASE_PREFIX):
            total[target, metric] += number
            rejected[target, metric] += number if status == "rejected" else 0
    parts = []
    for target in sorted({target for target, _ in rejected}, key=target_order):
        found = {metric: number for (of, metric), number in rejected.items() if of == target and number}
        name = one_line(target, 40)
        if len(found) <= LISTED:
            parts += [f"{n} of {total[target, m]} of {one_line(m)} on {name}" for m, n in found.items()]
            continue
        whole = sum(number for (of, _), number in total.items() if of == target)
        most = max(found, key=lambda metric: found[metric] / total[target, metric])
        parts.append(
            f"{sum(found.values())} of {whole} on {name}, of {len(found)} metrics, "
            f"most of {one_line(most)}: {found[most]} of {total[target, most]}"
        )
    share = max((rejected[key] / total[key] for key in total), default=0.0)
    finding = "; ".join(parts) if parts else "none"
    yield Circumstance("rejected for their error", finding, share > REJECTED_FROM)


def _processors(conditions: Sequence[Conditions]) -> Iterator[Circumstance]:
    if steal := _values(conditions, names.STEAL):
        worst = max(steal)
        mean = sum(steal) / len(steal)
        finding = f"{_percent(mean)} of processor time, at most {_percent(worst)} before one launch"
        yield Circumstance("steal", finding if worst else "none", mean > STEAL_FROM)
    if clocks := _values(conditions, names.FREQUENCY):
        low, high = min(clocks), max(clocks)
        changed = high > low * (1 + FREQUENCY_FROM)
        finding = f"{low / 1e9:.2f}–{high / 1e9:.2f} GHz" if changed else f"{high / 1e9:.2f} GHz throughout"
        yield Circumstance("frequency", finding, changed)
    if paces := names.paces(conditions):
        best, middle = quantile(paces, 0.05), median(paces)
        slowed = middle / best - 1
        finding = f"a hundred system calls took {format_seconds(middle, 3)} in the median before a launch"
        if slowed > 0:
            finding += f", {_percent(slowed)} more than at best"
        if slowed > SLOWED_FROM:
            finding += ": probably others use the same cores"
        yield Circumstance("pace", finding, slowed > SLOWED_FROM)
    busy = _values(conditions, names.BUSY)
    if busy:
        finding = f"processors {_percent(median(busy))} busy in the median"
        if pressure := _values(conditions, names.PRESSURE):
            finding += f"; some task waited for one {_percent(median(pressure))} of the time"
        if running := _values(conditions, names.RUNNING):
            finding += (
                f"; other tasks runnable before a launch: {median(running):g}, at most {max(running):g}"
            )
        yield Circumstance("load", finding, median(busy) > BUSY_FROM)
    if heat := _values(conditions, names.TEMPERATURE):
        yield Circumstance("temperature", f"{min(heat):.0f}–{max(heat):.0f} °C")


def _waiting(conditions: Sequence[Conditions]) -> Iterator[Circumstance]:
    waited = sum(_values(conditions, names.WAITED_SECONDS))
    unsettled = sum(_values(conditions, names.UNSETTLED))
    if unsettled or waited > 1.0:
        finding = f"{format_seconds(waited)} in all; {count(int(unsettled), 'launch', 'launches')} unsettled"
        yield Circumstance("waiting for the host", finding, unsettled > 0)


def _memory(conditions: Sequence[Conditions]) -> Iterator[Circumstance]:
    cached = _values(conditions, names.PAGE_CACHE)
    if cached:
        change = cached[-1] - cached[0]
        sizes = f"{format_bytes(cached[0])} at the first launch, {format_bytes(cached[-1])} at the last"
        yield Circumstance("page cache", sizes, abs(change) > CACHE_FROM * cached[0])


def _harness(samples: Sequence[Sample], conditions: Sequence[Conditions]) -> Iterator[Circumstance]:
    if own := _values(conditions, names.OWN_SECONDS):
        finding = f"{format_seconds(median(own), 2)} in the median between two samples"
        finding += f", 95 % within {format_seconds(quantile(own, 0.95), 2)}"
        yield Circumstance("harness, own work", finding, median(own) > OWN_FROM)
    targets = {sample.order: sample.target for sample in samples}
    shares: defaultdict[str, list[float]] = defaultdict(list)
    for each in conditions:
        spent, span = each.values.get(names.HARNESS_CPU), each.values.get(names.MEASURED_SECONDS)
        if spent is not None and span and each.order in targets:
            shares[targets[each.order]].append(spent / span)
    parts = [
        f"{one_line(target, 40)} {_percent(median(shares[target]))}"
        for target in sorted(shares, key=target_order)
    ]
    if parts:
        finding = f"of one processor from request to measurement, launching included: {', '.join(parts)}"
        yield Circumstance("harness, processor", finding)


def _series(found: Sequence[CellSamples]) -> Iterator[Circumstance]:
    """Drift, dependence and modes of each cell, in the order of measurement."""
    series = [cell for cell in found if len(cell.values) and not cell.metric.startswith(PHASE_PREFIX)]
    of_several = len({cell.workload for cell in series}) > 1
    drifts, dependent, several = [], [], []
    for cell in sorted(series, key=lambda cell: target_order(cell.target)):
        values = cell.values
        where = f"{one_line(cell.target, 40)} {one_line(cell.metric)}"
        where += f" ({one_line(cell.workload, 40)})" if of_several else ""
        if (trend := drift(values)) is not None and trend.is_shown:
            drifts.append(f"{where} {percent_change(trend.share)} over the run (p = {trend.probability:.1g})")
        correlation = autocorrelation(values)
        if correlation is not None and correlation > max(
            NOTEWORTHY_CORRELATION, CORRELATED_FROM / len(values) ** 0.5
        ):
            dependent.append(f"{where} {correlation:.2f}")
        gathering = modes(values)
        if len(gathering) > 1:
            shares = ", ".join(
                f"{format_value(mode.value, cell.unit, 2)} ({_percent(mode.share)})" for mode in gathering
            )
            several.append(f"{where} {shares}")
    yield Circumstance("drift", _listed(drifts, "none shown"), bool(drifts))
    yield Circumstance("modes", _listed(several, "one in every cell"), bool(several))
    yield Circumstance("lag-1 autocorrelation", _listed(dependent, "none noteworthy"), bool(dependent))


def _listed(parts: Sequence[str], otherwise: str) -> str:
    return tied("; ".join(parts)) if parts else otherwise


def _percent(share: float) -> str:
    # Two digits of 99.6 % would be 1e+02.
    return f"{share * 100:.2g} %" if share < _WHOLE_FROM else f"{share * 100:.0f} %"
