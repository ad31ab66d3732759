"""A run's progress on standard error: a bar on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pybench.harness.cli.output import Verbosity, complain, detail, note, verbosity
from pybench.harness.runner.progress import Event, Listener, Preparing, StepBegins, StepEnded
from pybench.harness.units import format_span

if TYPE_CHECKING:
    from pybench.harness.model import Step

LINES: Final = 10
"""Progress lines of a whole run where there is no terminal."""
_SHOWN_FAILURES: Final = 3
"""Failures of one target that are told while the run goes on; the rest is counted at its end."""


@contextmanager
def progress_listener() -> Iterator[Listener]:
    """A listener that shows what happens and how long the rest will take.

    Under `--quiet` only failures are told; under `--verbose` every step is a line with what it measured.
    """
    if verbosity() is Verbosity.QUIET:
        yield _Failures().listen
    elif verbosity() is Verbosity.VERBOSE:
        yield _Steps().listen
    elif sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield _Lines().listen


class _Failures:
    """Tells the first failures of each target."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def line(self, event: StepEnded) -> str:
        """What to say about a step, or nothing."""
        if not event.failure:
            return ""
        name = event.step.target.name
        self._seen[name] = self._seen.get(name, 0) + 1
        if self._seen[name] > _SHOWN_FAILURES:
            return ""
        more = "; further failures are only counted" if self._seen[name] == _SHOWN_FAILURES else ""
        return f"failed: {_what(event.step)}: {event.failure}{more}"

    def listen(self, event: Event) -> None:
        if isinstance(event, StepEnded) and (line := self.line(event)):
            complain(line)


class _Steps:
    """For whoever wants to see each step."""

    def listen(self, event: Event) -> None:
        match event:
            case Preparing():
                detail(f"preparing {_prepared(event)}")
            case StepBegins():
                pass
            case StepEnded():
                detail(f"{event.done}/{event.total} {_what(event.step)}: {event.failure or _values(event)}")


class _Lines:
    """For a pipe or a log file."""

    def __init__(self) -> None:
        self._failures = _Failures()
        self._told = 0

    def listen(self, event: Event) -> None:
        match event:
            case Preparing():
                note(f"preparing {_prepared(event)}")
            case StepEnded():
                if line := self._failures.line(event):
                    complain(line)
                if event.done * LINES // event.total > self._told:
                    self._told = event.done * LINES // event.total
                    left = "" if event.remaining is None else f", {format_span(event.remaining)} left"
                    note(f"{event.done} of {event.total} steps{left}")
            case StepBegins():
                pass


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}"),
    )
    failures = _Failures()
    # Redrawn by the events, not by a thread of its own, which would run beside the measurements.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=None, left="")

        def listen(event: Event) -> None:
            match event:
                case Preparing():
                    description = f"preparing {_prepared(event)}"
                    progress.update(task, description=description, total=event.total, completed=event.done)
                case StepBegins():
                    left = "" if event.remaining is None else f"{format_span(event.remaining)} left"
                    progress.update(
                        task,
                        description=_what(event.step),
                        total=event.total,
                        completed=event.done,
                        left=left,
                    )
                case StepEnded():
                    progress.update(task, completed=event.done)
                    if line := failures.line(event):
                        progress.console.print(escape(line), highlight=False)
            progress.refresh()

        yield listen


def _values(event: StepEnded) -> str:
    """What a step measured, phases left out."""
    from pybench.harness.comparison.attribution import PREFIX  # noqa: PLC0415 - few look this closely
    from pybench.reports.numbers import single  # noqa: PLC0415

    return ", ".join(
        f"{sample.metric} {single(sample.value, sample.unit)}"
        for sample in event.samples
        if sample.value is not None and not sample.metric.startswith(PREFIX)
    )


def _prepared(event: Preparing) -> str:
    combination = event.combination
    return f"{combination.target.name} for {combination.workload.name}{_with(combination.label)}"


def _what(step: Step) -> str:
    kind = "warm-up" if step.warmup else "repetition"
    what = f"{step.target.name} {step.workload.name}{_with(step.combination.label)}"
    procedure = f" of {step.task.procedure}" if step.task.procedure else ""
    return f"{what}, {kind} {step.repetition + 1}{procedure}"


def _with(label: str) -> str:
    return f" ({label})" if label else ""
