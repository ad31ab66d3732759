"""A dockerd of the tests' own."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

_PATIENCE = 180


@contextmanager
def docker_daemon(place: Path, *flags: str) -> Iterator[list[str]]:
    """A dockerd without network; gives the command line of its client.

    Args:
        place: for all that is its own; the path has to be short, since a socket's name may have 107 bytes.
        flags: further ones.
    """
    socket = place / "docker.sock"
    command = [
        "/usr/sbin/dockerd", "--host", f"unix://{socket}", "--data-root", str(place / "data"),
        "--exec-root", str(place / "exec"), "--pidfile", str(place / "pid"), "--bridge", "none",
        "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--storage-driver", "overlay2", *flags,
    ]  # fmt: skip
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        client = ["/usr/bin/docker", "--host", f"unix://{socket}"]
        deadline = time.monotonic() + _PATIENCE
        while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dockerd does not start: {(place / 'log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield client
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)
        psutil.wait_procs(family, _PATIENCE)
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            if (mounted := line.split()[4]).startswith(str(place)):
                subprocess.run(["umount", mounted], check=True)
