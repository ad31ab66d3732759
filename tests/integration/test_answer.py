"""Readiness over the network, on the host's loopback and at a container's own address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.harness.errors import InstanceError
from pybench.harness.model import Readiness, Workload
from pybench.harness.targets import ContainerSettings, ProcessSettings, TargetContext
from pybench.harness.targets.base import Target
from pybench.harness.targets.container import ContainerTarget
from pybench.harness.targets.process import ProcessTarget
from pybench.runtime.journal import Journal
from pybench.vm_images import Image


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def web(port: int, readiness: Readiness) -> Workload:
    """A real web server, which serves the image's /etc."""
    command = ("/bin/busybox", "httpd", "-f", "-p", str(port), "-h", "/etc")
    return Workload("web", "minimal", command, readiness=readiness)


@pytest.fixture(params=["process", "container"])
def target(request: pytest.FixtureRequest, journal: Journal, tmp_path: Path) -> Iterator[Target]:
    """A target that can be asked."""
    context = TargetContext(journal, tmp_path)
    opened: Target = ProcessTarget(ProcessSettings(), context)
    if request.param == "container":
        opened = ContainerTarget(ContainerSettings(network="bridge"), context)
    yield opened
    opened.cleanup()


@pytest.mark.parametrize("level", ["tcp", "http"])
def test_a_server_is_ready_with_its_first_answer(target: Target, image: Image, level: str) -> None:
    """The mark comes after the first instruction, and its resolution is the time since the last refusal."""
    readiness = Readiness("tcp") if level == "tcp" else Readiness("http", path="/hostname")
    port = free_port()
    asked = Readiness(readiness.level, port=port, path=readiness.path)
    target.prepare(web(port, asked), image)
    instance = target.launch(PATIENCE)
    try:
        marks = {mark.name: mark for mark in instance.marks}
        ready = marks["ready"]
        assert ready.channel == f"{level}-answer"
        assert ready.at > marks["exec"].at
        assert 0 < ready.resolution <= (ready.at - marks["exec"].at) / 1e9
        assert instance.marks[-1] == ready
    finally:
        instance.stop(0)


@pytest.mark.parametrize(
    ("command", "readiness", "message"),
    [
        ((), Readiness("http", path="/missing"), "it answered with status 404"),
        (("/bin/workload", "silent"), Readiness("tcp"), "Connection refused"),
        (("/bin/workload", "exit", "0"), Readiness("tcp"), "ended before it answered"),
    ],
)
def test_one_that_does_not_answer_is_a_failure_with_a_reason(
    target: Target, image: Image, command: tuple[str, ...], readiness: Readiness, message: str
) -> None:
    """The wrong status, no server, or an end: nothing is left of it, and the next launch is possible."""
    port = free_port()
    asked = Readiness(readiness.level, port=port, path=readiness.path)
    workload = Workload("w", "minimal", command, readiness=asked) if command else web(port, asked)
    target.prepare(workload, image)
    for _ in range(2):
        # A busy host may not get as far as that in a short time: it is given ever more.
        for patience in (0.3, 3, 30):
            with pytest.raises(InstanceError) as caught:
                target.launch(patience)
            if message in caught.value.message:
                break
        assert message in caught.value.message


def test_another_server_is_not_taken_for_the_workload(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A port of the host that answers before the launch is an error that names it."""
    target = ProcessTarget(ProcessSettings(), TargetContext(journal, tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        target.prepare(web(port, Readiness("tcp", port=port)), image)
        with pytest.raises(InstanceError, match=f"port {port} of 127.0.0.1 answers before"):
            target.launch(1)
    target.cleanup()
