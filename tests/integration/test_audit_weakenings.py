"""Each probe fires when the mechanism that it is about is switched off, and does not before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from weakenings import LIMITS_LIFTED, SWAP_ALLOWED, WEAKENINGS, BaseName, WeakenedMaker, Weakening

from pybench.harness.audit.catalogue import catalogue
from pybench.harness.audit.model import Outcome, Probe, Verdict
from pybench.harness.audit.session import Session
from pybench.harness.audit.subjects.limits import limits_for
from pybench.runtime.journal import Journal
from pybench.vm_images import Image, build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can weaken a container, and then see it")
ATTEMPTS = 3
SWAP = 192 << 20
"""Bytes: twice what is moved there. Groups whose limit covers swap do not notice it."""


@pytest.fixture(scope="module")
def debian() -> Image:
    """An image with python3."""
    return build("debian", progress=lambda _text: None)


Found = dict[str, dict[str, Verdict]]
"""Label of a container → probe → verdict."""


def audited(
    journal: Journal, image: Image, probes: Collection[Probe], weakenings: Sequence[Weakening]
) -> Found:
    """What each weakened container came to, and each of their bases."""
    bases: list[BaseName] = list(dict.fromkeys(each.base for each in weakenings))
    makers = [WeakenedMaker(base) for base in bases]
    makers += [WeakenedMaker(each.base, each) for each in weakenings]
    found: Found = {}
    with Session(journal, image, tuple(probes)) as session:
        for each in session.audit(makers).judged:
            found.setdefault(each.target, {})[each.probe.id] = each.verdict
    return found


def leaks(verdicts: dict[str, Verdict]) -> set[str]:
    """The probes that fired."""
    return {name for name, verdict in verdicts.items() if verdict.is_leak}


def is_quick(probe: Probe) -> bool:
    """Whether it is answered at once, whatever the host does."""
    return probe.beside is None and not probe.watches


def test_each_mechanism_is_missed_by_its_probes_and_by_no_other(journal: Journal, debian: Image) -> None:
    """Of all that can be asked at once, with one mechanism switched off exactly its own probes leak."""
    found = audited(journal, debian, [probe for probe in catalogue() if is_quick(probe)], WEAKENINGS)
    unlike = {}
    for each in WEAKENINGS:
        weakened, base = found[WeakenedMaker(each.base, each).label], found[WeakenedMaker(each.base).label]
        fired = leaks(weakened) - leaks(base) - set(each.perhaps)
        if each.alone:
            fired &= set(each.fires)
        else:
            assert leaks(base) <= leaks(weakened), each.what
            failed = {name: got for name, got in weakened.items() if got.outcome is Outcome.ERROR}
            assert failed == {}, each.what
        if fired != set(each.fires):
            unlike[each.base, each.what] = {
                name: weakened[name] for name in fired.symmetric_difference(each.fires)
            }
    assert unlike == {}


def test_what_follows_the_host_is_missed_by_those_that_watch_it(journal: Journal, debian: Image) -> None:
    """Those that wait for what the host does see it where a mechanism is switched off, and only there."""
    weakenings = [replace(each, fires=each.beside) for each in WEAKENINGS if each.beside]
    # Apart, since to follow figures takes longest.
    figures = [each for each in weakenings if each.fires == ("X2",)]
    assert_theirs_leak(journal, debian, figures)
    assert_theirs_leak(journal, debian, [each for each in weakenings if each not in figures])


def test_each_limit_that_is_lifted_is_found_to_be_exceeded(journal: Journal, debian: Image) -> None:
    """With one limit above what was promised its own probe leaks, and those of the other limits do not."""
    limited = bool(limits_for(debian).io)
    # Where the disk that the image is on cannot be limited, R5 does not apply.
    weakenings = [each for each in LIMITS_LIFTED if limited or each.fires != ("R5",)]
    assert_theirs_leak(journal, debian, weakenings)


def test_swap_that_is_allowed_is_found_to_be_used(journal: Journal, debian: Image, tmp_path: Path) -> None:
    """A container whose memory limit leaves swap out is found to use more than it was promised."""
    with a_little_swap(tmp_path) as taken:
        if not taken:
            pytest.skip("this host takes no swap")
        assert_theirs_leak(journal, debian, SWAP_ALLOWED)


def assert_theirs_leak(journal: Journal, image: Image, weakenings: Sequence[Weakening]) -> None:
    """Of the probes of all these, its own leak on each container, and none on what it is made from.

    What depends on what the host does or counts meanwhile may need more than one attempt on a busy one.
    """
    wanted = {name for each in weakenings for name in each.fires}
    probes = [probe for probe in catalogue() if probe.id in wanted]
    pending = list(weakenings)
    for _ in range(ATTEMPTS):
        found = audited(journal, image, probes, pending)
        missing: dict[tuple[str, str], dict[str, Verdict]] = {}
        for each in pending:
            weakened = found[WeakenedMaker(each.base, each).label]
            base, fired = leaks(found[WeakenedMaker(each.base).label]), leaks(weakened)
            assert base & set(each.fires) == set(), each
            assert fired - base <= set(each.fires), each
            if fired - base != set(each.fires):
                missing[each.base, each.what] = weakened
        pending = [each for each in pending if (each.base, each.what) in missing]
        if not pending:
            break
    assert missing == {}


@contextmanager
def a_little_swap(folder: Path) -> Iterator[bool]:
    """Swap for the host while it is entered, if it takes any; false where it does not."""
    path = folder / f"swap-{os.getpid()}"
    try:
        with path.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.posix_fallocate(file.fileno(), 0, SWAP)
        done = subprocess.run(["mkswap", str(path)], capture_output=True, check=False)
        taken = done.returncode == 0 and subprocess.run(["swapon", str(path)], check=False).returncode == 0
        try:
            yield taken
        finally:
            if taken:
                subprocess.run(["swapoff", str(path)], check=True)
    finally:
        path.unlink(missing_ok=True)
