"""An audit for people: progress, the matrix, leaks with their evidence, and the explanation of a probe."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.catalogue import TITLES
from pybench.harness.audit.model import KINDS, SEVERITIES, Outcome
from pybench.harness.audit.results import FORMULA, matrix, tally
from pybench.harness.audit.waivers import waiver_of
from pybench.harness.cli.output import Verbosity, note, verbosity

if TYPE_CHECKING:
    from rich.console import Console

    from pybench.harness.audit.model import Audit, Judged, Probe
    from pybench.harness.audit.results import Change, Difference
    from pybench.harness.audit.session import Tell
    from pybench.harness.audit.waivers import Waiver

_WIDTH: Final = 120
_MOST_EVIDENCE: Final = 4
_WORDS: Final = {
    Outcome.LEAK: ("LEAK", "bold red"),
    Outcome.ERROR: ("error", "bold magenta"),
    Outcome.SHARED: ("shared", "yellow"),
    Outcome.ISOLATED: ("isolated", "green"),
    Outcome.NOT_APPLICABLE: ("n/a", "dim"),
}


@contextmanager
def progress() -> Iterator[Tell]:
    """Tells on standard error what is done: a spinner on a terminal, lines in a pipe."""
    if not sys.stderr.isatty() or verbosity() is not Verbosity.NORMAL:
        yield lambda target, what: note(f"{target}: {what}")
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import

    with Console(stderr=True).status("planting canaries") as status:
        yield lambda target, what: status.update(f"{target}: {what}")


def rendered(audit: Audit, waivers: Sequence[Waiver], kind: str) -> str:
    """The audit as one of the formats of the command line."""
    from pybench.harness.export import audit as export  # noqa: PLC0415

    renderers = {
        "json": export.to_json,
        "csv": export.to_csv,
        "junit": export.to_junit,
        "sarif": export.to_sarif,
        "markdown": export.to_markdown,
    }
    return renderers[kind](audit, waivers) if kind in renderers else _text(audit, waivers)


def _text(audit: Audit, waivers: Sequence[Waiver]) -> str:
    from rich.console import Console  # noqa: PLC0415 - slow to import

    buffer = io.StringIO()
    terminal = sys.stdout.isatty()
    console = Console(
        file=buffer,
        force_terminal=terminal,
        width=None if terminal else _WIDTH,
        highlight=False,
        markup=False,
    )
    _print_matrix(console, audit, waivers)
    _print_leaks(console, audit, waivers)
    _print_counts(console, audit)
    return buffer.getvalue()


def _print_matrix(console: Console, audit: Audit, waivers: Sequence[Waiver]) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    for category, rows in matrix(audit):
        table = Table(title=TITLES[category], title_justify="left", title_style="bold", box=None)
        table.add_column("", no_wrap=True)
        table.add_column("", min_width=30, ratio=1)
        table.add_column("severity", no_wrap=True)
        for target in audit.targets:
            table.add_column(target.label.replace("container-", "container\n"), no_wrap=True)
        for row in rows:
            cells = [_cell(row.cells.get(target.label), waivers) for target in audit.targets]
            styled = [Text(word, style) for word, style in cells]
            table.add_row(row.probe.id, row.probe.title, row.probe.severity, *styled)
        console.print(table)
        console.print()


def _cell(judged: Judged | None, waivers: Sequence[Waiver]) -> tuple[str, str]:
    if judged is None:
        return "", ""
    if waiver_of(judged, waivers):
        return "waived", "yellow"
    word, style = _WORDS[judged.verdict.outcome]
    return word, "dim" if judged.kind == "process" and judged.verdict.is_leak else style


def _print_leaks(console: Console, audit: Audit, waivers: Sequence[Waiver]) -> None:
    """Leaks and errors with their evidence; those that everybody expects of a bare process are left out."""
    for each in audit.judged:
        outcome = each.verdict.outcome
        if outcome not in {Outcome.LEAK, Outcome.ERROR} or (each.kind == "process" and each.is_expected):
            continue
        waiver = waiver_of(each, waivers)
        said = f"waived until {waiver.expiry}" if waiver else _WORDS[outcome][0]
        console.print(f"{each.probe.id} {each.target} {said} ({each.probe.severity}): {each.verdict.reason}")
        for line in each.verdict.evidence[:_MOST_EVIDENCE]:
            console.print(f"    {line}")
        if waiver:
            console.print(f"    {waiver.reason}")


def _print_counts(console: Console, audit: Audit) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None)
    for name in ("target", "isolated", "shared", "n/a", "error", "leaks", *SEVERITIES, "leak index", "took"):
        table.add_column(name, justify="left" if name == "target" else "right")
    for target in audit.targets:
        counted = tally(target.label, audit.judged)
        order = (Outcome.ISOLATED, Outcome.SHARED, Outcome.NOT_APPLICABLE, Outcome.ERROR, Outcome.LEAK)
        numbers = [str(counted.outcomes.get(outcome, 0)) for outcome in order]
        leaks = [str(counted.leaks.get(severity, 0)) for severity in SEVERITIES]
        index = "—" if counted.leak_index is None else f"{counted.leak_index:.1f}"
        table.add_row(target.label, *numbers, *leaks, index, f"{target.seconds:.1f} s")
    console.print()
    console.print(table)
    console.print(FORMULA)
    for name, reason in audit.unplanted.items():
        console.print(f"not planted: {name}: {reason}")


def waiver_lines(audit: Audit, waivers: Sequence[Waiver]) -> list[str]:
    """Waivers that nothing needed: their leaks are fixed, and they can go."""
    labels = {target.label for target in audit.targets}
    probes = {each.probe.id for each in audit.judged}
    return [
        f"the waiver of {waiver.probe} on {waiver.target} is not needed any more"
        for waiver in waivers
        if waiver.target in labels
        and waiver.probe in probes
        and not any(waiver.covers(each) and each.verdict.is_leak for each in audit.judged)
    ]


def difference_lines(changed: Difference) -> list[str]:
    """New leaks first, then fixed ones, then the rest."""
    lines = [f"new leak    {_change(each)}" for each in changed.new_leaks]
    lines += [f"fixed leak  {_change(each)}" for each in changed.fixed_leaks]
    lines += [f"changed     {_change(each)}" for each in changed.other]
    return lines or ["no verdict changed"]


def _change(change: Change) -> str:
    return f"{change.probe} on {change.target}: {change.before.value} → {change.after.value}"


def explanation(probe: Probe) -> str:
    """Everything the catalogue says of a probe."""
    paragraphs = [
        f"{probe.id}  {probe.title}",
        f"{TITLES[probe.category]}, severity {probe.severity}",
        probe.rationale,
        f"How sandboxes handle it: {probe.handling}",
        f"What to do: {probe.remediation}",
        "Expected: " + ", ".join(f"{kind} {probe.expected.on(kind).value}" for kind in KINDS),
    ]
    if probe.expected.note:
        paragraphs.append(f"Note: {probe.expected.note}.")
    text = "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs)
    return "\n".join([text, "", *probe.references])
