"""Bridges and whoever may not make any."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap

import pytest
from patience import PATIENCE

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_bridge_needs_privilege(user: int) -> None:
    """Where links may not be made, the error says what it takes, and nothing is left or stays journalled."""
    script = textwrap.dedent(
        """
        import ctypes, encodings.ascii, os, sys
        from pathlib import Path
        import pyroute2.netlink.exceptions
        from pybench.runtime.container.network.bridge import Bridge
        from pybench.runtime.errors import HostError
        from pybench.runtime.journal import open_journal

        CAP_NET_ADMIN = 12
        libc = ctypes.CDLL(None, use_errno=True)
        class Header(ctypes.Structure):
            _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
        sets = (ctypes.c_uint32 * 6)()
        header = Header(0x20080522, 0)
        libc.capget(ctypes.byref(header), sets)
        for index in range(3):
            sets[index] &= ~(1 << CAP_NET_ADMIN)
        assert libc.capset(ctypes.byref(header), sets) == 0
        if user := int(sys.argv[2]):
            os.setgroups([]); os.setgid(user); os.setuid(user)
        with open_journal(Path(sys.argv[1])) as journal:
            try:
                with Bridge(journal):
                    print("made")
            except HostError as error:
                print(error.message, "|", error.hint, "|", len(journal.entries))
        """
    )
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, user, user)
        done = subprocess.run(
            [sys.executable, "-c", script, directory, str(user)],
            env={**os.environ, "XDG_RUNTIME_DIR": directory},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    message, hint, entries = done.stdout.strip().split(" | ")
    assert "cannot make the bridge pyb" in message
    assert "CAP_NET_ADMIN" in hint
    assert entries == "0"
