"""What the numbers of a run rest on: launches, failures, channels, images; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pybench.harness.model import Estimate, Sample
from pybench.harness.stats import counts
from pybench.reports.numbers import DASH, one_line, single, visible
from pybench.reports.vocabulary import PHASE_PREFIX, metric_order, target_order

FAILURE_GROUPS = 40
"""More different reasons than this are counted, not printed: guest output could fill the page."""

COARSE_FROM = 0.05
"""A channel whose resolution exceeds this share of a median is called coarse."""
NEGLIGIBLE = 0.0001

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


def launch_counts(samples: Sequence[Sample]) -> tuple[Count, ...]:
    """Launches of each (workload, target), told apart by their position in the plan."""
    launches: set[tuple[str, str, int]] = set()
    having: dict[str, set[tuple[str, str, int]]] = {name: set() for name in ("warmup", "ok", *_UNCOUNTED)}
    for sample in samples:
        launch = sample.workload, sample.target, sample.order
        launches.add(launch)
        if sample.warmup:
            having["warmup"].add(launch)
        if sample.status != "ok" or counts(sample):
            having[sample.status].add(launch)
    total = Counter((workload, target) for workload, target, _ in launches)
    each = {
        name: Counter((workload, target) for workload, target, _ in found) for name, found in having.items()
    }
    return tuple(
        Count(
            *key,
            launches=total[key],
            counted=each["ok"][key],
            warmups=each["warmup"][key],
            failed=each["failed"][key],
            rejected=each["rejected"][key],
        )
        for key in sorted(total, key=lambda key: (key[0], target_order(key[1])))
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


def channels_used(samples: Sequence[Sample], by_cell: Mapping[Cell, Estimate]) -> tuple[Channel, ...]:
    """How marks reached the host, by target, channel and resolution; phases go by their metric."""
    used: defaultdict[tuple[str, str, float, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if counts(sample) and not sample.metric.startswith(PHASE_PREFIX):
            used[sample.target, sample.channel, sample.resolution, sample.unit].append(sample)
    channels = []
    for (target, channel, resolution, unit), group in used.items():
        cells = dict.fromkeys((sample.workload, sample.target, sample.metric) for sample in group)
        medians = [abs(by_cell[cell].median) for cell in cells if cell in by_cell and by_cell[cell].median]
        share = resolution / min(medians) if medians else 0.0
        metrics = sorted({metric for _, _, metric in cells}, key=metric_order)
        channels.append(
            Channel(
                target=target,
                channel=one_line(channel),
                resolution=single(resolution, unit, 2) if resolution else "exact",
                metrics=tuple(one_line(metric) for metric in metrics),
                samples=len(group),
                share=_percent(share) if share else DASH,
                is_coarse=share > COARSE_FROM,
            )
        )
    return tuple(sorted(channels, key=lambda each: (target_order(each.target), each.channel)))


def images_used(samples: Sequence[Sample]) -> dict[str, tuple[str, ...]]:
    """Target → content hashes of the images that its samples name."""
    images: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if "image" in sample.qualifiers:
            images[sample.target].add(one_line(sample.qualifiers["image"], 80))
    return {target: tuple(sorted(images[target])) for target in sorted(images, key=target_order)}


def _percent(share: float) -> str:
    return f"{float(f'{share * 100:.1g}'):g} %" if share >= NEGLIGIBLE else f"< {NEGLIGIBLE * 100:g} %"
