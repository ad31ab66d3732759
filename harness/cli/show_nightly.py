"""A night as JUnit XML, as Markdown for a job's page, as OpenMetrics text, and as lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.cli.show_gate import finding_line, judgement_lines
from pybench.harness.gate.check import FAILING
from pybench.harness.nightly import INTERRUPTED, PASS, Result
from pybench.reports.numbers import one_line

if TYPE_CHECKING:
    from junitparser import TestCase

    from pybench.harness.gate.check import Finding
    from pybench.harness.stats import CellKey

_WORDS: Final = {
    0: "pass",
    1: "regression",
    2: "bad input",
    3: "cannot run here",
    4: "inconclusive",
    INTERRUPTED: "interrupted",
}
_UNITS: Final = {"s": "seconds", "B": "bytes"}
_LONGEST: Final = 300
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_NOT_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]+")


def result_lines(result: Result) -> list[str]:
    """What a scenario's gate says."""
    lines = judgement_lines(result.judgement) if result.judgement else [one_line(result.said, _LONGEST)]
    return [f"{result.scenario}: {word(result)}", *(f"  {line}" for line in lines if line)]


def word(result: Result) -> str:
    """The outcome in a word or two."""
    if result.code == PASS and result.run is not None and result.judgement is None:
        return "no baseline yet"
    return _WORDS[result.code]


def document(results: Sequence[Result], code: int) -> dict[str, Any]:
    """The night as data; `judgement` is what `pybench gate --format json` prints."""
    from pybench.harness.export.gate import judgement_document  # noqa: PLC0415 - only where it is wanted

    return {
        "schema": 1,
        "exit_code": code,
        "outcome": _WORDS[code],
        "scenarios": [
            {
                "scenario": each.scenario,
                "exit_code": each.code,
                "outcome": word(each),
                "run": each.run.id if each.run else None,
                "baseline": _baseline(each) or None,
                "said": each.said,
                "judgement": judgement_document(each.judgement) if each.judgement else None,
            }
            for each in results
        ],
    }


def junit(results: Sequence[Result]) -> bytes:
    """A suite per scenario, a case per gated cell.

    What fails the gate is a failure; what keeps it from telling is an error; an accepted leak is skipped.
    """
    from junitparser import Error, JUnitXml, TestCase, TestSuite  # noqa: PLC0415 - only where it is wanted

    document = JUnitXml("pybench nightly")
    for result in results:
        suite = TestSuite(one_line(result.scenario, _LONGEST))
        for name, value in (("run", result.run and result.run.id), ("baseline", _baseline(result))):
            if value:
                suite.add_property(name, value)
        cases = list(_cases(result))
        if not cases:
            case = TestCase("the gate", classname=suite.name)
            if result.code != PASS:
                case.result = [Error(_said(result), word(result))]
            cases = [case]
        suite.add_testcases(cases)
        document.add_testsuite(suite)
    document.update_statistics()
    text: bytes = document.tostring()
    return text


def _cases(result: Result) -> Iterator[TestCase]:
    from junitparser import Error, Failure, Skipped, TestCase  # noqa: PLC0415 - only where it is wanted

    if result.judgement is None or result.judgement.result is None:
        return
    waived = result.judgement.result.waived
    by_cell: dict[CellKey, list[Finding]] = {}
    for finding in (*result.judgement.result.findings, *waived):
        by_cell.setdefault(finding.cell, []).append(finding)
    cells = dict.fromkeys([*(each.change.cell for each in result.judgement.result.cells), *by_cell])
    for cell in cells:
        workload, target, metric, _, label = (one_line(part, _LONGEST) for part in cell)
        name = f"{workload} {metric}" + (f" ({label})" if label else "")
        case = TestCase(name, classname=f"{result.scenario}.{target}")
        case.result = [
            (Skipped if each in waived else Failure if each.kind in FAILING else Error)(
                one_line(finding_line(each), _LONGEST), each.kind
            )
            for each in by_cell.get(cell, ())
        ]
        yield case


