"""A record on a disk that is really full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_behaviour import RUN, SAMPLE

from pybench.harness.errors import HostError
from pybench.harness.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "pybench-test", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_keeps_what_was_committed(small_disk: Path) -> None:
    """The error says that the disk is full; every commit before it can be read; with space it goes on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2**20)
    committed = 0
    with Store.open(small_disk / "pybench.sqlite") as store:
        store.begin_run(RUN)

        def fill() -> None:
            nonlocal committed
            while True:
                store.add_samples(RUN.id, [replace(SAMPLE, order=committed)] * 100)
                committed += 1

        with pytest.raises(HostError, match="disk is full") as caught:
            fill()
        assert "free some space" in caught.value.hint
        ballast.unlink()
        store.add_samples(RUN.id, [replace(SAMPLE, order=committed)] * 100)
    with Store.open(small_disk / "pybench.sqlite") as store:
        orders = [sample.order for sample in store.samples(RUN.id)]
    assert orders == [order for order in range(committed + 1) for _ in range(100)]
