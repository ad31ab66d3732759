"""A container's root filesystem on the real kernel: layers, what may be written, covers and volumes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from oci_archives import directory, entry, symlink, tar
from sandboxes import APPLETS, HOST_FILES, MEBIBYTE, imported, printed, small_root, started

from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.identity import FIRST_ID
from pybench.runtime.container.profiles import ProfileName
from pybench.runtime.container.rootfs import Volume
from pybench.runtime.errors import InputError, InstanceError
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

POINTS = ("proc/", "dev/", "tmp/", "run/", "etc/", "bin/")


def base_layer(image: Image, *, complete: bool = True) -> bytes:
    """A layer with a shell, and with the mount points of a container if it is complete."""
    busybox = (image.rootfs / "bin/busybox").read_bytes()
    files = [entry(path[1:]) for path in HOST_FILES] if complete else []
    return tar(
        *(directory(name) for name in (POINTS if complete else ("bin/",))),
        entry("bin/busybox", data=busybox, mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
        *files,
        directory("srv/"),
        directory("srv/kept/"),
        entry("srv/kept/below", data=b"below"),
        entry("srv/removed", data=b"removed"),
        directory("srv/opaque/"),
        entry("srv/opaque/hidden", data=b"hidden"),
    )


MIDDLE = tar(
    directory("srv/"),
    entry("srv/.wh.removed"),
    directory("srv/opaque/"),
    entry("srv/opaque/.wh..wh..opq"),
    entry("srv/opaque/new", data=b"new"),
)
TOP = tar(directory("srv/"), directory("srv/kept/"), entry("srv/kept/above", data=b"above"))


def mounts_of(pid: int) -> dict[str, tuple[str, list[str]]]:
    """Mount point → the rest of its line in mountinfo: root within its file system, and all fields."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    return {fields[4]: (fields[3], fields) for fields in map(str.split, lines)}


def test_layers_are_merged_as_the_image_says(journal: Journal, image: Image, tmp_path: Path) -> None:
    """Of several layers the upper one wins; what it removes or replaces as a whole is not seen."""
    with imported(tmp_path, base_layer(image), MIDDLE, TOP) as layers:
        assert len(layers) == 3
        seen = printed(
            journal, layers, "ls /srv /srv/kept /srv/opaque; cat /srv/kept/*; touch /srv/x 2>&1", volumes=()
        )
    names = seen.split()
    assert {"kept", "opaque", "above", "below", "new"} <= set(names)
    assert not {"removed", "hidden"} & set(names)
    assert "abovebelow" in seen
    assert "Read-only file system" in seen


