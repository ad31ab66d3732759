"""The image's program `measure`, compiled for this host: what it counts is there, and grows with the time."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pybench.vm_images import compiler, inputs

MASK = (1 << 64) - 1
CHUNK = 1 << 20
KINDS = (
    "cpu", "cpu.float", "memory.read", "memory.write", "memory.copy", "syscall", "switch",
    "file.sequential.read", "file.sequential.write", "file.random.read", "file.random.write", "file.fsync",
    "network.latency", "network.receive", "network.send", "latency",
)  # fmt: skip
TIMED = {"file.random.read", "file.random.write", "file.fsync", "network.latency", "latency"}
TIMEOUT = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled as for the image."""
    folder = inputs.recipe_folder("minimal")
    output = tmp_path_factory.mktemp("measure") / "measure"
    sources = sorted(folder.glob("measure*.c"))
    compiler.compile_static(sources, output, output.parent, includes=sorted(folder.glob("*.h")))
    return output


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Path:
    """A folder on a file system that can read and write past the page cache."""
    folder = tmp_path_factory.mktemp("disk")
    options = ("--size", CHUNK, "--milliseconds", 5, "--directory", folder)
    if "O_DIRECT" in run(program, "file.random.read", *options, check=False).stderr:
        pytest.skip("the temporary folder's file system has no O_DIRECT")
    return folder


