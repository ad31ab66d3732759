"""Parameters of a scenario: `${name}` stands for each value in turn, and every combination is measured."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pybench.harness.model import ParameterValue
from pybench.harness.scenario.document import Document, KeyPath
from pybench.harness.scenario.language import MOST_COMBINATIONS

REFERENCE: Final = re.compile(r"(?<!\$)\$\{([a-z0-9][a-z0-9._-]{0,62})\}")
SECTIONS: Final = ("workloads", "targets")
"""Where parameters may be referred to."""
ESCAPED: Final = "$${"
"""What stands for `${` itself."""


def assignments(parameters: Mapping[str, list[ParameterValue]]) -> list[dict[str, ParameterValue]]:
    """Every combination of one value for each parameter; a single empty one where there are none."""
    return [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]


def check_parameters(
    document: Document, parameters: Mapping[str, list[ParameterValue]], measured: frozenset[str]
) -> None:
    """Each parameter is used and each reference is known.

    Args:
        document: the scenario.
        parameters: name → values.
        measured: the parameters that a measurement of the scenario takes for itself.

    Raises:
        InputError: a reference names no parameter, a parameter is used nowhere, or there are too many
            combinations.
    """
    used = set(measured)
    for path, text in _texts(document):
        for name in REFERENCE.findall(text):
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                raise document.error(path, f"${{{name}}} is no parameter", hint=f"parameters are: {known}")
            used.add(name)
    for name in parameters:
        if name not in used:
            hint = f"write ${{{name}}} where its value belongs, or remove it"
            raise document.error(
                ("parameters", name), "this parameter is used nowhere", at_key=True, hint=hint
            )
    count = math.prod(len(values) for values in parameters.values())
    if count > MOST_COMBINATIONS:
        raise document.error(
            ("parameters",), f"{count:,} combinations of values; {MOST_COMBINATIONS:,} is the limit"
        )


def substituted(data: Any, values: Mapping[str, ParameterValue]) -> Any:  # noqa: ANN401 - YAML data is anything
    """Data with each reference replaced; a text that is nothing but a reference becomes the value itself."""
    if isinstance(data, dict):
        return {key: substituted(value, values) for key, value in data.items()}
    if isinstance(data, list):
        return [substituted(value, values) for value in data]
    if not isinstance(data, str):
        return data
    if (whole := REFERENCE.fullmatch(data)) is not None:
        return values[whole[1]]
    return REFERENCE.sub(lambda match: str(values[match[1]]), data).replace(ESCAPED, "${")


def _texts(document: Document) -> Iterator[tuple[KeyPath, str]]:
    stack: list[tuple[KeyPath, Any]] = [
        ((section,), document.data.get(section)) for section in reversed(SECTIONS)
    ]
    while stack:
        path, data = stack.pop()
        if isinstance(data, dict):
            stack += [((*path, key), value) for key, value in reversed(data.items())]
        elif isinstance(data, list):
            stack += [((*path, index), value) for index, value in reversed(list(enumerate(data)))]
        elif isinstance(data, str):
            yield path, data
