"""A run and its samples as what a report says: pure, no drawing, no I/O.

Every writer (console, HTML and whatever comes later) renders the same `Report`, so that no two of
them can tell different stories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import MappingProxyType

import numpy as np

from pybench.harness.model import Conditions, Estimate, Run, Sample, parameter_label
from pybench.harness.stats import CONFIDENCE, CellSamples, Values, estimates_of, gathered, ratio
from pybench.reports.circumstances import Circumstance, circumstances
from pybench.reports.curves import Curve, curve_parameter, curves, without_parameter
from pybench.reports.isolation import Isolation, is_verdict, isolation
from pybench.reports.numbers import DASH, TIMES, Quantity, estimated, one_line, quantity, single, visible
from pybench.reports.phases import PhaseBar, phase_bars
from pybench.reports.validity import (
    Cell,
    Channel,
    Count,
    FailureGroup,
    channels_used,
    failure_groups,
    images_used,
    launch_counts,
)
from pybench.reports.vocabulary import (
    BASELINE,
    HEADLINES,
    PHASE_PREFIX,
    MetricText,
    Said,
    metric_order,
    metric_text,
    noun,
    said,
    shown_unit,
    target_order,
)

NO_TITLES: Mapping[str, str] = MappingProxyType({})
"""Where nothing is known of the audit's probes but what is stored."""
_NOTHING: Values = np.empty(0)


SECONDS_PREFIX = "calibration."
BYTE_FIELDS = frozenset({"host.memory", "host.swap"})
"""Fields of the fingerprint that are plain numbers of bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: what a target cost by one metric.

    `values` are its samples that count, in the metric's unit, of shape (n,); `quantity` and `ratio` are None
    where there is none, `ratio` also for the baseline itself.
    """

    workload: str
    target: str
    said: Said
    values: Values = field(compare=False)
    estimate: Estimate | None
    quantity: Quantity | None
    ratio: Quantity | None
    failed: int
    rejected: int = 0
    """Samples whose estimated error is too large; they have values, but are in no number."""

    @property
    def label(self) -> str:
        """The target's name, in one line."""
        return one_line(self.target, 40)

    @property
    def noun(self) -> str:
        """The target in a sentence, its caveats included."""
        return noun(self.target, self.said.caveats)

    @property
    def n(self) -> int:
        """How many samples count."""
        return len(self.values)

    @property
    def median(self) -> str:
        """The median with its unit, or a dash."""
        return self.quantity.text if self.quantity else DASH

    @property
    def interval(self) -> str:
        """The interval of the median with its unit, or a dash where one sample has none."""
        return self.quantity.interval if self.quantity and self.n > 1 else DASH

    @property
    def interval_is_range(self) -> bool:
        """True where too few samples make the interval fall short of 95 %: minimum to maximum then."""
        return self.estimate is not None and self.n > 1 and self.estimate.confidence < CONFIDENCE

    @property
    def coverage(self) -> str:
        """What the interval covers in fact, e.g. `93.8 %`."""
        return f"{self.estimate.confidence * 100:.3g} %" if self.estimate else DASH

    @property
    def p95(self) -> str:
        """The 95th percentile, or a dash below 20 samples."""
        p95 = self.estimate.p95 if self.estimate else None
        return DASH if p95 is None or self.quantity is None else self.quantity.alike(p95)


