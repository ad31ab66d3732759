"""The options that every verb takes, before or after its name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pybench.harness.cli.output import Verbosity, set_verbosity
from pybench.harness.cli.overview import QUIET_HELP, VERBOSE_HELP


def _quiet(wanted: bool) -> None:
    if wanted:
        set_verbosity(Verbosity.QUIET)


def _verbose(wanted: bool) -> None:
    if wanted:
        set_verbosity(Verbosity.VERBOSE)


QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_quiet, expose_value=False, help=QUIET_HELP),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_verbose,
        expose_value=False,
        help=VERBOSE_HELP,
    ),
]


def with_common_options(command: Any) -> Any:  # noqa: ANN401 - Typer brings a click of its own
    """A verb, and the verbs below it, with the options added.

    A verb that passes on the options of another command, such as `pybench shell`, keeps its line for that.
    """
    if command.ignore_unknown_options or command.context_settings.get("ignore_unknown_options"):
        return command
    known = {option for parameter in command.params for option in parameter.opts}
    command.params += [each for each in _common() if not known & set(each.opts)]
    for each in getattr(command, "commands", {}).values():
        with_common_options(each)
    return command


def common_options(quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """Take the options that all verbs have in common; they act when they are read."""


def _common() -> list[Any]:
    """The options as click knows them."""
    holder = typer.Typer(add_completion=False, rich_markup_mode=None)
    holder.command()(common_options)
    return list(typer.main.get_command(holder).params)
