"""An audit as JSON, JUnit, SARIF 2.1.0 and Markdown, for programs, CI systems and reviews.

SARIF: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. JUnit's XML has no standard; this is
what Jenkins and GitLab read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as Xml

from pybench.harness.audit.catalogue import TITLES
from pybench.harness.audit.model import SEVERITIES, Outcome
from pybench.harness.audit.results import FORMULA, matrix, tally
from pybench.harness.audit.waivers import waiver_of

if TYPE_CHECKING:
    from pybench.harness.audit.model import Audit, Judged, Probe, Severity
    from pybench.harness.audit.waivers import Waiver

_SARIF_LEVELS: Final[dict[Severity, str]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
}
_SECURITY_SEVERITY: Final[dict[Severity, str]] = {
    "critical": "9.5",
    "high": "8.0",
    "medium": "5.5",
    "low": "2.5",
}
"""GitHub's scale, on which 9 and more is critical, 7 high, 4 medium."""
SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
LETTERS: Final = {
    Outcome.ISOLATED: "isolated",
    Outcome.LEAK: "**LEAK**",
    Outcome.SHARED: "shared",
    Outcome.NOT_APPLICABLE: "n/a",
    Outcome.ERROR: "error",
}

_COLUMNS: Final = (
    *("probe", "title", "category", "severity", "target", "kind", "verdict", "expected", "reason", "seconds"),
    *("waived_until",),
)

Renderer = Callable[["Audit", "Sequence[Waiver]"], str]


def audit_document(audit: Audit, waivers: Sequence[Waiver] = ()) -> dict[str, Any]:
    """Everything, as plain data of schema 1."""
    return {
        "schema": 1,
        "image": audit.image,
        "unplanted": dict(audit.unplanted),
        "leak_index_formula": FORMULA,
        "targets": [
            {
                "target": target.label,
                "kind": target.kind,
                "seconds": round(target.seconds, 3),
                "qualifiers": dict(target.qualifiers),
                "outcomes": {
                    outcome.value: counted.outcomes[outcome]
                    for outcome in Outcome
                    if outcome in counted.outcomes
                },
                "leaks": {severity: counted.leaks.get(severity, 0) for severity in SEVERITIES},
                "leak_index": counted.leak_index,
            }
            for target in audit.targets
            for counted in (tally(target.label, audit.judged),)
        ],
        "verdicts": [_verdict(each, waivers) for each in audit.judged],
    }


def to_csv(audit: Audit, waivers: Sequence[Waiver] = ()) -> str:
    """A row for each verdict, without its evidence."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for each in audit.judged:
        waiver = waiver_of(each, waivers)
        row = _verdict(each, waivers)
        writer.writerow({**row, "waived_until": waiver.expiry.isoformat() if waiver else ""})
    return text.getvalue()


def _verdict(judged: Judged, waivers: Sequence[Waiver]) -> dict[str, Any]:
    probe, waiver = judged.probe, waiver_of(judged, waivers)
    return {
        "probe": probe.id,
        "title": probe.title,
        "category": probe.category,
        "severity": probe.severity,
        "target": judged.target,
        "kind": judged.kind,
        "verdict": judged.verdict.outcome.value,
        "expected": probe.expected.on(judged.kind).value,
        "reason": judged.verdict.reason,
        "evidence": list(judged.verdict.evidence),
        "seconds": round(judged.seconds, 3),
        "waiver": waiver and {"reason": waiver.reason, "expiry": waiver.expiry.isoformat()},
    }


def to_json(audit: Audit, waivers: Sequence[Waiver] = ()) -> str:
    """`audit_document` as text."""
    return json.dumps(audit_document(audit, waivers), indent=1, allow_nan=False) + "\n"


def to_junit(audit: Audit, waivers: Sequence[Waiver] = ()) -> str:
    """One suite per target, one case per probe: leaks fail, and what does not apply is skipped."""
    root = Xml.Element("testsuites", name="pybench audit")
    for target in audit.targets:
        own = [each for each in audit.judged if each.target == target.label]
        failed = [each for each in own if _is_finding(each) and not waiver_of(each, waivers)]
        suite = Xml.SubElement(
            root,
            "testsuite",
            name=target.label,
            tests=str(len(own)),
            failures=str(len(failed)),
            errors=str(sum(each.verdict.outcome is Outcome.ERROR for each in own)),
            skipped=str(sum(_is_skipped(each, waivers) for each in own)),
            time=f"{target.seconds:.3f}",
        )
        for each in own:
            _case(suite, each, waivers)
    Xml.indent(root, " ")
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _is_finding(judged: Judged) -> bool:
    """A leak, unless it is one that the positive control has to have."""
    return judged.verdict.is_leak and not (judged.kind == "process" and judged.is_expected)


def _is_skipped(judged: Judged, waivers: Sequence[Waiver]) -> bool:
    return judged.verdict.outcome is Outcome.NOT_APPLICABLE or waiver_of(judged, waivers) is not None


def _case(suite: Xml.Element, judged: Judged, waivers: Sequence[Waiver]) -> None:
    probe, verdict = judged.probe, judged.verdict
    case = Xml.SubElement(
        suite,
        "testcase",
        classname=f"{judged.target}.{probe.category}",
        name=f"{probe.id} {probe.title}",
        time=f"{judged.seconds:.3f}",
    )
    waiver = waiver_of(judged, waivers)
    text = "\n".join(verdict.evidence)
    if waiver is not None:
        Xml.SubElement(case, "skipped", message=f"waived until {waiver.expiry}: {waiver.reason}")
    elif _is_finding(judged):
        Xml.SubElement(case, "failure", type=probe.severity, message=verdict.reason).text = text
    elif verdict.outcome is Outcome.ERROR:
        Xml.SubElement(case, "error", message=verdict.reason).text = text
    elif verdict.outcome is Outcome.NOT_APPLICABLE:
        Xml.SubElement(case, "skipped", message=verdict.reason)


def to_sarif(audit: Audit, waivers: Sequence[Waiver] = ()) -> str:
    """SARIF 2.1.0: a rule for each probe, a result for each leak; errors are notifications of the tool's."""
    probes: list[Probe] = []
    for each in audit.judged:
        if each.probe not in probes:
            probes.append(each.probe)
    numbers = {probe.id: number for number, probe in enumerate(probes)}
    document = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "pybench audit",
                        "semanticVersion": version("pybench-harness"),
                        "rules": [_rule(probe) for probe in probes],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            _notification(each)
                            for each in audit.judged
                            if each.verdict.outcome is Outcome.ERROR
                        ],
                    }
                ],
                "results": [
                    _result(each, numbers[each.probe.id], waiver_of(each, waivers))
                    for each in audit.judged
                    if _is_finding(each)
                ],
            }
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _rule(probe: Probe) -> dict[str, Any]:
    links = [reference for reference in probe.references if reference.startswith("https://")]
    rule: dict[str, Any] = {
        "id": probe.id,
        "name": probe.title,
        "shortDescription": {"text": probe.title},
        "fullDescription": {"text": probe.rationale},
        "help": {"text": probe.remediation},
        "defaultConfiguration": {"level": _SARIF_LEVELS[probe.severity]},
        "properties": {
            "tags": ["security", probe.category],
            "security-severity": _SECURITY_SEVERITY[probe.severity],
        },
    }
    return {**rule, "helpUri": links[0]} if links else rule


