"""Limits of the gate as people write them: in a scenario's `gate:` block, or in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pybench.harness.comparison.limits import DEFAULTS, OTHERWISE, Limit, Limits
from pybench.harness.fields import Label, Share
from pybench.harness.measure import MEASUREMENTS, metric_of
from pybench.harness.model import GateLimit
from pybench.harness.scenario.document import Document, KeyPath, Kind, parse_document, read_document
from pybench.harness.scenario.language import GateModel, Scalar
from pybench.harness.scenario.schedule import gate_limit, in_unit
from pybench.harness.scenario.validate import validate

GATE: Final = "gate"
_RATE: Final = "1/s"
_KIND: Final = Kind(
    "file of limits", "`docs/history.md` shows one, and `pybench gate --calibrate` writes one"
)


class CellGateModel(GateModel):
    """The limit of one cell, or of all cells that differ in their parameters alone."""

    workload: Label
    target: Label
    metric: Annotated[str, Field(min_length=1, max_length=128)]
    parameters: Annotated[str, Field(max_length=10_000)] = ""
    """Their label, as `memory=128MiB, instances=2`; empty: whatever their values."""


class LimitsModel(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relative: Share | None = None
    """For every cell that is not named below."""
    absolute: Annotated[dict[str, Scalar], Field(max_length=100)] = Field(default_factory=dict)
    """The floor by unit: `s`, `B`, `1/s`."""
    metrics: Annotated[dict[str, GateModel], Field(max_length=1000)] = Field(default_factory=dict)
    cells: Annotated[list[CellGateModel], Field(max_length=10_000)] = Field(default_factory=list)


class GateBlock(BaseModel):
    """What the gate reads of a scenario's text."""

    gate: Annotated[dict[str, GateModel], Field(max_length=1000)] = Field(default_factory=dict)


def read_limits(path: Path) -> Limits:
    """The limits of a file.

    Raises:
        InputError: it cannot be read or says something that is no limit; the place is named.
    """
    document = read_document(path, _KIND)
    model = validate(document, LimitsModel, document.data)
    of_unit = {unit: _of_unit(document, model, unit) for unit in {*DEFAULTS, *model.absolute, _RATE}}
    of_metric = {
        name: _limit(document, ("metrics", name), name, entry, of_unit)
        for name, entry in model.metrics.items()
    }
    of_cell = {
        (each.workload, each.target, each.metric, each.parameters): _limit(
            document, ("cells", index), each.metric, each, of_unit
        )
        for index, each in enumerate(model.cells)
    }
    return Limits(of_unit, of_metric, of_cell)


def scenario_limits(source: str, definition: str) -> Limits | None:
    """The limits in the `gate:` block of a scenario's text, or None where it has none.

    Raises:
        InputError: the block says something that is no limit.
    """
    if not definition.strip():
        return None
    document = parse_document(source, definition)
    block = document.data.get(GATE) if isinstance(document.data, dict) else None
    if block is None:
        return None
    model = validate(document, GateBlock, {GATE: block})
    of_metric = {
        name: _limit(document, (GATE, name), name, entry, DEFAULTS) for name, entry in model.gate.items()
    }
    return Limits(of_metric=of_metric)


def _of_unit(document: Document, model: LimitsModel, unit: str) -> Limit:
    known = DEFAULTS.get(unit, OTHERWISE)
    floor = known.absolute
    if unit in model.absolute:
        try:
            floor = in_unit(model.absolute[unit], unit)
        except ValueError as error:
            raise document.error(("absolute", unit), str(error)) from error
    return Limit(known.relative if model.relative is None else model.relative, floor)


def _limit(
    document: Document, path: KeyPath, metric: str, entry: GateModel, of_unit: Mapping[str, Limit]
) -> Limit:
    """A limit that says no `relative` takes both from the unit; one that does has no floor but its own."""
    known = metric_of(metric, MEASUREMENTS)
    unit = known.unit if known else ""
    said: GateLimit = gate_limit(document, path, metric, entry, unit)
    if said.relative is None:
        usual = of_unit.get(unit, OTHERWISE)
        floor = usual.absolute if said.absolute is None else said.absolute
        return Limit(usual.relative, floor, said.maximum, said.tail)
    return Limit(said.relative, said.absolute or 0.0, said.maximum, said.tail)
