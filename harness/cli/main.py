"""The command `pybench`: its verbs, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import typer
from typer.core import TyperGroup

from pybench.harness.cli.common_options import QuietOption, VerboseOption, with_common_options
from pybench.harness.cli.output import Verbosity, complain, detail, set_verbosity
from pybench.harness.cli.suggestions import suggestion
from pybench.runtime.errors import InputError, PybenchError

INTERRUPTED: Final = 130
COMPLETION: Final = "_PYBENCH_COMPLETE"
"""The variable in which a shell asks for completions."""

VERBS: Final = {
    "run": "Run a scenario and report what it measured.",
    "audit": "Tell what leaks through the isolation of each target, with proof.",
    "compare": "Tell what changed between two runs, and how sure that is.",
    "ab": "Measure two revisions or settings in alternation, and fail if the second is worse.",
    "gate": "Fail if a run is worse than its baseline.",
    "nightly": "Measure, gate and report a list of scenarios, with one exit code.",
    "history": "List runs and trends; tag, annotate, prune, import and deliver runs.",
    "report": "Write the report of a run that is stored.",
    "export": "Write runs to Parquet, CSV or JSON lines.",
    "init": "Write a project to start from: a commented scenario and a nightly job.",
    "list": "Tell which scenarios, targets, probes and metrics there are.",
    "schema": "Print the scenario language as JSON Schema, for editors.",
    "shell": "Open a terminal in a container or a virtual machine.",
    "images": "Build and list the images that scenarios use.",
    "doctor": "Tell what this host can do, and how to get what it lacks.",
    "clean": "Remove whatever a killed run left behind.",
    "completion": "Print what makes a shell complete this command.",
}
"""Every verb with its first help line; its module, of the same name, is imported when it is used."""


class LazyGroup(TyperGroup):
    """Knows its verbs without importing them, so that `pybench --help` answers at once.

    The types of click are spelled Any: Typer brings a click of its own from 0.20 or so on.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002
        """The verbs in the order in which a newcomer needs them."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """A verb as far as the overview and completion need it: its help line."""
        if cmd_name not in VERBS:
            return None
        overview = typer.Typer(add_completion=False, rich_markup_mode=None)
        overview.command(help=VERBS[cmd_name])(lambda: None)
        return typer.main.get_command(overview)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401
        """The verb that is meant, imported."""
        name, *rest = args
        if name in VERBS:
            return name, load(name), rest
        if ctx.resilient_parsing:
            return None, None, rest
        hint = suggestion(name, VERBS, "`pybench --help` lists the verbs")
        raise InputError(f"there is no verb {name!r}", hint)


def load(verb: str) -> Any:  # noqa: ANN401
    """Import a verb; its command as click knows it, with the options that all verbs take."""
    module = importlib.import_module(f"pybench.harness.cli.{verb}")
    return with_common_options(typer.main.get_command(module.app))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"pybench {version('pybench-harness')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: pybench run scenarios/startup.yaml",
)


@app.callback()
def pybench(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Settle “container or VM?” with evidence: start-up, memory and isolation of identical workloads."""


def main() -> None:
    """Run the command line; the only place that exits."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    set_verbosity(Verbosity.NORMAL)
    if COMPLETION in os.environ:
        from typer._completion_classes import completion_init  # noqa: PLC0415 - only a shell needs it

        completion_init()
    try:
        app(args=arguments, prog_name="pybench")
    except PybenchError as error:
        _tell(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody to tell, and Python's own attempt
        # to flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        complain("pybench: interrupted")
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _tell(error: PybenchError) -> None:
    complain(f"pybench: {error.message}")
    if error.hint:
        complain(f"  hint: {error.hint}")
    cause = error.__cause__
    while cause is not None:
        detail(f"  because of {type(cause).__name__}: {cause}")
        cause = cause.__cause__
