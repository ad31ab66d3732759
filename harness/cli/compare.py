"""`pybench compare`: what changed between two runs, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.output import Format, FormatOption, flat, print_data
from pybench.harness.cli.record import ResultsOption, StoreOption
from pybench.harness.cli.sides import sides

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench compare main latest")
def compare(
    baseline: Annotated[
        str,
        typer.Argument(
            help="A run, tag or branch, or a file that was exported.", autocompletion=completers.runs
        ),
    ],
    candidate: Annotated[
        str,
        typer.Argument(help="The same; what is compared with the baseline.", autocompletion=completers.runs),
    ],
    phases: Annotated[bool, typer.Option("--phases", help="Show the phases as cells too.")] = False,
    store: StoreOption = "",
    results: ResultsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell whether each cell became faster, slower or stayed the same, by how much, and how sure that is.

    Environments that are not alike are pointed out; `pybench gate` refuses them.
    """
    from pybench.harness.comparability import mismatched_qualifiers  # noqa: PLC0415
    from pybench.harness.comparison import runs  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.comparison.pace import Pace, Slowdown  # noqa: PLC0415
    from pybench.harness.conditions import paces  # noqa: PLC0415
    from pybench.harness.environment import mismatches  # noqa: PLC0415
    from pybench.harness.export.comparison import comparison_document  # noqa: PLC0415

    with sides(store, results) as found:
        wholes = [found.load_whole(name) for name in (baseline, candidate)]
    (left, right), (before, after) = ([each.run for each in wholes], [each.samples for each in wholes])
    slowdown = Slowdown.between(*(Pace.of(paces(each.conditions)) for each in wholes))
    differences = [
        *mismatches(left.environment, right.environment),
        *mismatched_qualifiers(before, after),
    ]
    comparison = runs.compare(before, after, slowdown=slowdown)

    def lines() -> Iterator[str]:
        from pybench.harness.cli.show_comparison import comparison_lines  # noqa: PLC0415
        from pybench.reports.slowdown import slowdown_told  # noqa: PLC0415

        yield f"{left.id} → {right.id}"
        for each in differences:
            yield f"not alike: {each}"
        if left.scenario != right.scenario:
            yield f"not alike: scenario: {left.scenario} ≠ {right.scenario}"
        if told := slowdown_told(slowdown):
            yield told
        yield ""
        yield from comparison_lines(comparison, with_phases=phases)

    document = comparison_document(comparison, left.id, right.id, differences)
    print_data(format_, document=document, records=map(flat, document["cells"]), lines=lines)