def test_an_image_of_one_layer_needs_no_overlay(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A single complete layer is the root itself."""
    with (
        imported(tmp_path, base_layer(image)) as layers,
        started(journal, layers, "cat /srv/removed") as container,
    ):
        fields = mounts_of(container.pid)["/"][1]
        assert "overlay" not in fields
        assert "removed" in container.output


@pytest.mark.parametrize("writable", [None, 4 * MEBIBYTE])
def test_an_image_without_mount_points_gets_them(
    journal: Journal, image: Image, tmp_path: Path, writable: int | None
) -> None:
    """Missing places are made in a layer of the container's own, which is read-only unless it may write."""
    script = "cat /etc/hostname; ls /; touch /new 2>&1 && echo written"
    with imported(tmp_path, base_layer(image, complete=False)) as layers:
        before = sorted(path.name for path in layers[0].rglob("*"))
        seen = printed(journal, layers, script, writable=writable)
        assert sorted(path.name for path in layers[0].rglob("*")) == before
    assert {"box", "proc", "dev", "tmp", "run", "etc", "srv"} <= set(seen.split())
    assert ("written" in seen) is (writable is not None)
    assert ("Read-only file system" in seen) is (writable is None)


def test_a_writable_root_is_limited_charged_and_gone_afterwards(journal: Journal, image: Image) -> None:
    """What is written is charged to the container, ends with ENOSPC, and nobody else ever sees it."""
    script = "rm /bin/vi; echo changed > /etc/passwd"
    script += "; dd if=/dev/zero of=/root/big bs=64k 2>&1; stat -c %s /root/big"
    before = (image.rootfs / "etc/passwd").read_bytes()
    with started(journal, (image.rootfs,), script, writable=8 * MEBIBYTE) as container:
        assert "No space left on device" in container.output
        assert 7 * MEBIBYTE < int(container.output.split()[-2]) <= 8 * MEBIBYTE
        charged = container.memory_charged
        assert charged is not None
        assert charged > 7 * MEBIBYTE
    assert (image.rootfs / "etc/passwd").read_bytes() == before
    assert (image.rootfs / "bin/vi").exists()
    assert not (image.rootfs / "root/big").exists()
    again = printed(journal, (image.rootfs,), "ls /root; cat /etc/passwd", writable=8 * MEBIBYTE)
    assert "big" not in again
    assert "changed" not in again


def test_writing_beyond_the_memory_limit_ends_inside(journal: Journal, image: Image) -> None:
    """A writable root that is larger than the memory limit is no way around it."""
    limits = Limits(memory=16 * MEBIBYTE, pids=16)
    script = "dd if=/dev/zero of=/big bs=1M count=40 2>&1"
    with started(journal, (image.rootfs,), script, writable=64 * MEBIBYTE, limits=limits) as container:
        assert container.out_of_memory_kills >= 1
        charged = container.memory_charged
        assert charged is not None
        assert charged <= 16 * MEBIBYTE


@pytest.mark.parametrize("writable", [None, 4 * MEBIBYTE])
@pytest.mark.parametrize("profile", ["default", "privileged"])
def test_the_files_about_itself_cannot_be_changed(
    journal: Journal, image: Image, writable: int | None, profile: ProfileName
) -> None:
    """Hosts, host name and resolver cannot be written, renamed or removed, not even by its root."""
    script = "\n".join(
        f"for what in 'cp /bin/sh {path}' 'mv {path} /etc/moved' 'rm -f {path}' 'mv /etc/group {path}';"
        f"do $what 2>/dev/null && echo 'did:' $what; done;"
        "echo x 2>/dev/null >>" + path + " && echo 'did: append'"
        for path in HOST_FILES
    )
    if profile == "default":
        script += "\n" + "\n".join(
            f"umount {path} 2>/dev/null && echo did: umount;"
            f"mount -o remount,rw,bind {path} 2>/dev/null && echo did: remount"
            for path in HOST_FILES
        )
    seen = printed(
        journal, (image.rootfs,), f"{script}\ncat /etc/hostname", writable=writable, profile=profile
    )
    assert "did:" not in seen
    assert seen.strip() == "box"


@pytest.mark.parametrize("writable", [None, 4 * MEBIBYTE])
def test_every_mount_is_sealed_and_private(
    journal: Journal, image: Image, tmp_path: Path, writable: int | None
) -> None:
    """Nosuid everywhere, nodev everywhere but where the device nodes are, and no peer gets to know."""
    volume = Volume(tmp_path, "/tmp/volume", writable=True)
    with started(journal, (image.rootfs,), writable=writable, volumes=(volume,)) as container:
        for point, (_, fields) in mounts_of(container.pid).items():
            assert "nosuid" in fields[5].split(","), point
            if not point.startswith("/dev") and point not in NULL_COVERED:
                assert "nodev" in fields[5].split(","), point
            assert not [word for word in fields[6 : fields.index("-")] if word], (point, fields)


NULL_COVERED = frozenset(
    f"/proc/{name}"
    for name in ("interrupts", "kcore", "keys", "timer_list", "key-users", "kallsyms", "kmsg", "cmdline",
                 "modules", "config.gz", "bootconfig", "sched_debug", "latency_stats", "timer_stats",
                 "sys/kernel/random/boot_id")
)  # fmt: skip
"""Masked by the null device, which has to be one."""


@pytest.mark.parametrize("writable", [None, 4 * MEBIBYTE])
def test_mountinfo_tells_no_path_of_the_host(
    journal: Journal, image: Image, tmp_path: Path, writable: int | None
) -> None:
    """Neither where images, stage or state are kept; only what a bind mount's own file system calls it."""
    with imported(tmp_path, base_layer(image), MIDDLE, TOP) as layers:
        seen = printed(journal, layers, "cat /proc/self/mountinfo", writable=writable)
    for line in seen.splitlines():
        options = line.partition(" - ")[2]
        assert "/run/pybench" not in line
        assert "stage-" not in line
        assert str(tmp_path) not in line
        assert "lowerdir=/" not in options


def test_volumes_are_read_only_unless_said(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A directory and a file of the host are inside where they should be, and written only if they may be."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("of the host\n", encoding="utf-8")
    (tmp_path / "one").write_text("one\n", encoding="utf-8")
    (tmp_path / "shared").mkdir()
    volumes = (
        Volume(tmp_path / "data", "/mnt/deep/data"),
        Volume(tmp_path / "one", "/etc/one.conf"),
        Volume(tmp_path / "shared", "/shared", writable=True),
    )
    seen = printed(
        journal,
        (image.rootfs,),
        "cat /mnt/deep/data/file /etc/one.conf; touch /mnt/deep/data/x 2>&1; echo x >> /etc/one.conf;"
        "echo written > /shared/new; stat -c '%u %a' /shared/new",
        volumes=volumes,
    )
    assert "of the host\none\n" in seen
    assert seen.count("Read-only file system") == 2
    assert (tmp_path / "one").read_text(encoding="utf-8") == "one\n"
    assert (tmp_path / "shared/new").read_text(encoding="utf-8") == "written\n"


@pytest.mark.parametrize("id_map", [True, False])
def test_files_in_a_volume_belong_to_whom_the_map_says(
    journal: Journal, image: Image, tmp_path: Path, id_map: bool
) -> None:
    """With mapped ids the container's root is the host's root there; without, it is nobody's business."""
    tmp_path.chmod(0o777)
    volume = Volume(tmp_path, "/tmp/volume", writable=True, id_map=id_map)
    (tmp_path / "hosts").touch()
    seen = printed(
        journal,
        (image.rootfs,),
        "touch /tmp/volume/new; stat -c %u /tmp/volume/new /tmp/volume/hosts",
        volumes=(volume,),
    )
    owner = (tmp_path / "new").stat().st_uid
    if id_map:
        assert owner == 0
        assert seen.split() == ["0", "0"]
    else:
        assert owner >= FIRST_ID
        assert seen.split() == ["0", "65534"]


def test_a_set_user_id_program_in_a_volume_is_an_ordinary_one(
    journal: Journal, image: Image, tmp_path: Path
) -> None:
    """Nosuid holds for volumes, and a device node in one cannot be opened."""
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    shutil.copy(image.rootfs / "bin/busybox", tmp_path / "busybox")
    (tmp_path / "busybox").chmod(0o4755)
    seen = printed(
        journal,
        (image.rootfs,),
        "cat /tmp/volume/null 2>&1; /tmp/volume/busybox id -u",
        volumes=(Volume(tmp_path, "/tmp/volume"),),
    )
    assert "Permission denied" in seen


def test_a_source_that_is_missing_is_named(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A volume of nothing is refused before anything is started."""
    volume = Volume(tmp_path / "gone", "/data")
    with (
        pytest.raises(InputError, match="gone does not exist"),
        started(journal, (image.rootfs,), volumes=(volume,)),
    ):
        pass


def test_a_volume_stays_when_its_source_vanishes(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A source that is removed while containers use it is an empty directory to them, and to new ones."""
    (tmp_path / "data").mkdir()
    script = "ls /tmp/data | wc -l"
    with started(
        journal, (image.rootfs,), script, volumes=(Volume(tmp_path / "data", "/tmp/data"),)
    ) as container:
        (tmp_path / "data").rmdir()
        assert container.output.split()[0] == "0"


HOSTILE = {
    "etc is the root": {"etc": "/"},
    "etc leads out": {"etc": "../../../../etc"},
    "dev is missing places": {"dev": "/nowhere"},
    "dev is proc": {"dev": "/proc"},
    "tmp is a descriptor": {"tmp": "/proc/self/fd"},
    "tmp is one descriptor": {"tmp": "/proc/self/fd/5"},
    "tmp is the root of pid 1": {"tmp": "/proc/1/root/etc"},
    "run is proc": {"run": "/proc"},
    "proc is the root": {"proc": "/"},
    "proc is tmp": {"proc": "/tmp"},
    "a loop": {"etc": "/run", "run": "/etc"},
    "files lead out": {"etc/hosts": "../../../../../../etc/shadow", "etc/hostname": "/proc/self/exe"},
    "file is a directory": {"etc/resolv.conf": "/tmp"},
}


@pytest.mark.parametrize("writable", [None, 4 * MEBIBYTE])
@pytest.mark.parametrize("links", HOSTILE.values(), ids=HOSTILE)
def test_links_of_a_hostile_image_stay_inside(
    journal: Journal, image: Image, tmp_path: Path, links: dict[str, str], writable: int | None
) -> None:
    """Whatever a mount point is a link to, the host's files stay as they are and out of sight."""
    root = small_root(tmp_path / "root", image)
    for name, target in links.items():
        place = root / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(target)
    canary = tmp_path / "canary"
    canary.mkdir()
    volumes = (Volume(canary, "/tmp/volume"),)
    before = {path: path.read_bytes() for path in (Path("/etc/hosts"), Path("/etc/passwd"))}
    script = "ls -a /proc/self/root/.. / | sort -u; cat /proc/self/mountinfo; ls -l /proc/self/fd"
    with (
        contextlib.suppress(InputError, InstanceError),
        started(journal, (root,), script, writable=writable, volumes=volumes) as container,
    ):
        inside = Path(f"/proc/{container.pid}/root")
        made = {Path(name).name for name in HOST_FILES}
        assert {path.name for path in inside.iterdir()} <= {path.name for path in root.iterdir()} | made
        for point, (_, fields) in mounts_of(container.pid).items():
            assert "/run/pybench" not in point
            assert "/run/pybench" not in fields[3]
    assert {path: path.read_bytes() for path in before} == before
    assert list(canary.iterdir()) == []


def test_what_it_mounts_nobody_else_sees(journal: Journal, image: Image, tmp_path: Path) -> None:
    """A privileged container's mount in a shared volume does not appear on the host."""
    volume = Volume(tmp_path, "/tmp/volume", writable=True)
    script = "mkdir /tmp/volume/inner; mount -t tmpfs none /tmp/volume/inner && touch /tmp/volume/inner/x"
    with started(journal, (image.rootfs,), script, volumes=(volume,), profile="privileged") as container:
        assert "/tmp/volume/inner" in mounts_of(container.pid)
        assert list((tmp_path / "inner").iterdir()) == []


def test_the_limits_of_a_root_are_the_specs(journal: Journal, image: Image) -> None:
    """Two containers of one sandbox write into roots of their own."""
    with (
        started(journal, (image.rootfs,), "echo one > /mark; cat /mark", writable=MEBIBYTE) as one,
        started(journal, (image.rootfs,), "ls /mark 2>&1", writable=MEBIBYTE) as other,
    ):
        assert "one" in one.output
        assert "No such file" in other.output
