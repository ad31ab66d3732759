"""What the two sides of an A/B run are, and how their samples are told apart; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pybench.harness.errors import InputError
from pybench.harness.model import Combination, Sample, Scenario

SideLabel = Literal["a", "b"]
_IMAGE: Final = "image"
_KERNEL: Final = "kernel"
_REVISION: Final = "revision"
_NAMED: Final = frozenset({_IMAGE, _KERNEL})
_WORD: Final = re.compile(r"[^\s=-][^\s=]{0,250}")


@dataclass(frozen=True, slots=True)
class Side:
    """One side: a revision, or what it sets otherwise than the scenario."""

    label: SideLabel
    revision: str = ""
    image: str = ""
    """Replaces the image of every workload."""
    kernel: str = ""
    """What the guests boot instead of their image's own kernel."""
    settings: tuple[str, ...] = ()
    """`key=value` texts as of `pybench run --set`."""

    def __str__(self) -> str:
        named = ((_IMAGE, self.image), (_KERNEL, self.kernel))
        words = [self.revision, *(f"{name}={value}" for name, value in named if value), *self.settings]
        return ", ".join(word for word in words if word) or "as the scenario says"


def side(label: SideLabel, texts: Sequence[str]) -> Side:
    """The side that `--a` or `--b` describes; each text is `key=value`, or a revision.

    Raises:
        InputError: a text is neither, or says again what another has said.
    """
    named: dict[str, str] = {}
    settings = []
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and key not in _NAMED:
            settings.append(text)
            continue
        key, value = (key, value) if equals else (_REVISION, text)
        if key in named:
            raise InputError(f"--{label} {text[:80]!r}: this is said twice", "leave one of them out")
        if not (_WORD.fullmatch(value) if key == _REVISION else value):
            hint = "e.g. --a v1.0, --a image=debian, --a targets.container.profile=strict"
            raise InputError(f"--{label} {text[:80]!r}: neither a revision nor key=value", hint)
        named[key] = value
    return Side(
        label, named.get(_REVISION, ""), named.get(_IMAGE, ""), named.get(_KERNEL, ""), tuple(settings)
    )


def check_sides(a: Side, b: Side) -> None:
    """Refuse two sides that say the same, and a revision against none.

    Raises:
        InputError: they make no comparison.
    """
    if bool(a.revision) != bool(b.revision):
        hint = "give each side a revision, such as --a main --b HEAD"
        raise InputError("one side is a revision and the other is none", hint)
    if replace(a, label="b") == b:
        hint = "say what differs, e.g. --b image=debian; without --a, a is the scenario as it is"
        raise InputError(f"both sides are the same: {a}", hint)
    for each in (a, b):
        if each.revision and (each.image or each.kernel):
            hint = "compare revisions by themselves, or use --set to choose it for both"
            raise InputError(f"--{each.label}: a revision, and an image or a kernel beside it", hint)


def interleaved(a: Scenario, b: Scenario, said: Sequence[Side], definition: str) -> Scenario:
    """One scenario in which each target of both is there, under its name followed by `.a` or `.b`.

    Raises:
        InputError: a side changes what a run has only once.
    """
    for what in ("name", "measurements", "schedule", "gate"):
        if getattr(a, what) != getattr(b, what):
            hint = "the sides may differ in workloads, targets and parameters; use --set for both"
            raise InputError(f"{a.source}: the sides differ in {what}, of which a run has one", hint)
    combinations: list[Combination] = []
    for one, label in ((a, "a"), (b, "b")):
        combinations += [
            replace(each, target=replace(each.target, name=f"{each.target.name}.{label}"))
            for each in one.combinations
        ]
    return replace(
        a,
        name=run_name(a.name),
        description="\n".join([*(f"Side {each.label}: {each}." for each in said), a.description]).strip(),
        combinations=tuple(combinations),
        definition=definition,
    )


def run_name(scenario: str) -> str:
    """What an A/B run is recorded as: never a baseline of the scenario's own runs."""
    return f"{scenario}.ab"


def with_comments(said: Sequence[Side], definition: str) -> str:
    """The scenario's text with the sides on top."""
    return "".join(f"# side {each.label}: {each}\n" for each in said) + definition


def with_images(scenario: Scenario, names: Mapping[str, str]) -> Scenario:
    """Every workload from the image that stands for its own in `names`."""
    combinations = tuple(
        replace(each, workload=replace(each.workload, image=names[each.workload.image]))
        for each in scenario.combinations
    )
    return replace(scenario, combinations=combinations)


def of_side(samples: Iterable[Sample], label: SideLabel) -> list[Sample]:
    """The samples of one side, under the names that the targets have in the scenario."""
    ending = f".{label}"
    return [
        replace(sample, target=sample.target.removesuffix(ending))
        for sample in samples
        if sample.target.endswith(ending)
    ]
