"""Images in their other forms: disks, a bare-metal guest, a user's kernel, imported ones; and booted."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_recipes import BUSYBOX, add_recipe, ignore, use_empty_cache
from oci_archives import archive_of, directory, entry, symlink, tar
from typer.testing import CliRunner
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT, Guests

from pybench import vm_images
from pybench.harness.cli.images import app
from pybench.runtime.container.image import ImageStore
from pybench.runtime.errors import InputError, InstanceError
from pybench.runtime.vm.connection import Connection
from pybench.runtime.vm.domain import Acceleration
from pybench.runtime.vm.identity import Identity
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.network import random_link_address, user_network
from pybench.vm_images import Image, forms, tree

CLOUD_KERNEL = "kernel: {package: [linux-image-cloud-amd64, linux-image-virtual]}\n"
KVM_SECONDS = 180.0
"""Where KVM is software itself, the firmware before the guest takes seconds."""


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of images, in use for this test."""
    return use_empty_cache(tmp_path / "cache", monkeypatch)


def printed(connection: Connection, image: Image, script: str) -> list[str]:
    """What a shell script prints in a guest of the image, until it says that it is done."""
    guests = Guests(connection, image)
    with guests.running("/bin/sh", "-c", f"{script}; echo done; exec sleep 1000", line="done") as machine:
        lines = machine.output.splitlines()
    assert guests.traces() == []
    return lines


