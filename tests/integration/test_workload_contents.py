"""Files and user of a workload, and its first answer, on every target that honours them: the same on each."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from image_recipes import ignore
from patience import PATIENCE
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT

from pybench import vm_images
from pybench.harness.errors import InputError, InstanceError
from pybench.harness.model import Readiness, TargetChoice, Workload, WorkloadFile
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import HasAddress, HasCommands, Instance, Target
from pybench.runtime.journal import open_journal
from pybench.vm_images import Image, inputs

PORT = 8087
OPTIONS: dict[str, dict[str, str | int | float | bool]] = {
    "chroot": {},
    "container": {"network": "bridge"},
    "vm": {"network": "bridge", "accel": "tcg"},
}
RECIPE = """\
description: minimal as a disk that is read-only, in a machine with a network card
variant_of: minimal
form: disk
kernel: {package: [linux-image-cloud-amd64, linux-image-virtual], modules: [virtio_net]}
"""
FACTS = """\
id -u; id -g; id -G
stat -c '%a %u %g %s %n' /srv/new/page /tmp/deep/private /etc/hostname
cat /etc/hostname
echo 2> /dev/null x > /srv/new/page || echo refused
rm /srv/new/page 2> /dev/null || echo refused
"""
PAGE = b"the same on every target\n"
FILES = (
    WorkloadFile("/srv/new/page", PAGE),
    WorkloadFile("/tmp/deep/private", b"x" * 100_000, 0o600),
    WorkloadFile("/etc/hostname", b"renamed\n", 0o444),
)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make bridges and change users")


@pytest.fixture(scope="module")
def disk_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """An image whose guests have a network card, and a disk that they cannot write to."""
    recipes = tmp_path_factory.mktemp("recipes")
    (recipes / "netdisk").mkdir()
    (recipes / "netdisk" / inputs.RECIPE_FILE).write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(inputs.RECIPES_VARIABLE, str(recipes))
        yield vm_images.build("netdisk", progress=ignore)


def serving(**changes: object) -> Workload:
    """Tells the facts, then serves /srv; the script is a file as well, and executable."""
    script = f"#!/bin/sh\n{FACTS}exec /bin/busybox httpd -f -p {PORT} -h /srv\n"
    files = (*FILES, WorkloadFile("/opt/start", script.encode(), 0o755))
    readiness = Readiness("http", port=PORT, path="/new/page")
    fields: dict[str, object] = {"files": files, "readiness": readiness, "user": "nobody", **changes}
    return Workload("web", "netdisk", ("/bin/sh", "/opt/start"), **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[*OPTIONS])
def served(request: pytest.FixtureRequest, disk_image: Image) -> Iterator[tuple[Target, Instance]]:
    """A target of each kind with an instance that has answered."""
    kind = request.param
    with open_journal() as journal:
        target = open_target(TargetChoice(kind, kind, 1, OPTIONS[kind]), TargetContext(journal, Path("/")))
        try:
            target.prepare(serving(), disk_image)
            instance = target.launch(BOOT_TIMEOUT)
            yield target, instance
            instance.stop(STOP_TIMEOUT)
        finally:
            target.cleanup()
        assert journal.entries == ()


def test_files_and_user_are_the_same_on_every_target(
    served: tuple[Target, Instance], disk_image: Image
) -> None:
    """Owner, mode and content as asked for, at new places and over old ones; nobody can change them."""
    _, instance = served
    assert instance.output.splitlines() == [
        "65534", "65534", "65534",
        "644 0 0 25 /srv/new/page", "600 0 0 100000 /tmp/deep/private", "444 0 0 8 /etc/hostname",
        "renamed",
        "refused", "refused",
    ]  # fmt: skip
    assert not (disk_image.rootfs / "srv").exists()
    assert (disk_image.rootfs / "etc/hostname").read_text() == "minimal\n"


def test_the_first_answer_is_the_mark_of_readiness(served: tuple[Target, Instance]) -> None:
    """It comes after the first instruction; the page is what the workload's file says."""
    _, instance = served
    marks = {mark.name: mark for mark in instance.marks}
    assert marks["ready"].channel == "http-answer"
    assert marks["ready"].at > marks["exec"].at
    assert 0 < marks["ready"].resolution <= (marks["ready"].at - marks["exec"].at) / 1e9
    assert isinstance(instance, HasAddress)
    with urllib.request.urlopen(f"http://{instance.address}:{PORT}/new/page", timeout=PATIENCE) as answer:
        assert answer.read() == PAGE


def test_commands_beside_the_workload_are_its_users(served: tuple[Target, Instance]) -> None:
    """What is run in a live instance has the workload's user and groups."""
    _, instance = served
    assert isinstance(instance, HasCommands)
    done = instance.execute(["/bin/sh", "-c", "id -u; id -g; id -G; cat /srv/new/page"], PATIENCE)
    assert done.stdout == b"65534\n65534\n65534\n" + PAGE


def test_a_guest_that_ends_before_it_answers_says_so(disk_image: Image, tmp_path: Path) -> None:
    """The workload's end is seen while it is asked, and its exit code told; nothing is left of the guest."""
    workload = serving(files=(WorkloadFile("/opt/start", b"exit 3"),), user="0:0")
    with open_journal() as journal:
        target = open_target(TargetChoice("vm", "vm", 1, OPTIONS["vm"]), TargetContext(journal, tmp_path))
        target.prepare(workload, disk_image)
        with pytest.raises(InstanceError, match=r"ended before it .*exit code 3"):
            target.launch(BOOT_TIMEOUT)
        target.cleanup()
        assert journal.entries == ()


def test_a_bare_process_is_another_user(journal_target: Target, image: Image) -> None:
    """It need not be able to enter the folder that holds the images; a script it cannot be."""
    command = ("/bin/busybox", "sh", "-c", "id -u; id -g; id -G; exec sleep 1000")
    workload = Workload("w", "minimal", command, user="12345:678", readiness=Readiness("line", "678"))
    journal_target.prepare(workload, image)
    instance = journal_target.launch(PATIENCE)
    assert instance.output.splitlines()[:2] == ["12345", "678"]
    assert psutil.Process(instance.processes[0]).gids().real == 678
    assert isinstance(instance, HasCommands)
    assert instance.execute(["/bin/busybox", "id", "-u"], PATIENCE).stdout == b"12345\n"
    instance.stop(0)


@pytest.fixture
def journal_target(tmp_path: Path) -> Iterator[Target]:
    """A bare process."""
    with open_journal() as journal:
        target = open_target(TargetChoice("process", "process", 1), TargetContext(journal, tmp_path))
        yield target
        target.cleanup()


def test_an_unknown_user_is_bad_input_on_every_target(disk_image: Image, tmp_path: Path) -> None:
    """It is said before anything is started."""
    with open_journal() as journal:
        for kind in ("process", *OPTIONS):
            choice = TargetChoice(kind, kind, 1, OPTIONS.get(kind, {}))
            target = open_target(choice, TargetContext(journal, tmp_path))
            with pytest.raises(InputError, match="has no user 'somebody'"):
                target.prepare(serving(user="somebody"), disk_image)
            target.cleanup()