def run(program: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run it for a short time."""
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=check, timeout=TIMEOUT
    )


def measured(program: Path, kind: str, milliseconds: int, *arguments: object) -> dict[str, Any]:
    """What it prints of a kind, after the line that says that it has begun."""
    finished = run(program, kind, "--milliseconds", milliseconds, *arguments)
    begin, line = finished.stdout.splitlines()
    assert begin == "begin"
    assert len(line) < 4096
    result: dict[str, Any] = json.loads(line)
    return result


def random_numbers(seed: int, count: int) -> NDArray[np.uint64]:
    """The first members of SplitMix64, whose state is a counter."""
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def done(result: dict[str, Any]) -> int:
    """What was done in all, the warm-up included."""
    return int(result["warming"] + result["amount"] * len(result["batches"]))


def test_it_names_what_it_can_measure(program: Path) -> None:
    """The kinds are those that the measurement asks for."""
    assert run(program, "kinds").stdout.split() == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_batches_that_fill_its_time(program: Path, disk: Path, kind: str) -> None:
    """The batches add up to the span, which is at least about the time that was asked for."""
    result = measured(program, kind, 60, "--size", 8 << 20, "--directory", disk, "--batches", 6)
    assert result["kind"] == kind
    assert 3 <= len(result["batches"]) <= 100
    assert all(batch > 0 for batch in result["batches"])
    assert sum(result["batches"]) == result["span"]
    assert result["span"] > 0.9 * 60e6
    assert result["amount"] > 0
    assert list(disk.iterdir()) == []
    assert ("latency" in result) == (kind in TIMED)
    if kind in TIMED:
        latency = result["latency"]
        assert latency["n"] == result["amount"] * len(result["batches"])
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["maximum"] * 1.01
        # Half of the operations take at least the median.
        assert latency["n"] / 2 * latency["p50"] * 0.99 <= result["span"]


def test_batches_that_turn_out_too_short_are_joined(program: Path) -> None:
    """However much faster it becomes after the warm-up: no more than 100, and the time is filled."""
    for _ in range(8):
        result = measured(program, "syscall", 60, "--batches", 100)
        assert 3 <= len(result["batches"]) <= 100
        assert sum(result["batches"]) == result["span"]
        assert result["span"] > 0.98 * 60e6


@pytest.mark.parametrize("kind", ["cpu", "syscall"])
def test_the_work_grows_with_the_time(program: Path, kind: str) -> None:
    """In many times the time it does much more than in the time itself, best of some tries."""
    most = {}
    # A busy host may leave the long tries a small part of a processor, and the short ones all of it.
    for milliseconds in (20, 500):
        tries = [measured(program, kind, milliseconds) for _ in range(3)]
        most[milliseconds] = max(each["amount"] * len(each["batches"]) for each in tries)
    assert most[500] > 2 * most[20]


def test_the_processors_work_is_really_done(program: Path) -> None:
    """The checksum is the sum of as many members of the sequence as it says to have computed."""
    result = measured(program, "cpu", 20)
    assert result["checksum"] == int(random_numbers(1, done(result)).sum())


@pytest.mark.parametrize("kind", ["memory.read", "memory.copy"])
def test_memory_is_really_read(program: Path, kind: str) -> None:
    """The checksum is that of as many bytes as it says to have read, again and again from the start."""
    size = 4 << 20 if kind == "memory.read" else 2 << 20
    result = measured(program, kind, 20, "--size", 4 << 20)
    words = random_numbers(size, size // 8).reshape(-1, CHUNK // 8)
    sums = words.sum(axis=1) if kind == "memory.read" else words[:, 0]
    chunks = done(result) // CHUNK
    whole, rest = divmod(chunks, len(sums))
    assert result["checksum"] == (int(sums.sum()) * whole + int(sums[:rest].sum())) & MASK


def test_a_switch_takes_longer_than_a_call(program: Path) -> None:
    """A system call takes less than a switch to another process and back."""
    call = measured(program, "syscall", 100)
    switch = measured(program, "switch", 100)
    per_call = min(call["batches"]) / call["amount"]
    per_switch = min(switch["batches"]) / switch["amount"]
    assert per_call < per_switch


def test_a_server_answers_clients_one_after_the_other(program: Path) -> None:
    """Latency and both directions over a port, and what breaks the protocol only loses its connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [program, "serve", "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as rude:
                rude.sendall(b"x" * 16)
                assert rude.recv(1) == b""
            for kind in ("network.latency", "network.receive", "network.send"):
                result = measured(program, kind, 50, "--address", "127.0.0.1", "--port", port)
                assert result["amount"] > 0
        finally:
            server.terminate()
    assert server.returncode == 0


def test_a_missing_server_is_told(program: Path) -> None:
    """Nobody listens: the call, the address and the reason."""
    finished = run(program, "network.latency", "--address", "127.0.0.1", "--port", 1, check=False)
    assert finished.returncode == 1
    assert "connect 127.0.0.1: Connection refused" in finished.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("nothing",), ("cpu", "--milliseconds"), ("cpu", "--milliseconds", "0"),
        ("cpu", "--batches", "-1"), ("cpu", "--batches", "101"), ("cpu", "--size", "18446744073709551617"),
        ("serve",), ("cpu", "--speed", "9"),
    ],
)  # fmt: skip
def test_wrong_usage_is_refused(program: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 64 with the usage, and nothing is measured."""
    finished = run(program, *arguments, check=False)
    assert finished.returncode == 64
    assert "usage: measure" in finished.stderr
    assert finished.stdout == ""


def test_a_buffer_that_is_too_small_is_refused(program: Path) -> None:
    """Less than one chunk cannot be gone through."""
    finished = run(program, "memory.read", "--size", 1000, check=False)
    assert finished.returncode == 1
    assert "less than 1 MiB" in finished.stderr


def test_a_disk_that_is_not_there_is_told(program: Path, tmp_path: Path) -> None:
    """The folder is in the message."""
    finished = run(program, "file.fsync", "--directory", tmp_path / "missing", check=False)
    assert finished.returncode == 1
    assert f"open {tmp_path}/missing/" in finished.stderr


def test_memory_is_taken_up_to_what_was_asked_for(program: Path) -> None:
    """Without a limit in the way all of it is reached."""
    result = json.loads(run(program, "limit.memory", "--limit", 32 << 20).stdout.splitlines()[1])
    assert (result["reached"], result["ending"]) == (32 << 20, "complete")


def test_memory_ends_where_the_address_space_does(program: Path) -> None:
    """Where the kernel refuses the mapping nothing is reached, and that is told."""
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit of util-linux is missing")
    command = [prlimit, f"--as={32 << 20}", str(program), "limit.memory", "--limit", str(64 << 20)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    result = json.loads(finished.stdout.splitlines()[1])
    assert (result["reached"], result["ending"]) == (0, "refused")


def test_processes_are_counted(program: Path) -> None:
    """All of them start where no limit is in the way, and none is left."""
    result = json.loads(run(program, "limit.processes", "--limit", 20).stdout.splitlines()[1])
    assert (result["reached"], result["ending"]) == (20, "complete")


def test_workers_use_no_more_than_their_processors(program: Path) -> None:
    """Two workers have at most twice the time that went by."""
    result = json.loads(
        run(program, "limit.processor", "--limit", 2, "--milliseconds", 100).stdout.splitlines()[1]
    )
    assert result["workers"] == 2
    assert 0 < result["used"] <= 2 * result["span"]
