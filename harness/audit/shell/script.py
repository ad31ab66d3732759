"""The script for guests without python3, and the answers in what it prints.

Each part is a few lines for a POSIX shell with the usual small tools. It prints what it reads, and judges
nothing; what that means is found out on the host, where it becomes the answer that the payload in Python
gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ValidationError

from pybench.harness.audit.answer import LARGEST_ANSWER, LONGEST_TEXT, Answer, MalformedAnswerError
from pybench.harness.audit.observation import clean
from pybench.harness.audit.shell.parts import PARTS, Printed
from pybench.harness.audit.subjects.base import SHELL_SCRIPT, NoPythonError

if TYPE_CHECKING:
    from pybench.harness.audit.model import Parameters, Probe

_BEGIN: Final = "@"
_END: Final = "@end"
_LINE: Final = "|"
_MOST_SIGHTINGS: Final = 64
TOOLS: Final = (
    "cat", "dmesg", "find", "grep", "head", "id", "ls", "mount", "mv", "readlink", "rm", "sed", "sort",
    "stat", "tail", "tr", "uname", "unshare",
)  # fmt: skip
"""Of every busybox and of Debian's essential packages."""
_PREAMBLE: Final = r"""
part() { printf '\n@%s\n' "$1"; }
show() { for f in "$@"; do printf '>%s\n' "$f"; head -c 1048576 "$f" | tr '\000' '\n'; echo; done; }
writes() { for f in "$@"; do [ -e "$f" ] && printf '%s=' "$f" && { ( : >>"$f" ) 2>&1; echo; }; done; }
opens() { for f in "$@"; do printf '%s=' "$f"; { ( : <"$f" ) 2>&1; echo; }; done; }
lines() { sed 's/^/|/'; }
""".lstrip()
"""`writes` opens as >> does, which neither truncates nor, unless something is printed, writes."""


class ShellPayload:
    """For instances with a shell alone; arguments as of `PythonPayload`."""

    interpreter: ClassVar[tuple[str, ...]] = SHELL_SCRIPT

    def __init__(self, shape: str, asked: Sequence[tuple[Probe, Parameters]], *, shared: bool) -> None:
        self._shape = shape
        self._asked = [(probe, {**parameters, "shared": shared}) for probe, parameters in asked]
        self.script = script(self._asked)

    def read(self, output: bytes) -> tuple[Mapping[str, Answer], Mapping[str, str]]:
        """The answers in what it printed.

        Raises:
            NoPythonError: the instance lacks tools that the script needs.
        """
        return read_answers(output, self._asked, self._shape)


def script(asked: Sequence[tuple[Probe, Parameters]]) -> bytes:
    """The script that asks some probes, all of which have a part in it."""
    parts = [
        f"part {probe.id}\n{{\n{PARTS[probe.id].script(parameters)}\n}} 2>/dev/null | lines\n{_end()}"
        for probe, parameters in asked
    ]
    looking = f'for t in {" ".join(TOOLS)}; do command -v $t >/dev/null || echo "|$t"; done'
    missing = f"part tools\n{looking}\n{_end()}"
    return (_PREAMBLE + "\n".join([missing, *parts]) + "\n").encode()


def _end() -> str:
    return f"printf '\\n%s\\n' {_END}"


def read_answers(
    output: bytes, asked: Sequence[tuple[Probe, Parameters]], shape: str
) -> tuple[Mapping[str, Answer], Mapping[str, str]]:
    """The answers in what the script printed.

    Args:
        output: hostile.
        asked: as to `script`.
        shape: a regular expression that tokens match.

    Returns:
        Probe → its answer; probe → what is wrong with it, for each one asked that has no valid answer.

    Raises:
        NoPythonError: the guest lacks tools that the script needs.
    """
    sections, twice = _sections(output[:LARGEST_ANSWER].decode("utf-8", "backslashreplace"))
    if missing := sections.get("tools"):
        raise NoPythonError(f"the image has neither python3 nor {clean(' '.join(missing))}")
    answers: dict[str, Answer] = {}
    faults: dict[str, str] = {}
    for probe, parameters in asked:
        name = probe.id
        if name in twice:
            faults[name] = "the script answered twice"
        elif name not in sections:
            faults[name] = "the script did not answer"
        else:
            printed = Printed(sections[name])
            try:
                facts = PARTS[name].facts(printed, parameters)
                answers[name] = Answer.model_validate(
                    {"probe": name, "status": "done", "facts": facts, "seen": _sightings(printed, shape)}
                )
            except (ValidationError, MalformedAnswerError, ValueError) as error:
                first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
                faults[name] = f"the script printed what is no answer: {first}"
    return answers, faults


def _sections(text: str) -> tuple[dict[str, list[str]], set[str]]:
    """The lines between the beginning and the end of each part; a part without its end was cut off."""
    found: dict[str, list[str]] = {}
    twice: set[str] = set()
    name, lines = "", list[str]()
    for line in text.split("\n"):
        if line.startswith(_LINE) and name:
            lines.append(line[1:])
        elif line == _END:
            if name in found:
                twice.add(name)
            elif name:
                found[name] = lines
            name = ""
        elif line.startswith(_BEGIN):
            name, lines = line[1:], []
    return found, twice


def _sightings(printed: Printed, shape: str) -> list[tuple[str, str]]:
    """Tokens, each with the first file in which it was."""
    found: dict[str, str] = {}
    pattern = re.compile(shape)
    for place, line in printed.by_place:
        for token in pattern.findall(f"{place} {line}"):
            if len(found) < _MOST_SIGHTINGS:
                found.setdefault(token, place[:LONGEST_TEXT])
    return list(found.items())
