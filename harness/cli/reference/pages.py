"""The pages about the command line, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pybench.harness.cli.output import Record, markdown_table
from pybench.harness.cli.reference.verbs import Parameter, Verb, common

ORIGIN: Final = "Written from the code by `python -m pybench.harness.cli.reference docs`."
EXIT_CODES: Final = {
    "0": "done and within limits",
    "1": "a gate, a claim or an isolation limit is broken, or an instance failed",
    "2": "bad usage or bad input",
    "3": "this host cannot run it; the message says what is missing and which command installs it",
    "4": "inconclusive",
    "130": "interrupted; what was measured until then is kept",
}
VARIABLES: Final = {
    "PYBENCH_STORE": "the record, as `--store` names it",
    "PYBENCH_CACHE": "where images are kept, instead of the user's cache directory",
    "PYBENCH_RECIPES": "a folder of your own recipes of images",
    "PYBENCH_CHROMIUM": "the browser that writes reports as PDF",
    "NO_COLOR": "no colours, whatever it is set to",
}


def overview_page(every: Sequence[Verb]) -> str:
    """All verbs in one table, and what they have in common."""
    rows = [
        {"verb": f"[`pybench {verb.name}`]({verb.name}.md)", "what it does": verb.summary} for verb in every
    ]
    lines = [
        "# Command line",
        "",
        ORIGIN,
        "",
        *table(rows),
        "",
        "## Every verb",
        "",
        "These may stand before or after the verb. `pybench VERB --help` has the same as the pages here, and "
        "so has the manual page, `man docs/man/pybench.1`.",
        "",
        *_parameters(common()),
        "",
        "Results go to standard output, everything else to standard error. In a pipe there are no colours "
        "and no bars. `--format` prints data for programs (`json`), spreadsheets (`csv`) or documents "
        "(`markdown`).",
        "",
        "## Exit codes",
        "",
        *table([{"code": code, "meaning": meaning} for code, meaning in EXIT_CODES.items()]),
        "",
        "## Environment",
        "",
        *table([{"variable": f"`{name}`", "meaning": meaning} for name, meaning in VARIABLES.items()]),
    ]
    return "\n".join(lines) + "\n"


def verb_page(verb: Verb) -> str:
    """One verb with those below it."""
    return "\n".join([f"# pybench {verb.name}", "", ORIGIN, "", *_verb(verb)]) + "\n"


def _verb(verb: Verb) -> Iterator[str]:
    yield from ("```", verb.call, "```", "", verb.summary)
    for paragraph in verb.paragraphs:
        yield from ("", paragraph)
    if verb.arguments:
        yield from ("", *_parameters(verb.arguments))
    if verb.options:
        yield from ("", *_parameters(verb.options))
    if verb.examples:
        yield from ("", "For example:", "", "```", *verb.examples, "```")
    for below in verb.verbs:
        yield from ("", f"## pybench {' '.join(below.path)}", "", *_verb(below))


def _parameters(parameters: Sequence[Parameter]) -> list[str]:
    kind = "option" if parameters[0].names[0].startswith("-") else "argument"
    rows = [
        {
            kind: f"`{', '.join(each.names)}{f' {each.value}' if each.value else ''}`",
            "meaning": meaning(each),
            "default": f"`{each.default}`" if each.default else "",
        }
        for each in parameters
    ]
    if not any(row["default"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "default"} for row in rows]
    return table(rows)


def meaning(parameter: Parameter) -> str:
    """What it means, with what else must be said of it."""
    said = [parameter.text]
    if parameter.repeated and "again" not in parameter.text and "repeat" not in parameter.text:
        said.append("May be given again.")
    if parameter.variable:
        said.append(f"Also `{parameter.variable}`.")
    if parameter.required and parameter.names[0].startswith("-"):
        said.append("Required.")
    return " ".join(said)


def table(rows: Sequence[Record]) -> list[str]:
    """A table whose cells are Markdown."""
    return markdown_table(rows, marked_up=True)
