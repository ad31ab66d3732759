"""The plan of a run, for `pybench run --dry-run`: what would be launched, how often, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from pybench.harness.cli.output import Format, console, print_data
from pybench.harness.runner.expectation import Expectation, expect, step_seconds
from pybench.harness.units import format_seconds, format_span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pybench.harness.model import Scenario, Schedule, Step

SHOWN_ROUNDS: Final = 2
SHOWN_STEPS: Final = 12


def show_plan(scenario: Scenario, record: Path | str, format_: Format) -> None:
    """Print the plan; a record of earlier runs, if there is one, tells how long a launch takes.

    Args:
        scenario: what would be run.
        record: the file, which need not be there, or what `--store` names.
        format_: how it is printed.

    Raises:
        InputError: the record cannot be read.
    """
    from pybench.harness.store import Store  # noqa: PLC0415

    measured = {}
    if isinstance(record, str) or record.is_file():
        with Store.open(record, create=False) as store:
            measured = step_seconds(store, scenario)
    expectations = expect(scenario, measured)
    if format_ is Format.TEXT:
        _tell(scenario, expectations)
        return
    records = [_record(each) for each in expectations]
    print_data(format_, document=records, records=records, lines=list)


def _tell(scenario: Scenario, expectations: Sequence[Expectation]) -> None:
    from rich.table import Table  # noqa: PLC0415 - slow to import

    table = Table(box=None, pad_edge=False)
    headings = (
        *("workload", "parameters", "target", "kind", "what", "warm-ups", "repetitions"),
        *("each", "in all", "by"),
    )
    for heading in headings:
        is_number = heading in {"warm-ups", "repetitions", "each", "in all"}
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for each in expectations:
        table.add_row(*_cells(each))
    total = sum(each.seconds for each in expectations)
    steps = sum(each.steps for each in expectations)
    if scenario.question:
        typer.echo(scenario.question)
    typer.echo(f"{scenario.name}: at most {steps} {_steps(scenario)}, about {format_span(total)}")
    console().print(table)
    for line in (*_order(scenario), *_rules(scenario.schedule)):
        typer.echo(line)
    typer.echo("nothing was launched")


def _record(each: Expectation) -> dict[str, object]:
    target = each.combination.target
    return {
        "workload": each.combination.workload.name,
        "parameters": each.combination.label,
        "target": target.name,
        "kind": target.kind,
        "procedure": each.task.procedure,
        "warmups": each.warmups,
        "repetitions": each.task.repetitions,
        "step_seconds": each.step_seconds,
        "seconds": each.seconds,
        "measured": each.is_measured,
    }


def _cells(each: Expectation) -> tuple[str, ...]:
    target = each.combination.target
    return (
        each.combination.workload.name,
        each.combination.label or "-",
        target.name,
        target.kind,
        each.task.procedure or "launch",
        str(each.warmups),
        str(each.task.repetitions),
        format_seconds(each.step_seconds),
        format_span(each.seconds),
        "earlier runs" if each.is_measured else "typical",
    )


def _steps(scenario: Scenario) -> str:
    return "steps" if any(choice.procedure for choice in scenario.measurements) else "launches"


def _name(step: Step) -> str:
    procedure = step.task.procedure
    return f"{step.target.name} ({procedure})" if procedure else step.target.name


def _order(scenario: Scenario) -> Iterator[str]:
    from pybench.harness.plan import plan  # noqa: PLC0415 - only asked for here

    steps = [step for step in plan(scenario) if not step.warmup]
    for number in range(SHOWN_ROUNDS):
        names = [_name(step) for step in steps if step.repetition == number]
        more = ", …" if len(names) > SHOWN_STEPS else ""
        if names:
            yield f"repetition {number + 1}: {', '.join(names[:SHOWN_STEPS])}{more}"
    yield f"and so on, seed {scenario.schedule.seed}"


def _rules(schedule: Schedule) -> Iterator[str]:
    """What may end it earlier, and what every launch waits for."""
    stop, settle = schedule.stop, schedule.settle
    if stop.precision is not None:
        yield (
            f"stops when the interval of the median of {stop.metric} is at most {stop.precision * 100:g} % "
            f"wide, from {stop.at_least} samples on"
        )
    if stop.time is not None:
        yield f"stops after {format_span(stop.time)}"
    if schedule.warmups_at_most is not None:
        yield f"warms up while launches get faster, {schedule.warmups} to {schedule.warmups_at_most} times"
    limits = {"runnable tasks": settle.running, "°C": settle.temperature}
    waits = [f"at most {limit:g} {name}" for name, limit in limits.items() if limit is not None]
    if settle.pressure is not None:
        waits.append(f"processor pressure at most {settle.pressure * 100:g} %")
    if waits:
        yield f"waits before each launch, {format_seconds(settle.timeout)} at most, for {', '.join(waits)}"
    if schedule.caches == "cold":
        yield "drops the host's page cache before each launch"
    if schedule.cpus:
        yield f"held to processors {', '.join(map(str, schedule.cpus))}"
    if schedule.priority == "high":
        yield "runs at a high scheduling priority, where permitted"
    if schedule.cpu_latency is not None:
        yield f"lets idle processors take {format_seconds(schedule.cpu_latency)} to wake up, where permitted"
