"""Limits of the gate as people write them: in a scenario's `gate:` block, or in a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pybench.harness.comparison.limits import DEFAULTS, OTHERWISE, Limit, Limits
from pybench.harness.fields import Label
from pybench.harness.scenario import read_text
from pybench.harness.scenario.document import Document, KeyPath, parse_document
from pybench.harness.units import parse_bytes, parse_duration

GATE_KEY: Final = "gate"


def _share(value: object) -> object:
    """`5%` as 0.05."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().removesuffix("%")) / 100
    return value


def _amount(value: object) -> object:
    """`50us` in seconds, `64KiB` in bytes; a bare number is in the cell's own unit."""
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError:
        return float(parse_bytes(value))


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1000, allow_inf_nan=False)]
Amount = Annotated[float, BeforeValidator(_amount), Field(ge=0, allow_inf_nan=False)]


class LimitModel(BaseModel):
    """How much a cell may change. If one of `relative` and `absolute` is given, the other does not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relative: Share | None = None
    absolute: Amount | None = None
    maximum: Amount | None = None
    """What the median may not exceed at all."""
    tail: Share | None = None
    """As `relative`, for what the tail moves further than the rest; by default the same."""


class CellLimitModel(LimitModel):
    """The limit of one cell."""

    workload: Label
    target: Label
    metric: Annotated[str, Field(min_length=1, max_length=128)]


class LimitsModel(BaseModel):
    """The whole block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relative: Share | None = None
    """For every cell that is not named below."""
    absolute: Annotated[dict[str, Amount], Field(max_length=100)] = Field(default_factory=dict)
    """The floor by unit: `s`, `B`, `1/s`."""
    metrics: Annotated[dict[str, LimitModel], Field(max_length=1000)] = Field(default_factory=dict)
    cells: Annotated[list[CellLimitModel], Field(max_length=10_000)] = Field(default_factory=list)

    def limits(self) -> Limits:
        """The limits, with the defaults for what is not said."""
        of_unit = {
            unit: Limit(
                known.relative if self.relative is None else self.relative,
                self.absolute.get(unit, known.absolute),
            )
            for unit in {*DEFAULTS, *self.absolute, "1/s"}
            for known in [DEFAULTS.get(unit, OTHERWISE)]
        }
        return Limits(
            of_unit,
            {name: _limit(model, _unit_of(name), of_unit) for name, model in self.metrics.items()},
            {
                (each.workload, each.target, each.metric): _limit(each, _unit_of(each.metric), of_unit)
                for each in self.cells
            },
        )


def read_limits(path: Path) -> Limits:
    """The limits of a file.

    Raises:
        InputError: it cannot be read or says something that is no limit; the place is named.
    """
    document = parse_document(str(path), read_text(path))
    return _validated(document, document.data, ())


def scenario_limits(source: str, definition: str) -> Limits | None:
    """The limits in the `gate:` block of a scenario's text, or None where it has none.

    Raises:
        InputError: the block says something that is no limit.
    """
    if not definition.strip():
        return None
    document = parse_document(source, definition)
    block = document.data.get(GATE_KEY) if isinstance(document.data, dict) else None
    return None if block is None else _validated(document, {"metrics": block}, (GATE_KEY,))


def _validated(document: Document, data: Any, path: KeyPath) -> Limits:  # noqa: ANN401 - YAML data is anything
    try:
        return LimitsModel.model_validate(data).limits()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        # The block of a scenario holds metrics alone, without that key.
        where = (*path, *first["loc"][1:]) if path else first["loc"]
        raise document.error(where, problem, hint="docs/history.md shows what limits look like") from error


def _limit(model: LimitModel, unit: str, of_unit: dict[str, Limit]) -> Limit:
    if model.relative is None and model.absolute is None:
        known = of_unit.get(unit, OTHERWISE)
        return Limit(known.relative, known.absolute, model.maximum, model.tail)
    return Limit(model.relative or 0.0, model.absolute or 0.0, model.maximum, model.tail)


def _unit_of(metric: str) -> str:
    """The unit of a metric by its name, for the floor that its limit leaves unsaid."""
    if metric.startswith("memory."):
        return "B"
    return "1/s" if metric.startswith("rate.") else "s"
