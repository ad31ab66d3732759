"""What the numbers of a run rest on: launches, failures, channels, images; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from pybench.harness.model import Estimate, Sample
from pybench.harness.stats import CellSamples, different_qualifiers
from pybench.reports.numbers import DASH, one_line, single, tied, visible
from pybench.reports.vocabulary import PHASE_PREFIX, metric_order, target_order

FAILURE_GROUPS = 40
"""More different reasons than this are counted, not printed: guest output could fill the page."""

COARSE_FROM = 0.05
"""A channel whose resolution exceeds this share of a median is called coarse."""
NEGLIGIBLE = 0.0001
TWO_DIGITS_FROM = 0.1

_UNCOUNTED = ("failed", "rejected")

Cell = tuple[str, str, str]
"""(workload, target, metric)"""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Launches of one target that failed for one reason; `reason` is bounded and safe to show."""

    workload: str
    target: str
    reason: str
    launches: int
    warmups: int
    """How many of the launches were warm-ups."""
    example: int
    """Position in the plan of the first of them."""


@dataclass(frozen=True, slots=True)
class Channel:
    """How the marks of one target reached the host."""

    target: str
    channel: str
    resolution: str
    metrics: tuple[str, ...]
    samples: int
    share: str
    """The resolution as a share of the smallest median among `metrics`, e.g. `0.1 %`."""
    is_coarse: bool
    """True where it exceeds 5 % of that median (`COARSE_FROM`)."""


@dataclass(frozen=True, slots=True)
class Count:
    """Launches of one target on one workload; one that failed in part is counted and failed."""

    workload: str
    target: str
    launches: int
    counted: int
    """Neither a warm-up nor failed altogether."""
    warmups: int
    failed: int
    """Those in which any measurement failed."""
    rejected: int = 0
    """Those in which the estimated error of any measurement was too large."""


def launch_counts(found: Sequence[CellSamples]) -> tuple[Count, ...]:
    """Launches of each (workload, target), told apart by their position in the plan."""
    launches: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    having: dict[str, defaultdict[tuple[str, str], set[int]]]
    having = {name: defaultdict(set) for name in ("warmup", "ok", *_UNCOUNTED)}
    for cell in found:
        pair = cell.workload, cell.target
        having["ok"][pair].update(cell.orders.tolist())
        for sample in cell.others:
            launches[pair].add(sample.order)
            if sample.warmup:
                having["warmup"][pair].add(sample.order)
            if sample.status != "ok":
                having[sample.status][pair].add(sample.order)
        launches[pair] |= having["ok"][pair]
    return tuple(
        Count(
            *pair,
            launches=len(launches[pair]),
            counted=len(having["ok"][pair]),
            warmups=len(having["warmup"][pair]),
            failed=len(having["failed"][pair]),
            rejected=len(having["rejected"][pair]),
        )
        for pair in sorted(launches, key=lambda pair: (pair[0], target_order(pair[1])))
    )


def failure_groups(samples: Sequence[Sample]) -> tuple[tuple[FailureGroup, ...], int]:
    """Failed launches by reason, the most frequent first, and how many launches are left out."""
    launches: dict[tuple[str, str, int], Sample] = {}
    for sample in samples:
        if sample.status == "failed":
            launches.setdefault((sample.workload, sample.target, sample.order), sample)
    groups: defaultdict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    for sample in launches.values():
        groups[sample.workload, sample.target, sample.reason].append(sample)
    failures = [
        FailureGroup(
            workload=workload,
            target=target,
            reason=visible(reason) or "no reason was recorded",
            launches=len(failed),
            warmups=sum(sample.warmup for sample in failed),
            example=min(sample.order for sample in failed),
        )
        for (workload, target, reason), failed in groups.items()
    ]
    failures.sort(key=lambda group: -group.launches)
    return tuple(failures[:FAILURE_GROUPS]), sum(group.launches for group in failures[FAILURE_GROUPS:])


def channels_used(found: Sequence[CellSamples], by_cell: Mapping[Cell, Estimate]) -> tuple[Channel, ...]:
    """How marks reached the host, by target, channel and resolution; phases go by their metric."""
    used: defaultdict[tuple[str, str, float, str], Counter[Cell]] = defaultdict(Counter)
    for cell in found:
        if cell.metric.startswith(PHASE_PREFIX):
            continue
        ways = Counter(map(attrgetter("channel", "resolution"), cell.counted))
        for (channel, resolution), number in ways.items():
            used[cell.target, channel, resolution, cell.unit][cell.key[:3]] += number
    channels = []
    for (target, channel, resolution, unit), cells in used.items():
        medians = [abs(by_cell[cell].median) for cell in cells if cell in by_cell and by_cell[cell].median]
        share = resolution / min(medians) if medians else 0.0
        metrics = sorted({metric for _, _, metric in cells}, key=metric_order)
        channels.append(
            Channel(
                target=target,
                channel=one_line(channel),
                resolution=single(resolution, unit, 2) if resolution else "exact",
                metrics=tuple(one_line(metric) for metric in metrics),
                samples=cells.total(),
                share=_percent(share) if share else DASH,
                is_coarse=share > COARSE_FROM,
            )
        )
    return tuple(sorted(channels, key=lambda each: (target_order(each.target), each.channel)))


def images_used(found: Sequence[CellSamples]) -> dict[str, tuple[str, ...]]:
    """Target → content hashes of the images that its samples name."""
    images: defaultdict[str, set[str]] = defaultdict(set)
    for cell in found:
        for qualifiers in different_qualifiers(cell.samples):
            if "image" in qualifiers:
                images[cell.target].add(one_line(qualifiers["image"], 80))
    return {target: tuple(sorted(images[target])) for target in sorted(images, key=target_order)}


def _percent(share: float) -> str:
    if share < NEGLIGIBLE:
        return tied(f"< {NEGLIGIBLE * 100:g} %")
    digits = 2 if share >= TWO_DIGITS_FROM else 1
    return tied(f"{float(f'{share * 100:.{digits}g}'):g} %")
