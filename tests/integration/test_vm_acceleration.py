"""KVM or emulation: decided by boots that really happen, a bare-metal guest's first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybench.runtime.errors import HostError
from pybench.runtime.journal import open_journal
from pybench.runtime.vm import acceleration
from pybench.runtime.vm.acceleration import decide
from pybench.runtime.vm.connection import Connection, open_connection
from pybench.vm_images import Image, build


@pytest.fixture(scope="module")
def nano() -> Image:
    """The bare-metal guest."""
    return build("nano", progress=lambda _text: None)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """One embedded driver for the module."""
    with open_journal() as journal, open_connection(journal) as opened:
        yield opened


@pytest.fixture
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of the test's own where verdicts are remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pybench" / "acceleration.json"


def can_open_kvm() -> bool:
    """Whether the device opens, which does not say that guests run."""
    return os.access(acceleration.KVM_DEVICE, os.R_OK | os.W_OK)


def test_verdict_tells_what_was_tried_and_is_remembered(
    nano: Image, connection: Connection, image: Image, own_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bare guest goes first; its outcome is in the reason; the next question is answered from memory."""
    if not can_open_kvm():
        pytest.skip(f"{acceleration.KVM_DEVICE} cannot be opened")
    monkeypatch.setattr(acceleration, "BOOT_SECONDS", 3.0)
    verdict = decide("auto", image, connection, nano)
    assert "bare-metal guest" in verdict.reason
    assert str(image.kernel) in own_memory.read_text(encoding="utf-8")
    monkeypatch.setattr(acceleration, "BOOT_SECONDS", 0.0)
    assert decide("auto", image, connection, nano) == verdict
    assert decide("tcg", image, connection).label == "TCG emulation"
    if verdict.acceleration == "kvm":
        assert decide("kvm", image, connection, nano) == verdict
    else:
        with pytest.raises(HostError) as caught:
            decide("kvm", image, connection, nano)
        assert verdict.reason in caught.value.message
        assert caught.value.exit_code == 3


@pytest.mark.usefixtures("own_memory")
def test_image_is_not_tried_where_even_the_bare_guest_fails(
    connection: Connection, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare guest that does not run settles it, without the seconds that the image's kernel would take."""
    if not can_open_kvm():
        pytest.skip(f"{acceleration.KVM_DEVICE} cannot be opened")
    monkeypatch.setattr(acceleration, "BOOT_SECONDS", 0.0)
    verdict = decide("auto", image, connection, image)
    assert verdict.acceleration == "tcg"
    assert verdict.reason.startswith("not even a bare-metal guest runs under KVM")


def test_missing_device_is_the_reason(
    connection: Connection, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the device nothing is booted, and what is wrong with it is the reason."""
    monkeypatch.setattr(acceleration, "KVM_DEVICE", Path("/nonexistent/kvm"))
    verdict = decide("auto", image, connection)
    assert (verdict.acceleration, verdict.reason) == ("tcg", "/nonexistent/kvm: No such file or directory")
    with pytest.raises(HostError, match="/nonexistent/kvm"):
        decide("kvm", image, connection)
