"""`pybench init`: a project to start from."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer

from pybench.harness.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SCENARIO: Final = "scenarios/first.yaml"
SCHEMA: Final = "scenarios/pybench.schema.json"
NIGHTLY: Final = "nightly.yaml"
CRON: Final = "nightly.cron"
IGNORED: Final = ".gitignore"
IGNORED_TEXT: Final = """\
# Measurements, and the job with its paths, belong to the machine that made them.
/results/
/nightly.cron
/nightly.log
/junit.xml
/summary.md
/site/
"""


@app.command(epilog="Example: pybench init bench && cd bench && pybench run scenarios/first.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
) -> None:
    """Write a commented scenario, the schema by which editors complete it, a nightly job, and a .gitignore.

    A file that exists is never touched: nothing is written then.
    """
    from pybench.harness.revision import revision  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.harness.scenario.schema import json_schema  # noqa: PLC0415

    package = resources.files("pybench.harness.scenario")
    contents = {
        SCENARIO: package.joinpath("starter.yaml").read_text(encoding="utf-8"),
        SCHEMA: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        NIGHTLY: package.joinpath("starter-nightly.yaml").read_text(encoding="utf-8"),
    }
    if user := _user_name():
        contents[CRON] = _cron(folder.absolute(), user)
    if not (folder / IGNORED).exists():
        contents[IGNORED] = IGNORED_TEXT
    for name in contents:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists", "choose another folder, or move the file away")
    try:
        (folder / SCENARIO).parent.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(content)
            typer.echo(f"wrote {folder / name}")
    except OSError as error:
        raise InputError(
            f"{error.filename}: {error.strerror}", "choose a folder that you may write"
        ) from error
    place, scenario, cron = (shlex.quote(str(path)) for path in (folder, folder / SCENARIO, folder / CRON))
    typer.echo(f"next: pybench run {scenario} --dry-run")
    if not revision(folder.absolute()):
        typer.echo(f"baselines go by branch: git -C {place} init --initial-branch main")
    if user:
        typer.echo(f"every night: sudo install -m 644 {cron} /etc/cron.d/pybench")
    else:
        typer.echo(f"no job for cron: it names a user, and uid {os.geteuid()} has no name here")


def _user_name() -> str:
    """Whoever this is; empty for a number without an account, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _cron(folder: Path, user: str) -> str:
    """A line of crontab(5) for /etc/cron.d, where a `%` would end the command."""
    program = Path(sys.executable).with_name("pybench")
    place, command = (shlex.quote(str(path)).replace("%", "\\%") for path in (folder, program))
    return (
        "# cron mails what is printed: the end of the log when the exit code is not 0.\n"
        f"30 2 * * * {user} cd {place} && {command} nightly {NIGHTLY} >nightly.log 2>&1"
        " || tail -n 40 nightly.log\n"
    )
