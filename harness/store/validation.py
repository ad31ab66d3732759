"""Whether what was read can be what was stored.

SQLite's files have no checksums: bytes that something else wrote into a page may still make a row. So what is
read is held against what is stored at all: types, known words, finite numbers, samples numbered without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final, get_args

from pybench.harness.model import Conditions, Run, RunStatus, SampleStatus
from pybench.harness.store.errors import DamagedValueError

_RUN_STATUS: Final = frozenset(get_args(RunStatus))
_SAMPLE_STATUS: Final = frozenset(get_args(SampleStatus))
_TEXT: Final = frozenset({str})
_NUMBER: Final = frozenset({float})
_KINDS: Final[Mapping[str, frozenset[type]]] = {
    "value": frozenset({float, NoneType}),
    "repetition": frozenset({int}),
    "warmup": frozenset({bool}),
    "order": frozenset({int}),
    "resolution": _NUMBER,
    "error": _NUMBER,
}
"""Of a sample as it is read; all that is not named here is text."""
_OWNER: Final[Mapping[str, type | tuple[type, ...]]] = {
    "host": str,
    "boot": str,
    "pid": int,
    "created": (int, float),
}


def decode(text: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """JSON, decoded.

    Raises:
        DamagedValueError: it is something else.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedValueError(f"this should be JSON: {str(text)[:40]!r}") from error


def check_column(name: str, values: Sequence[Any]) -> None:
    """Check the values that samples have in one field.

    Raises:
        DamagedValueError: one of them cannot have been stored.
    """
    kinds = _KINDS.get(name, _TEXT)
    if not kinds.issuperset(map(type, values)):
        raise DamagedValueError(f"a sample's {name} is of the wrong type")
    if name == "status" and not _SAMPLE_STATUS.issuperset(values):
        raise DamagedValueError("a sample has an unknown status")
    if float in kinds:
        numbers = [*filter(None, values)]
        # Made in a fraction of the time, and finite only if all are; of large ones it may overflow.
        if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
            raise DamagedValueError(f"a sample's {name} is no finite number")


def check_run(run: Run, owner: object) -> None:
    """Check the row of a run.

    Raises:
        DamagedValueError: it is not what was stored.
    """
    texts = (run.id, run.scenario, run.source, run.started, run.command, run.definition, run.finished or "")
    fields: object = run.environment.fields
    sound = (
        _all_text(texts)
        and run.status in _RUN_STATUS
        and isinstance(fields, Mapping)
        and _all_text([*fields.keys(), *fields.values()])
        and isinstance(owner, Mapping)
        # Those of the first schema have none.
        and (not owner or all(isinstance(owner.get(key), kind) for key, kind in _OWNER.items()))
    )
    if not sound:
        raise DamagedValueError(f"the run {run.id!r} is not what was stored")


def check_conditions(conditions: Conditions) -> None:
    """Check the conditions of one step.

    Raises:
        DamagedValueError: they are not what was stored.
    """
    values: object = conditions.values
    sound = (
        isinstance(conditions.order, int)
        and isinstance(values, Mapping)
        and _all_text(values)
        and all(isinstance(value, int | float) for value in values.values())
    )
    if not sound:
        raise DamagedValueError("the conditions of a step are not what was stored")


def check_texts(row: Mapping[str, object]) -> None:
    """Check a row that has nothing but text and what is left out.

    Raises:
        DamagedValueError: it has something else.
    """
    if not _all_text([value for value in row.values() if value is not None]):
        raise DamagedValueError("a tag or a note is not what was stored")


def check_mapping(value: object) -> dict[str, Any]:
    """The qualifiers or parameters of samples, once decoded.

    Raises:
        DamagedValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise DamagedValueError("the qualifiers or parameters of a sample are not what was stored")
    return value


def _all_text(values: Any) -> bool:  # noqa: ANN401 - what is to be checked
    return _TEXT.issuperset(map(type, values))
