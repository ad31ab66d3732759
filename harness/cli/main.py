"""The command line: its verbs, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import codecs
import importlib
import io
import os
import signal
import sys
from typing import Any, Final

import typer
from typer.core import TyperGroup

from pybench.harness.cli.common_options import QuietOption, VerboseOption, with_common_options
from pybench.harness.cli.output import Verbosity, complain, detail, set_verbosity
from pybench.harness.cli.overview import HELP_OPTIONS, VERBS, VERSION_HELP, overview
from pybench.harness.cli.suggestions import suggestion
from pybench.runtime.errors import InputError, PybenchError

INTERRUPTED: Final = 130
COMPLETION: Final = "_PYBENCH_COMPLETE"
"""The variable in which a shell asks for completions."""
# Typer hands on this class of click's alone, and from 0.20 or so on it is that of a click of its own.
_UsageError: Final[Any] = typer.BadParameter.__mro__[1]


class LazyGroup(TyperGroup):
    """Knows its verbs without importing them, so that `pybench --help` answers at once.

    The types of click are spelled Any: Typer brings a click of its own from 0.20 or so on.
    """

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401, ARG002
        """As `pybench --help` prints it at once."""
        return overview()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002
        """The verbs in the order in which a newcomer needs them."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """A verb as far as the overview and completion need it: its help line."""
        if cmd_name not in VERBS:
            return None
        summary = typer.Typer(add_completion=False, rich_markup_mode=None)
        summary.command(help=VERBS[cmd_name])(lambda: None)
        return typer.main.get_command(summary)

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
    context_settings={"help_option_names": list(HELP_OPTIONS)},
)


@app.callback()
def pybench(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help=VERSION_HELP
    ),
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take what comes before the verb; `overview` has the help."""


_NEAREST: Final = {
    "−": "-",
    "–": "-",
    "—": "-",
    "→": "->",
    "…": "...",
    "×": "x",
    "µ": "u",
    "≤": "<=",
    "≥": ">=",
}


def _nearest(problem: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an output cannot show, such as a minus sign in ASCII."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    lost = problem.object[problem.start : problem.end]
    return "".join(_NEAREST.get(character, "?") for character in lost), problem.end


def main() -> None:
    """Run the command line of this process, and exit.

    SIGTERM and SIGHUP are like Ctrl-C: what is being built is ended and removed, not only what is measured.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` ignores SIGHUP.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    codecs.register_error("nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nearest")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    set_verbosity(Verbosity.NORMAL)
    if COMPLETION in os.environ:
        from typer._completion_classes import completion_init  # noqa: PLC0415 - only a shell needs it

        completion_init()
    try:
        # A verb returns nothing; what comes back is the code with which one has ended early.
        return app(args=arguments, prog_name="pybench", standalone_mode=False) or 0
    except _UsageError as error:
        return _tell_of_usage(error, arguments)
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


def _tell_of_usage(error: Any, arguments: list[str]) -> int:  # noqa: ANN401 - of Typer's own click
    """What is wrong with the line that was typed, as any error; or the help that stands in for a verb."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if error.ctx is not None and error.message == error.ctx.get_help():
        error.show()
    else:
        verb = ["pybench", *(word for word in arguments[:1] if word in VERBS)]
        place = error.ctx.command_path if error.ctx is not None else " ".join(verb)
        _tell(InputError(message[:1].lower() + message[1:], f"`{place} --help` tells what it takes"))
    return InputError.exit_code


def _tell(error: PybenchError) -> None:
    complain(f"pybench: {error.message}")
    if error.hint:
        complain(f"  hint: {error.hint}")
    cause = error.__cause__
    while cause is not None:
        detail(f"  because of {type(cause).__name__}: {cause}")
        cause = cause.__cause__