@dataclass(frozen=True, slots=True)
class MetricTable:
    """One metric of one workload over all targets, in the targets' fixed order."""

    workload: str
    metric: str
    unit: str
    text: MetricText
    rows: tuple[Row, ...]
    has_baseline: bool
    """Whether there is a `process` row that ratios refer to."""

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows with at least one sample that counts."""
        return tuple(row for row in self.rows if row.n)

    def row(self, target: str) -> Row | None:
        """The row of a target, if it has a sample that counts."""
        return next((row for row in self.measured if row.target == target), None)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report says about one run."""

    run: Run
    tables: tuple[MetricTable, ...]
    phases: tuple[PhaseBar, ...]
    counts: tuple[Count, ...]
    failures: tuple[FailureGroup, ...]
    failures_left_out: int
    channels: tuple[Channel, ...]
    images: Mapping[str, tuple[str, ...]]
    """Target → content hashes of the images its samples name."""
    environment: Mapping[str, tuple[tuple[str, str], ...]]
    """Group (the part of a field's name before its first dot) → (field, value)."""
    curves: tuple[Curve, ...] = ()
    """What was measured over a parameter that the measurement itself went through."""
    isolation: Isolation | None = None
    """What an audit found, which is no quantity and in no table of metrics."""
    circumstances: tuple[Circumstance, ...] = ()
    """What the host and the harness did meanwhile, and what the samples say as series."""
    cells: Sequence[CellSamples] | None = None
    """Those of the very samples that were given; None where some of these have parameters or are verdicts."""

    @property
    def workloads(self) -> tuple[str, ...]:
        """In order of their names."""
        return tuple(dict.fromkeys(count.workload for count in self.counts))

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets of the run, from bare to heavy."""
        audited = self.isolation.targets if self.isolation else ()
        return tuple(sorted({*audited, *(count.target for count in self.counts)}, key=target_order))

    @property
    def failed(self) -> int:
        """Launches in which anything failed, warm-ups included."""
        return sum(count.failed for count in self.counts)

    def headline(self, workload: str) -> MetricTable | None:
        """The table that answers for a workload: the most telling metric that was measured."""
        tables = [table for table in self.tables if table.workload == workload and table.measured]
        for metric in HEADLINES:
            for table in tables:
                if table.metric == metric:
                    return table
        return tables[0] if tables else None


def analyse(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    *,
    with_series: bool = True,
    probes: Mapping[str, str] = NO_TITLES,
) -> Report:
    """Everything there is to say about a run; never fails over what the samples hold.

    Args:
        run: the run, in whatever state it ended.
        samples: all of its samples, in the order in which they were stored.
        conditions: those of its steps, if they are at hand.
        with_series: whether to tell what the samples say as series, which takes the longest.
        probes: titles of the audit's probes by id, as far as they are known.
    """
    audited = isolation(samples, probes)
    as_given = audited is None and not any(map(attrgetter("parameters"), samples))
    if audited is not None:
        samples = [sample for sample in samples if not is_verdict(sample)]
    curved = [sample for sample in samples if sample.parameters and curve_parameter(sample)]
    plain = (
        labelled(sample for sample in samples if not curve_parameter(sample)) if curved else labelled(samples)
    )
    samples = [*plain, *(without_parameter(sample, curve_parameter(sample)) for sample in curved)]
    of_plain = _gathered(plain)
    found = _gathered(samples) if curved else of_plain
    by_cell = {(each.workload, each.target, each.metric): each for each in estimates_of(found)}
    failures, left_out = failure_groups(samples)
    return Report(
        run=run,
        tables=_tables(of_plain, by_cell),
        phases=phase_bars(samples, found, by_cell),
        counts=launch_counts(found),
        failures=failures,
        failures_left_out=left_out,
        channels=channels_used(found, by_cell),
        images=images_used(found),
        environment=_environment(run),
        curves=curves(curved),
        isolation=audited,
        cells=of_plain if as_given else None,
        circumstances=circumstances(
            run, plain, conditions, with_series=with_series, of_curves=curved, found=of_plain
        ),
    )


def _gathered(samples: Iterable[Sample]) -> list[CellSamples]:
    """Cells as reports know them: one for each workload, target and metric, whatever its units."""
    found: dict[Cell, CellSamples] = {}
    for cell in gathered(samples):
        name = cell.key[:3]
        known = found.get(name)
        found[name] = cell if known is None else CellSamples(cell.key, [*known.samples, *cell.samples])
    return list(found.values())


def labelled(samples: Iterable[Sample]) -> list[Sample]:
    """The samples with their parameters in the name of the workload: what a report compares with each other.

    Targets are compared at equal parameters, as they are on one workload.
    """
    return [
        sample
        if not sample.parameters
        else replace(
            sample, workload=f"{sample.workload} ({parameter_label(sample.parameters)})", parameters={}
        )
        for sample in samples
    ]


def _tables(found: Sequence[CellSamples], by_cell: Mapping[Cell, Estimate]) -> tuple[MetricTable, ...]:
    grouped: defaultdict[tuple[str, str], list[CellSamples]] = defaultdict(list)
    for cell in found:
        if cell.was_measured and not cell.metric.startswith(PHASE_PREFIX):
            grouped[cell.workload, cell.metric].append(cell)
    tables = []
    for workload, metric in sorted(grouped, key=lambda key: (key[0], metric_order(key[1]))):
        group = sorted(grouped[workload, metric], key=lambda cell: target_order(cell.target))
        baseline = next((cell.values for cell in group if cell.target == BASELINE), _NOTHING)
        rows = tuple(_row(cell, by_cell.get(cell.key[:3]), baseline) for cell in group)
        unit = shown_unit(metric, group[0].unit)
        words = metric_text(metric)
        tables.append(MetricTable(workload, metric, unit, words, rows, len(baseline) > 0))
    return tuple(tables)


def _row(cell: CellSamples, estimate: Estimate | None, baseline: Values) -> Row:
    values, target = cell.values, cell.target
    if not len(values):
        estimate = None
    uncounted = Counter(sample.status for sample in cell.others if not sample.warmup)
    is_ratio = len(values) and len(baseline) and target != BASELINE
    return Row(
        workload=cell.workload,
        target=target,
        said=said(cell.qualifiers if len(values) else _qualifiers_of_failures(cell)),
        values=values,
        estimate=estimate,
        quantity=estimated(replace(estimate, unit=shown_unit(cell.metric, estimate.unit)))
        if estimate
        else None,
        ratio=times(values, baseline) if is_ratio else None,
        failed=uncounted["failed"],
        rejected=uncounted["rejected"],
    )


def _qualifiers_of_failures(cell: CellSamples) -> Iterable[Mapping[str, str]]:
    return (sample.qualifiers for sample in cell.samples if not sample.warmup)


def times(values: Values, reference: Values) -> Quantity | None:
    """How many times the median of `reference` the median of `values` is; None if it has no meaning."""
    if reference.min() <= 0 or values.min() < 0:
        return None
    return quantity(*ratio(values, reference), TIMES)


def shown_field(name: str, value: str) -> str:
    """A field of the fingerprint for people: a plain number of seconds or bytes gets its unit."""
    unit = "s" if name.startswith(SECONDS_PREFIX) else "B" if name in BYTE_FIELDS else ""
    try:
        return single(float(value), unit) if unit else value
    except ValueError:
        return value


def _environment(run: Run) -> dict[str, tuple[tuple[str, str], ...]]:
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, value in run.environment.fields.items():
        group, _, rest = name.partition(".")
        groups[one_line(group)].append((one_line(rest or group), visible(shown_field(name, value), 600)))
    return {group: tuple(fields) for group, fields in groups.items()}