def markdown(results: Sequence[Result], code: int) -> str:
    """A table of the scenarios, then what was found."""
    lines = [
        f"## pybench nightly: {_WORDS[code]}",
        "",
        "| scenario | outcome | run | baseline | findings |",
        "|---|---|---|---|---:|",
    ]
    for result in results:
        run = result.run.id if result.run else "–"
        found = len(result.judgement.result.findings) if result.judgement and result.judgement.result else 0
        cells = (result.scenario, word(result), run, _baseline(result) or "–", str(found))
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    for result in results:
        said = [finding_line(each) for each in _findings(result)]
        said += [f"accepted {finding_line(each)}" for each in _waived(result)]
        said = said or ([_said(result)] if _said(result) else [])
        if said:
            lines += ["", f"### {_escaped(result.scenario)}", "", *(f"- {_escaped(each)}" for each in said)]
    return "\n".join(lines) + "\n"


def openmetrics(results: Sequence[Result], code: int) -> bytes:
    """The medians of every cell but phases, and what the gate said, as OpenMetrics text."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 - only where it is wanted
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415

    from pybench.harness.comparison.attribution import PREFIX  # noqa: PLC0415
    from pybench.harness.stats import estimates  # noqa: PLC0415

    registry = CollectorRegistry()
    known: dict[str, Gauge] = {}

    def gauge(name: str, text: str, unit: str = "", **labels: str) -> Any:  # noqa: ANN401 - Gauge without labels
        if name not in known:
            known[name] = Gauge(name, text, list(labels), unit=unit, registry=registry)
        return known[name].labels(**labels) if labels else known[name]

    gauge("pybench_nightly_exit_code", "What the whole night exited with").set(code)
    for result in results:
        scenario = {"scenario": result.scenario}
        gauge("pybench_gate_exit_code", "What the gate of a scenario said", **scenario).set(result.code)
        gauge("pybench_gate_findings", "What keeps the gate from passing", **scenario).set(
            len(_findings(result))
        )
        if result.run is not None:
            started = _seconds(result.run.started)
            gauge("pybench_run_started", "When the run began", "seconds", **scenario).set(started)
        for each in estimates(result.samples):
            if not each.n or each.metric.startswith(PREFIX):
                continue
            labels = {
                **scenario,
                "workload": each.workload,
                "target": each.target,
                "parameters": cell_label(each.parameters),
            }
            rate = "_per_second" if each.unit == "1/s" else ""
            name = f"pybench_{_NOT_A_NAME.sub('_', each.metric)}{rate}"
            gauge(name, f"Median of {each.metric}", _UNITS.get(each.unit, ""), **labels).set(each.median)
    text: bytes = generate_latest(registry)
    return text


def cell_label(parameters: Any) -> str:  # noqa: ANN401 - a mapping of the model
    """The parameters of a cell as text."""
    from pybench.harness.model import parameter_label  # noqa: PLC0415 - keeps the import list short

    return parameter_label(parameters)


def _findings(result: Result) -> tuple[Finding, ...]:
    judgement = result.judgement
    return judgement.result.findings if judgement and judgement.result else ()


def _waived(result: Result) -> tuple[Finding, ...]:
    judgement = result.judgement
    return judgement.result.waived if judgement and judgement.result else ()


def _said(result: Result) -> str:
    judgement = result.judgement
    if judgement is not None and judgement.result is None:
        return one_line("not obtained alike: " + "; ".join(map(str, judgement.differences)), _LONGEST)
    return one_line(result.said, _LONGEST)


def _baseline(result: Result) -> str:
    return result.judgement.baseline if result.judgement else ""


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text, _LONGEST))


def _seconds(instant: str) -> float:
    from datetime import datetime  # noqa: PLC0415 - keeps the import list short

    return datetime.fromisoformat(instant).timestamp()
