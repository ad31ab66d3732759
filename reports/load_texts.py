"""Memory once settled, density, rate and interference in words, for `vocabulary.METRICS`."""

from __future__ import annotations

Texts = tuple[str, str, str, str, str]
"""Title, definition, comparison, cost, single; as `vocabulary.MetricText` has them."""


def _amount(title: str, definition: str, what: str) -> Texts:
    """Of something that there is more or less of."""
    comparison = f"{what} of {{high}} are {{ratio}} those of {{low}}"
    return title, definition, comparison, comparison, f"{what} of {{target}} are {{value}}"


def _size(title: str, definition: str, what: str) -> Texts:
    """Of one size or duration."""
    comparison = f"{what} of {{high}} is {{ratio}} that of {{low}}"
    return title, definition, comparison, comparison, f"{what} of {{target}} is {{value}}"


LOAD_TEXTS: dict[str, Texts] = {
    "memory.kernel.charged": _size(
        "Kernel memory charged to the cgroup",
        "All that the kernel keeps for the instance and charges to its own cgroup.",
        "the kernel memory",
    ),
    "memory.kernel.tables": _amount(
        "Page tables", "Page tables of the instance’s processes.", "the page tables"
    ),
    "memory.kernel.stacks": _amount(
        "Kernel stacks", "The kernel’s stacks of the instance’s threads.", "the kernel stacks"
    ),
    "memory.kernel.slab": _amount(
        "Slabs", "The kernel’s slabs that are charged to the instance’s cgroup.", "the slabs"
    ),
    "memory.settled.pss": _size(
        "Host memory once settled (PSS)",
        "Proportional set size of all host processes of the instance, once readings in a row agree.",
        "the settled host memory",
    ),
    "memory.settled.uss": _size(
        "Host memory of its own once settled (USS)",
        "Pages that only this instance’s processes have, once readings in a row agree.",
        "the settled memory of its own",
    ),
    "memory.settled.cgroup": _size(
        "Host memory once settled (cgroup)",
        "What its own cgroup is charged, once readings in a row agree.",
        "the settled charge",
    ),
    "memory.settled.kernel": _size(
        "Kernel memory once settled",
        "The part of the cgroup’s charge that the kernel keeps for itself.",
        "the settled kernel memory",
    ),
    "memory.settled.guest": _size(
        "Memory used once settled, as the guest sees it", "What the guest counts as used.", "the guest’s use"
    ),
    "density.memory.each": (
        "Memory of each further instance",
        "The slope of a line through the memory of all instances over their number.",
        "each further instance of {high} takes {ratio} the memory of one of {low}",
        "each further instance of {high} takes {ratio} the memory of one of {low}",
        "each further instance of {target} takes {value}",
    ),
    "density.predicted.memory": (
        "Instances that fit into memory",
        "How many the line reaches before the host’s memory, without the reserve, is used up.",
        "{ratio} as many instances of {high} fit as of {low}",
        "{ratio} as many instances of {high} fit as of {low}",
        "{value} instances of {target} fit",
    ),
    "density.start.each": _size(
        "Added to a start by each instance alive",
        "The slope of a line through the starts over the number of instances alive.",
        "what each instance adds to the next start",
    ),
    "density.predicted.start": (
        "Instances up to the limit of a start",
        "How many may be alive until the line reaches the longest acceptable start.",
        "{ratio} as many instances of {high} may be alive as of {low}",
        "{ratio} as many instances of {high} may be alive as of {low}",
        "{value} instances of {target} may be alive",
    ),
    "density.instances": (
        "Instances alive at the end of the ramp",
        "How many were alive at once.",
        "{ratio} as many instances of {high} were alive as of {low}",
        "{ratio} as many instances of {high} were alive as of {low}",
        "{value} instances of {target} were alive",
    ),
    "density.memory": _size(
        "Memory of all instances",
        "Proportional set sizes of all processes, and what the kernel keeps for them.",
        "the memory of all instances",
    ),
    "density.host": _size(
        "Memory gone from the whole host",
        "By how much less memory is available than before the ramp, whatever took it.",
        "the memory gone from the host",
    ),
    "density.start": _size(
        "Start with others alive",
        "From the request until ready, with the other instances of the ramp alive.",
        "the start beside others",
    ),
    "rate.best": (
        "Highest rate of starts",
        "Starts with their teardowns per second, at the best level of concurrency.",
        "{high} starts {ratio} as many instances a second as {low}",
        "{high} starts {ratio} as many instances a second as {low}",
        "{target} starts {value}",
    ),
    "rate.cycles": _size("Rate of starts", "Starts with their teardowns per second.", "the rate of starts"),
    "rate.start": _size(
        "Start under concurrency",
        "From the request until ready, as whoever asks sees it.",
        "the start under concurrency",
    ),
    **{
        f"rate.start.p{percentage}": _size(
            f"Start under concurrency, p{percentage}",
            f"{percentage} % of the starts took no longer.",
            f"the {percentage} % quantile of starts",
        )
        for percentage in ("50", "90", "95", "99", "99.9")
    },
    "interference.worst": (
        "Slowdown beside the worst neighbour",
        "The largest of the slowdowns beside all neighbours.",
        "the worst neighbour slows requests to {high} {ratio} as much as those to {low}",
        "the worst neighbour slows requests to {high} {ratio} as much as those to {low}",
        "the worst neighbour multiplies the 95th percentile of requests to {target} by {value}",
    ),
    "interference.slowdown": _size(
        "Slowdown beside a neighbour",
        "The 95th percentile of requests beside the neighbour, as a multiple of that alone.",
        "the slowdown",
    ),
    **{
        f"interference.latency.{name}": _size(
            f"Request beside a neighbour, {name}", "From the time it is due until it is answered.", what
        )
        for name, what in (
            ("p50", "the median request"),
            ("p95", "the 95 % quantile of requests"),
            ("p99", "the 99 % quantile of requests"),
            ("maximum", "the longest request"),
        )
    },
}
