"""What a shell may complete: the names that arguments and options of several verbs take.

Each is called with what is typed so far, and only while a shell completes. Whatever goes wrong there must not
show between the prompt and the cursor, so that a record that cannot be read completes to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pybench.runtime.errors import PybenchError


def scenarios(incomplete: str) -> Iterator[str]:
    """Shipped scenarios, and the files of the folder `scenarios`."""
    from pybench import scenarios as shipped  # noqa: PLC0415

    own = map(str, sorted(Path("scenarios").glob("*.yaml")))
    yield from _beginning(incomplete, [*shipped.names(), *own])


def targets(incomplete: str) -> Iterator[str]:
    """Kinds of targets; of several with commas between, the last."""
    from pybench.harness.targets import KINDS  # noqa: PLC0415

    before, comma, last = incomplete.rpartition(",")
    chosen = before.split(",")
    yield from _beginning(last, [name for name in KINDS if name not in chosen], f"{before}{comma}")


def metrics(incomplete: str) -> Iterator[str]:
    """Every metric that has a name of its own."""
    from pybench.harness.measure import MEASUREMENTS  # noqa: PLC0415

    names = [metric.name for each in MEASUREMENTS.values() for metric in each.metrics]
    yield from _beginning(incomplete, [name for name in names if "<" not in name])


def probes(incomplete: str) -> Iterator[tuple[str, str]]:
    """Every probe of the audit with what it asks."""
    from pybench.harness.audit.catalogue import catalogue  # noqa: PLC0415

    for probe in catalogue():
        if probe.id.startswith(incomplete):
            yield probe.id, probe.title


def images(incomplete: str) -> Iterator[str]:
    """Recipes and imported images."""
    from pybench import vm_images  # noqa: PLC0415

    try:
        yield from _beginning(incomplete, vm_images.sources())
    except PybenchError:
        return


def runs(incomplete: str) -> Iterator[str]:
    """`latest`, tags, and the newest runs of the record that is here."""
    from pybench.harness.cli.record import open_record  # noqa: PLC0415
    from pybench.harness.store import RunFilter  # noqa: PLC0415

    try:
        with open_record(os.environ.get("PYBENCH_STORE", ""), None) as record:
            newest = [run.id for run in reversed(record.runs(RunFilter(newest=50)))]
            names = ["latest", *record.tags.current(), *newest]
    except PybenchError:
        return
    yield from _beginning(incomplete, names)


def _beginning(incomplete: str, names: list[str], prefix: str = "") -> Iterator[str]:
    return (f"{prefix}{name}" for name in names if name.startswith(incomplete))
