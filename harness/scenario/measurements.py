"""What a scenario measures: each name known, its options validated by its own settings model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.harness.measure import MEASUREMENTS
from pybench.harness.measure.base import ProcedureSettings
from pybench.harness.model import MeasurementChoice
from pybench.harness.scenario.validate import nearest, validate

if TYPE_CHECKING:
    from pybench.harness.scenario.document import Document, KeyPath
    from pybench.harness.scenario.language import ParametersModel


def measurement_choices(document: Document, model: ParametersModel) -> tuple[MeasurementChoice, ...]:
    """The measurements in the order of the file.

    Raises:
        InputError: one is unknown, or an option of it.
    """
    return tuple(_choice(document, model, index, name) for index, name in enumerate(model.measure))


def _choice(document: Document, model: ParametersModel, index: int, name: str) -> MeasurementChoice:
    is_list = isinstance(document.data["measure"], list)
    path: KeyPath = ("measure", index) if is_list else ("measure", name)
    measurement = MEASUREMENTS.get(name)
    if measurement is None:
        problem = f"unknown measurement {name!r}{nearest(name, MEASUREMENTS)}"
        hint = f"known are {', '.join(MEASUREMENTS)}"
        raise document.error(path, problem, at_key=not is_list, hint=hint)
    settings = validate(document, measurement.settings, model.measure[name], path)
    repeated = settings if isinstance(settings, ProcedureSettings) else ProcedureSettings()
    return MeasurementChoice(
        name=name,
        options=settings.model_dump(),
        procedure=measurement.procedure is not None,
        repetitions=repeated.repetitions,
        warmups=repeated.warmups,
        images=settings.images(),
    )
