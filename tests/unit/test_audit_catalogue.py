"""The catalogue of probes is complete and consistent, and so are the payload and the documents made of it."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
from weakenings import ELSEWHERE, LIMITS_LIFTED, SWAP_ALLOWED, WEAKENINGS

from pybench.harness.audit.canaries import CANARIES
from pybench.harness.audit.catalogue import TITLES, catalogue, choose, find
from pybench.harness.audit.guest.core import PARTS
from pybench.harness.audit.model import CATEGORIES, KINDS, SEVERITIES, Outcome, Probe
from pybench.harness.audit.pages import page
from pybench.harness.audit.payload import beacon, payload
from pybench.harness.errors import InputError

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs" / "isolation"
USED = sorted({probe.category for probe in catalogue()})
each_probe = pytest.mark.parametrize("probe", catalogue(), ids=lambda probe: probe.id)


def test_ids_are_unique_and_grouped() -> None:
    """An id is a letter or two and a number; within a category the numbers of a letter have no gaps."""
    ids = [probe.id for probe in catalogue()]
    assert len(ids) == len(set(ids))
    letters: dict[str, list[int]] = {}
    for identifier in ids:
        match = re.fullmatch(r"([A-Z])([1-9][0-9]?)", identifier)
        assert match, identifier
        letters.setdefault(match[1], []).append(int(match[2]))
    assert {letter: sorted(numbers) for letter, numbers in letters.items()} == {
        letter: list(range(1, len(numbers) + 1)) for letter, numbers in letters.items()
    }


@each_probe
def test_an_entry_says_everything(probe: Probe) -> None:
    """Each text is there and is a sentence, every reference is an address, and each canary exists."""
    for text in (probe.rationale, probe.handling, probe.remediation):
        assert re.match(r"\S.{18,}[.)]$", text, flags=re.DOTALL), text
    assert probe.title[0].isupper()
    assert not probe.title.endswith(".")
    assert probe.references
    assert all(reference.startswith("https://") for reference in probe.references)
    assert probe.severity in SEVERITIES
    assert probe.category in TITLES
    assert set(probe.canaries) <= set(CANARIES)
    assert 0 < probe.seconds <= 30
    assert {kind: probe.expected.on(kind) for kind in KINDS}


@each_probe
def test_every_probe_can_fire(probe: Probe) -> None:
    """A leak is expected on some class of target, unless the probe is about what all share by design."""
    outcomes = {probe.expected.on(kind) for kind in KINDS}
    assert Outcome.LEAK in outcomes or outcomes <= {Outcome.SHARED, Outcome.NOT_APPLICABLE, Outcome.ISOLATED}
    assert Outcome.ERROR not in outcomes


@each_probe
def test_every_probe_has_something_that_makes_it_fire(probe: Probe) -> None:
    """A container with one mechanism switched off, or another target; or nothing can, and it says why."""
    table = (*WEAKENINGS, *LIMITS_LIFTED, *SWAP_ALLOWED)
    weakened = {name for each in table for name in (*each.fires, *each.beside)}
    assert (probe.id in weakened) != (probe.id in ELSEWHERE)
    if probe.id in ELSEWHERE:
        kind, reason = ELSEWHERE[probe.id]
        assert reason
        assert kind is None or probe.expected.on(kind) is Outcome.LEAK


@each_probe
def test_a_probe_has_its_part_in_the_guest(probe: Probe) -> None:
    """Exactly the probes that say so have a function in the payload, in the module of their category."""
    if probe.guest:
        importlib.import_module(f"pybench.harness.audit.guest.{probe.category}")
        assert PARTS[probe.id].__module__.endswith(f".{probe.category}")
    else:
        assert probe.id not in PARTS


def test_the_payload_stands_alone() -> None:
    """It is one module of the standard library, ends in no leftover import of ours, and always the same."""
    tree = ast.parse(payload())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= set(sys.stdlib_module_names) | {"__future__"}
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(names) == len(set(names)), "two modules define the same name, and the later one wins"
    first = payload()
    payload.cache_clear()
    assert payload() == first
    ast.parse(beacon())


def test_modules_of_the_payload_share_no_constant() -> None:
    """Joined into one module, a constant that two of them define would have the later one's value."""
    tree = ast.parse(payload())
    names = [
        target.id
        for node in tree.body
        for target in (
            node.targets if isinstance(node, ast.Assign)
            else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if isinstance(target, ast.Name)
    ]  # fmt: skip
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("category", USED)
def test_documents_are_current(category: str) -> None:
    """`docs/isolation/` is what the catalogue says today."""
    path = DOCUMENTS / f"{category.replace('_', '-')}.md"
    known = next(each for each in CATEGORIES if each == category)
    assert path.read_text(encoding="utf-8") == page(known), (
        "python -m pybench.harness.audit.pages docs/isolation"
    )


def test_probes_are_found_by_id_and_category() -> None:
    """Ids in either case and categories add up, in the catalogue's order; without any all are chosen."""
    assert find("n4").id == "N4"
    assert [probe.id for probe in choose(("n1",), ("pid",))] == [
        *(probe.id for probe in catalogue() if probe.category == "pid"),
        "N1",
    ]
    assert choose() == catalogue()


@pytest.mark.parametrize(
    ("ids", "categories", "message"),
    [(("P99",), (), "no probe 'P99'"), ((), ("netwrok",), "did you mean 'network'")],
)
def test_what_is_unknown_is_refused(ids: tuple[str, ...], categories: tuple[str, ...], message: str) -> None:
    """The error names it and what may have been meant."""
    with pytest.raises(InputError, match=message):
        choose(ids, categories)
