"""A run and its samples as what a report says: pure, no drawing, no I/O.

Every writer (console, HTML and whatever comes later) renders the same `Report`, so that no two of
them can tell different stories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from pybench.harness.model import Conditions, Estimate, Run, Sample, parameter_label
from pybench.harness.stats import CONFIDENCE, counts, estimates, ratio
from pybench.reports.circumstances import Circumstance, circumstances
from pybench.reports.curves import Curve, curve_parameter, curves, without_parameter
from pybench.reports.isolation import Isolation, is_verdict, isolation
from pybench.reports.numbers import DASH, TIMES, Quantity, estimated, one_line, quantity, visible
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
    target_order,
)

NO_TITLES: Mapping[str, str] = MappingProxyType({})
"""Where nothing is known of the audit's probes but what is stored."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: what a target cost by one metric.

    `values` are its samples that count, in the metric's unit; `quantity` and `ratio` are None where
    there is none, `ratio` also for the baseline itself.
    """

    workload: str
    target: str
    said: Said
    values: tuple[float, ...]
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
    if audited is not None:
        samples = [sample for sample in samples if not is_verdict(sample)]
    curved = [sample for sample in samples if curve_parameter(sample)]
    plain = (
        labelled(sample for sample in samples if not curve_parameter(sample)) if curved else labelled(samples)
    )
    samples = [*plain, *(without_parameter(sample, curve_parameter(sample)) for sample in curved)]
    cells: defaultdict[Cell, list[Sample]] = defaultdict(list)
    for sample in plain:
        if not sample.warmup and not sample.metric.startswith(PHASE_PREFIX):
            cells[sample.workload, sample.target, sample.metric].append(sample)
    by_cell = {(each.workload, each.target, each.metric): each for each in estimates(samples)}
    failures, left_out = failure_groups(samples)
    return Report(
        run=run,
        tables=_tables(cells, by_cell),
        phases=phase_bars(samples, by_cell),
        counts=launch_counts(samples),
        failures=failures,
        failures_left_out=left_out,
        channels=channels_used(samples, by_cell),
        images=images_used(samples),
        environment=_environment(run),
        curves=curves(curved),
        isolation=audited,
        circumstances=circumstances(run, plain, conditions, with_series=with_series, of_curves=curved),
    )


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


def _tables(
    cells: Mapping[Cell, Sequence[Sample]], by_cell: Mapping[Cell, Estimate]
) -> tuple[MetricTable, ...]:
    grouped: defaultdict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        grouped[cell[0], cell[2]].append(cell)
    tables = []
    for workload, metric in sorted(grouped, key=lambda key: (key[0], metric_order(key[1]))):
        group = sorted(grouped[workload, metric], key=lambda cell: target_order(cell[1]))
        values = {cell: _values(cells[cell]) for cell in group}
        baseline = values.get((workload, BASELINE, metric), ())
        rows = tuple(_row(cell, cells[cell], values[cell], by_cell.get(cell), baseline) for cell in group)
        unit = next((sample.unit for cell in group for sample in cells[cell]), "")
        tables.append(MetricTable(workload, metric, unit, metric_text(metric), rows, bool(baseline)))
    return tuple(tables)


def _row(
    cell: Cell,
    samples: Sequence[Sample],
    values: tuple[float, ...],
    estimate: Estimate | None,
    baseline: tuple[float, ...],
) -> Row:
    workload, target, _ = cell
    estimate = estimate if values else None
    uncounted = Counter(sample.status for sample in samples) if len(values) < len(samples) else Counter[str]()
    return Row(
        workload=workload,
        target=target,
        said=said(sample.qualifiers for sample in samples if sample.status == "ok" or not values),
        values=values,
        estimate=estimate,
        quantity=estimated(estimate) if estimate else None,
        ratio=times(values, baseline) if values and baseline and target != BASELINE else None,
        failed=uncounted["failed"],
        rejected=uncounted["rejected"],
    )


@lru_cache(maxsize=64)
def times(values: tuple[float, ...], reference: tuple[float, ...]) -> Quantity | None:
    """How many times the median of `reference` the median of `values` is; None if it has no meaning."""
    if min(reference) <= 0 or min(values) < 0:
        return None
    return quantity(*ratio(values, reference), TIMES)


def _values(samples: Sequence[Sample]) -> tuple[float, ...]:
    return tuple(sample.value for sample in samples if sample.value is not None and counts(sample))


def _environment(run: Run) -> dict[str, tuple[tuple[str, str], ...]]:
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for field, value in run.environment.fields.items():
        group, _, rest = field.partition(".")
        groups[one_line(group)].append((one_line(rest or group), visible(value, 600)))
    return {group: tuple(fields) for group, fields in groups.items()}
