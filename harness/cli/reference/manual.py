"""The manual page, for man(1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pybench.harness.cli.reference.pages import EXIT_CODES, VARIABLES, meaning
from pybench.harness.cli.reference.verbs import Parameter, Verb, common, flattened


def manual(every: Sequence[Verb]) -> str:
    """The page, in the man macros that man-pages(7) and groff_man(7) describe."""
    lines = [
        '.\\" Written from the code by `python -m pybench.harness.cli.reference docs`.',
        '.TH PYBENCH 1 "" "pybench" "User Commands"',
        ".SH NAME",
        "pybench \\- settle container or VM with evidence",
        ".SH SYNOPSIS",
        ".B pybench",
        "[\\fIOPTIONS\\fR] \\fIVERB\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        *_text(
            "pybench starts the identical workload as a bare process, in a container and in a virtual "
            "machine, measures how long that takes, what it costs and what it can see of its neighbours, "
            "and draws a report that a decision can rest on."
        ),
        ".SH OPTIONS",
        *_text("These may stand before or after every verb."),
        *_parameters(common()),
        ".SH VERBS",
        *(line for verb in flattened(every) for line in _verb(verb)),
        ".SH EXIT STATUS",
        *_tagged(EXIT_CODES.items()),
        ".SH ENVIRONMENT",
        *_tagged(VARIABLES.items()),
        ".SH FILES",
        *_tagged(
            {
                "results/pybench.sqlite": "the record: every sample of every run",
                "results/RUN/report.html": "the report of a run",
            }.items()
        ),
        ".SH SEE ALSO",
        "\\fBnamespaces\\fR(7), \\fBcgroups\\fR(7), \\fBvirsh\\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def _verb(verb: Verb) -> Iterator[str]:
    yield f".SS {_escaped(verb.call)}"
    for paragraph in (verb.summary, *verb.paragraphs):
        yield ".PP"
        yield from _text(paragraph)
    yield from _parameters((*verb.arguments, *verb.options))
    if verb.examples:
        yield from (".PP", "For example:", ".PP", ".nf", ".RS")
        yield from map(_line, verb.examples)
        yield from (".RE", ".fi")


def _parameters(parameters: Iterable[Parameter]) -> Iterator[str]:
    for each in parameters:
        value = f" \\fI{_escaped(each.value)}\\fR" if each.value else ""
        yield ".TP"
        yield f"\\fB{_escaped(', '.join(each.names))}\\fR{value}"
        default = f" The default is {each.default}." if each.default else ""
        yield from _text(meaning(each) + default)


def _tagged(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, text in entries:
        yield from (".TP", f"\\fB{_escaped(tag)}\\fR", *_text(text))


def _text(text: str) -> list[str]:
    """One line of running text; what Markdown sets as code is plain here."""
    return [_line(text.replace("`", ""))]


def _line(text: str) -> str:
    """A line that begins with a dot or an apostrophe would be a request (groff(7))."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
