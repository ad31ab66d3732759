"""The network of an ordinary user's container: pasta and slirp4netns as a user without any privilege."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import user_network_observer
from patience import PATIENCE

from pybench.runtime.container.network.user_network import detect_user_network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def observe(name: str, device: str = "device") -> dict[str, Any]:
    """What a user without privilege sees of a network by this program."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed: apt-get install passt slirp4netns")
    command = [sys.executable, user_network_observer.__file__, name, program, device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=3 * PATIENCE)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_pasta_gives_a_network_and_publishes_a_port() -> None:
    """There is a default route and the published port answers; the host's loopback stays out of reach."""
    seen = observe("pasta")
    assert seen["found"] == "pasta"
    assert seen["qualifiers"] == {"net": "pasta", "outgoing": "open"}
    assert (seen["routes before"], seen["routes"] > 0) == (0, True)
    assert seen["host"] == ["no", "no"]
    assert (seen["server"], seen["published"]) == ("listening", "hello\n")
    assert seen["journalled"] == ["directory", "session"]
    assert (seen["left"], seen["files"]) == (0, [])


def test_slirp4netns_gives_a_network() -> None:
    """There is a default route, the host's loopback stays out of reach, and published ports are refused."""
    seen = observe("slirp4netns")
    assert seen["qualifiers"] == {"net": "slirp4netns", "outgoing": "open"}
    assert (seen["routes before"], seen["routes"] > 0) == (0, True)
    assert seen["host"] == ["no", "no"]
    assert seen["journalled"] == ["session"]
    assert (seen["left"], seen["files"]) == (0, [])
    assert seen["refused"] == "HostError: slirp4netns cannot publish ports for pybench"


def test_a_program_that_fails_is_reported() -> None:
    """A namespace that the user has no right to gives an error that names the program; nothing is left."""
    seen = observe("pasta")
    assert seen["refused"] == "InstanceError: pasta did not become ready"
    assert seen["left"] == 0


def test_without_the_tap_device_there_is_none() -> None:
    """Where /dev/net/tun may not be opened, no program is offered, though it is installed."""
    assert observe("pasta", device="none")["found"] is None


def test_root_is_offered_none() -> None:
    """Root has the bridge."""
    assert detect_user_network() is None
