"""The limits of the gate as options of the command line, in common to all verbs that judge."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli import completers
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.gate.check import GateSettings
    from pybench.harness.model import Sample

MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="PATTERN",
        help="Gate only these; may be repeated.",
        autocompletion=completers.metrics,
    ),
]
RelativeOption = Annotated[
    str, typer.Option("--relative", metavar="SHARE", help="A change up to this share is none, e.g. 5%.")
]
AbsoluteOption = Annotated[
    str, typer.Option("--absolute", metavar="AMOUNT", help="Nor is one up to this, e.g. 50us or 1MiB.")
]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", metavar="FILE", help="Limits by metric and cell.")
]
WaiversOption = Annotated[
    Path | None,
    typer.Option("--waivers", metavar="FILE", help="Leaks that are accepted; default: audit-waivers.yaml."),
]


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What the options say; empty means nothing."""

    metrics: tuple[str, ...] = ()
    relative: str = ""
    absolute: str = ""
    file: Path | None = None


def gate_settings(options: LimitOptions, source: str, definition: str) -> GateSettings:
    """Limits of the options before those of the file, of the scenario, and the defaults.

    Raises:
        InputError: an option, the file or the scenario says what is no limit.
    """
    from pybench.harness.comparison.limits import Limit, Limits  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate.check import GateSettings  # noqa: PLC0415
    from pybench.harness.gate.limits import read_limits, scenario_limits  # noqa: PLC0415

    if options.file is not None:
        known = read_limits(options.file)
    else:
        known = scenario_limits(source, definition) or Limits()
    if options.relative or options.absolute:
        unit, amount = _amount(options.absolute) if options.absolute else ("", 0.0)
        relative = _share(options.relative) if options.relative else None
        known = Limits(
            {
                name: Limit(limit.relative if relative is None else relative, floor)
                for name, limit in known.of_unit.items()
                for floor in [amount if name == unit else limit.absolute]
            }
        )
    return GateSettings(limits=known, metrics=options.metrics)


def with_waivers(settings: GateSettings, file: Path | None, samples: Iterable[Sample]) -> GateSettings:
    """The settings with the leaks that are accepted, if verdicts are judged at all.

    Raises:
        InputError: the file, or `audit-waivers.yaml` in this folder, makes no sense or has expired.
    """
    from pybench.harness.audit.waivers import usual_waivers  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate.verdicts import has_verdicts  # noqa: PLC0415

    if file is None and not has_verdicts(samples):
        return settings
    waivers = usual_waivers(Path(), file, datetime.now(UTC).date())
    return replace(settings, accepted=tuple(each.accepted for each in waivers))


def _amount(text: str) -> tuple[str, float]:
    """The unit and the amount of a floor."""
    from pybench.harness.units import parse_bytes, parse_duration  # noqa: PLC0415 - keeps `--help` quick

    for unit, parse in (("s", parse_duration), ("B", parse_bytes)):
        try:
            return unit, float(parse(text))
        except ValueError:
            continue
    raise InputError(f"--absolute {text}: this is neither a duration nor a size", "write 50us or 1MiB")


def _share(text: str) -> float:
    """`5%` or `0.05` as a share between 0 and 1."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--relative {text}: this is not a share", "write 5% or 0.05")
    return value