def extracted(disk: Path, target: Path) -> Path:
    """The content of a disk, by an independent reader."""
    command = ["fsck.erofs", f"--extract={target}", "--preserve", str(disk)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_a_disk_holds_the_same_bits_and_boots_read_only(
    tmp_path: Path, fresh: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has the tree's hash and is reproducible; a guest runs from it and cannot write to it."""
    add_recipe(tmp_path / "recipes", "on-disk", BUSYBOX + CLOUD_KERNEL + "form: disk\n", monkeypatch)
    image = vm_images.build("on-disk", progress=ignore)
    assert image.form == "disk"
    assert image.disk is not None
    assert fresh in image.folder.parents
    assert tree.content_hash(extracted(image.disk, tmp_path / "extracted")) == image.content_hash
    forms.write_disk(tmp_path / "again", image.rootfs, image.content_hash, as_found=False)
    assert tree.file_hash(tmp_path / "again") == image.digests["disk"]
    assert image.sizes["initramfs"] < 2 << 20
    assert {"virtio_blk", "erofs"} <= set(image.modules)
    assert "overlay" not in image.modules
    lines = printed(
        connection, image, "ls -a1 /; grep ' / ' /proc/mounts; echo text 2>/dev/null > /new && cat /new"
    )
    assert ".pybench" not in lines
    assert {"bin", "etc", "proc"} <= set(lines)
    root = next(line.split() for line in lines if line.split()[1:2] == ["/"])
    assert root[2] == "erofs"
    assert {"ro", "nosuid", "nodev"} <= set(root[3].split(","))
    assert "text" not in lines
    vm_images.verify(image)
    with image.disk.open("r+b") as disk:
        disk.seek(-1, os.SEEK_END)
        disk.write(b"!")
    ((_, _, problem),) = vm_images.check(["on-disk"])
    assert "its disk was changed after the build" in problem


def test_a_guest_on_a_disk_lacks_nothing(
    tmp_path: Path, fresh: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a network and runs commands over the virtio port; restored, it goes on reading its disk."""
    kernel = CLOUD_KERNEL.replace("}", ", modules: [virtio_console, virtio_net]}")
    add_recipe(tmp_path / "recipes", "on-disk", BUSYBOX + kernel + "form: disk\n", monkeypatch)
    image = vm_images.build("on-disk", progress=ignore)
    guests = Guests(connection, image)
    command = ("/bin/sh", "-c", "echo ready; exec sleep 1000")
    machine = guests.make(*command, line="ready", network=user_network())
    machine.start(BOOT_TIMEOUT)
    done = machine.execute(["grep", " / ", "/proc/mounts"])
    assert done.channel == "virtio-serial"
    assert done.output.split()[2] == b"erofs"
    state = machine.save(tmp_path / "state", STOP_TIMEOUT)
    assert machine.spec.interface is not None
    card = dataclasses.replace(machine.spec.interface, hardware_address=random_link_address())
    spec = dataclasses.replace(machine.spec, interface=card)
    restored = VirtualMachine(connection, spec, state, Identity.fresh("sibling", card.hardware_address))
    guests.made.append(restored)
    restored.start(BOOT_TIMEOUT)
    script = "echo 3 > /proc/sys/vm/drop_caches; sha256sum /bin/busybox; cat /sys/class/net/eth0/address"
    digest, _, address = restored.execute(["sh", "-c", script], privileged=True).output.decode().split()
    restored.stop(STOP_TIMEOUT)
    assert digest == hashlib.sha256((image.rootfs / "bin/busybox").read_bytes()).hexdigest()
    assert address == card.hardware_address
    assert guests.traces() == []
    assert fresh in image.folder.parents


def test_the_bare_metal_guest_is_tiny_and_reproducible(fresh: Path) -> None:
    """It has a kilobyte, needs neither packages nor init, and a second build gives the same bytes."""
    image = vm_images.build("nano", progress=ignore)
    assert image.sizes["kernel"] < 4096
    assert image.sizes["initramfs"] == 512
    assert (image.packages, image.modules, image.kernel_release) == ({}, (), "")
    assert vm_images.build("nano", rebuild=True, progress=ignore).digests == image.digests
    assert fresh in image.folder.parents


@pytest.mark.parametrize("acceleration", ["tcg", "kvm"])
def test_the_bare_metal_guest_says_its_line_and_ends(
    connection: Connection, acceleration: Acceleration
) -> None:
    """Under emulation and under KVM it takes every step of a guest's start, and ends when it is asked to."""
    if acceleration == "kvm":
        try:
            os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            pytest.skip(f"/dev/kvm: {error.strerror}")
    guests = Guests(connection, vm_images.build("nano", progress=ignore))
    machine = guests.make("/nano", line="ready", acceleration=acceleration)
    machine.start(KVM_SECONDS)
    with pytest.raises(InstanceError, match="no init to run commands"):
        machine.execute(["true"])
    machine.stop(STOP_TIMEOUT)
    names = [mark.name for mark in machine.marks]
    assert names[1:] == ["request", "vmm", "kernel", "sandbox", "exec", "ready", "stopping", "stopped"]
    assert machine.output == "ready\n"
    assert machine.exit_status == "exit 0"
    assert guests.traces() == []


@pytest.fixture
def variant(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a recipe `mine` for `minimal` with a kernel of the user's own; nothing of it stays."""
    assert image.name == "minimal"
    text = "variant_of: minimal\nkernel: {path: my-kernel}\n"
    yield add_recipe(tmp_path / "recipes", "mine", text, monkeypatch)
    if any(built.name == "mine" for built in vm_images.list_images()):
        vm_images.remove("mine", progress=ignore)


def test_a_variant_has_the_same_bits_and_the_users_own_kernel(
    variant: Path, image: Image, connection: Connection
) -> None:
    """Only the kernel is another file: the root filesystem is that of the image it is a variant of."""
    (variant / "my-kernel").write_bytes(image.kernel.read_bytes())
    mine = vm_images.build("mine", progress=ignore)
    vm_images.verify(mine)
    assert mine.content_hash == image.content_hash
    assert mine.digests["initramfs"] == image.digests["initramfs"]
    assert mine.kernel_release == image.kernel_release
    assert (mine.packages, mine.kernel_packages) == (image.packages, {})
    assert printed(connection, mine, "hostname")[0] == "guest"
    (variant / "my-kernel").unlink()
    with pytest.raises(InputError, match=r"kernel\.path: cannot read .*my-kernel"):
        vm_images.build("mine", progress=ignore)


def test_a_kernel_without_what_the_form_needs_is_refused(variant: Path, image: Image) -> None:
    """A kernel that tells its options and lacks some is refused by name, and no image is left."""
    told = b"IKCFG_ST" + gzip.compress(b"CONFIG_PVH=y\nCONFIG_64BIT=y\n") + b"IKCFG_ED"
    (variant / "my-kernel").write_bytes(image.kernel.read_bytes() + told)
    with pytest.raises(InputError, match=r"my-kernel lacks what a guest needs: CONFIG_BLK_DEV_INITRD=y"):
        vm_images.build("mine", progress=ignore)
    assert not list(image.folder.parent.glob("*mine-*"))


def test_an_image_without_a_kernel_is_for_containers_alone(
    tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a directory with a content hash, and whoever wants to boot it is told."""
    add_recipe(tmp_path / "recipes", "plain", BUSYBOX + "kernel: none\n", monkeypatch)
    image = vm_images.build("plain", progress=ignore)
    assert {path.name for path in image.folder.iterdir()} == {"rootfs", "manifest.json"}
    assert (image.form, image.tools) == ("", {})
    vm_images.verify(image)
    assert vm_images.find("plain") == image
    with pytest.raises(InputError, match="the image plain has no kernel"):
        _ = image.kernel
    assert fresh in image.folder.parents


@pytest.fixture
def imported(tmp_path: Path, fresh: Path, image: Image) -> str:
    """An imported image of two layers with owners, dates and a set-user-id program."""
    busybox = (image.rootfs / "bin/busybox").read_bytes()
    lower = tar(
        directory("bin/"),
        entry("bin/busybox", data=busybox, mode=0o755, mtime=1_000_000_000),
        symlink("bin/sh", "busybox"),
        entry("hidden", data=b"hidden by the upper layer"),
    )
    upper = tar(
        directory("data/", mode=0o755, uid=1000, gid=1000),
        entry("data/program", data=b"#!/bin/sh\n", mode=0o4755, uid=1000, gid=1001, mtime=1_700_000_000),
        entry(".wh.hidden"),
    )
    archive = archive_of(tmp_path / "image.tar", lower, upper)
    ImageStore().add(archive, "registry.example/tools:1")
    assert fresh.is_dir()
    return "registry.example/tools:1"


def test_an_imported_image_becomes_bootable_and_stays_as_it_is(
    imported: str, connection: Connection, tmp_path: Path
) -> None:
    """A guest finds its files with owner, mode and date, no file of ours, and may write as in a container."""
    image = vm_images.build(imported, progress=ignore)
    assert image.name == imported
    assert tree.content_hash(image.rootfs) == image.content_hash
    assert sorted(path.name for path in image.rootfs.iterdir()) == ["bin", "data"]
    # Its set-user-id programs are out of reach for other users of this host.
    assert image.folder.stat().st_mode & 0o777 == 0o700
    lines = printed(
        connection,
        image,
        "b=/bin/busybox; $b ls -a1 /; $b stat -c 'stat %u %g %a %Y' /data/program /bin/busybox;"
        "$b mkdir /new && echo made; $b grep ' / ' /proc/mounts",
    )
    owner = "1000 1001" if os.geteuid() == 0 else "0 0"
    assert f"stat {owner} 4755 1700000000" in lines
    assert "stat 0 0 755 1000000000" in lines
    assert not {"hidden", ".pybench"} & set(lines)
    assert "made" in lines
    assert next(line.split()[2] for line in lines if line.split()[1:2] == ["/"]) == "overlay"
    forms.write_disk(tmp_path / "again", image.rootfs, image.content_hash, as_found=True)
    assert tree.file_hash(tmp_path / "again") == image.digests["disk"]


def test_an_imported_image_is_listed_found_and_removed(imported: str) -> None:
    """It is told as something that can be built, and goes with everything that was made of it."""
    runner = CliRunner()
    assert imported in runner.invoke(app, ["list"]).output
    with pytest.raises(InputError, match="is not built") as caught:
        vm_images.find(imported)
    assert caught.value.hint == f"pybench images build {imported}"
    removed = runner.invoke(app, ["rm", imported])
    assert removed.stdout == f"removed the imported image {imported} and 2 layers that only it had\n"
    with pytest.raises(InputError, match="there is no image called"):
        vm_images.build(imported, progress=ignore)


def test_an_imported_image_cannot_take_the_name_of_a_recipe(tmp_path: Path, fresh: Path) -> None:
    """Whether it is asked for or what the file says, a name always tells what is meant."""
    archive = archive_of(tmp_path / "minimal.tar", tar(entry("file", data=b"x")))
    for arguments in (["--name", "minimal"], []):
        refused = CliRunner().invoke(app, ["import", str(archive), *arguments])
        assert isinstance(refused.exception, InputError)
        assert "because a recipe is" in refused.exception.message
        assert "--name minimal:imported" in refused.exception.hint
    assert ImageStore().names() == []
    assert fresh.is_dir()
