"""`pybench completion`: what makes a shell complete the command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Shell(StrEnum):
    """A shell that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(epilog='Example: eval "$(pybench completion bash)"')
def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print the script that makes a shell complete verbs, options, scenarios, targets, images and runs.

    bash, in ~/.bashrc: eval "$(pybench completion bash)"

    zsh, in ~/.zshrc after compinit: eval "$(pybench completion zsh)"

    fish: pybench completion fish > ~/.config/fish/completions/pybench.fish
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - keeps the other verbs quick

    from pybench.harness.cli.main import COMPLETION  # noqa: PLC0415 - which imports this module by name

    typer.echo(get_completion_script(prog_name="pybench", complete_var=COMPLETION, shell=shell.value))
