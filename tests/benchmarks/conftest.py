"""What the benchmarks of containers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.instance import Readiness
from pybench.runtime.container.sandbox import SandboxSpec
from pybench.runtime.journal import Journal, open_journal
from pybench.vm_images import build


@pytest.fixture
def journal() -> Iterator[Journal]:
    """A journal that must be empty in the end."""
    with open_journal() as opened:
        yield opened
        assert opened.entries == ()


@pytest.fixture
def idle() -> SandboxSpec:
    """A container that is ready at once and then idle."""
    image = build("minimal", progress=lambda _text: None)
    return SandboxSpec(
        image.rootfs,
        ("/bin/workload", "ready"),
        {},
        Readiness(marking=True, line="ready"),
        Limits(memory=64 << 20, pids=32),
    )