def _where(judged: Judged) -> list[dict[str, Any]]:
    return [{"logicalLocations": [{"name": judged.target, "kind": "module"}]}]


def _result(judged: Judged, number: int, waiver: Waiver | None) -> dict[str, Any]:
    text = "\n".join((judged.verdict.reason, *judged.verdict.evidence))
    result: dict[str, Any] = {
        "ruleId": judged.probe.id,
        "ruleIndex": number,
        "level": _SARIF_LEVELS[judged.probe.severity],
        "message": {"text": text},
        "locations": _where(judged),
        "partialFingerprints": {"probeAndTarget/v1": f"{judged.probe.id}/{judged.target}"},
    }
    if waiver is not None:
        justification = f"{waiver.reason} (until {waiver.expiry})"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": justification}]
    return result


def _notification(judged: Judged) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": f"{judged.probe.id} on {judged.target}: {judged.verdict.reason}"},
        "associatedRule": {"id": judged.probe.id},
        "locations": _where(judged),
    }


def to_markdown(audit: Audit, waivers: Sequence[Waiver] = ()) -> str:
    """The matrix by category, then each leak with its evidence, for a review or a merge request."""
    labels = [target.label for target in audit.targets]
    lines = [f"# Isolation audit of image {audit.image}", ""]
    lines += _table(["target", "leaks", *SEVERITIES, "errors", "leak index"], _counts(audit))
    lines += ["", FORMULA, ""]
    for category, rows in matrix(audit):
        lines += [f"## {TITLES[category]}", ""]
        cells = [
            [
                row.probe.id,
                row.probe.title,
                row.probe.severity,
                *(_cell(row.cells.get(name)) for name in labels),
            ]
            for row in rows
        ]
        lines += [*_table(["probe", "what", "severity", *labels], cells), ""]
    leaks = [each for each in audit.judged if each.verdict.is_leak and each.kind != "process"]
    if leaks:
        lines += ["## Leaks", ""]
    for each in leaks:
        waiver = waiver_of(each, waivers)
        waived = f" *Waived until {waiver.expiry}: {_escaped(waiver.reason)}*" if waiver else ""
        what = f"**{each.probe.id} on {each.target}** ({each.probe.severity})"
        lines.append(f"- {what}: {_escaped(each.verdict.reason)}.{waived}")
        lines += [f"    - {_escaped(line)}" for line in each.verdict.evidence]
    return "\n".join(lines).rstrip() + "\n"


def _counts(audit: Audit) -> list[list[str]]:
    rows = []
    for target in audit.targets:
        counted = tally(target.label, audit.judged)
        index = "—" if counted.leak_index is None else f"{counted.leak_index:.1f}"
        severities = [str(counted.leaks.get(severity, 0)) for severity in SEVERITIES]
        errors = counted.outcomes.get(Outcome.ERROR, 0)
        rows.append(
            [target.label, str(counted.outcomes.get(Outcome.LEAK, 0)), *severities, str(errors), index]
        )
    return rows


def _cell(judged: Judged | None) -> str:
    return LETTERS[judged.verdict.outcome] if judged else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(head)
    return [
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(_escaped(cell) if '**' not in cell else cell for cell in row)} |" for row in rows),
    ]


def _escaped(text: str) -> str:
    """So that what a guest wrote is no markup."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>()#|!" else each for each in text)
