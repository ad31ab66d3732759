"""What a workload asks of its image: its user, and where its files go, looked up beneath the image's root."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.harness.errors import InputError
from pybench.harness.model import Workload, WorkloadFile
from pybench.harness.targets.contents import find_places, find_user
from pybench.harness.targets.mock import MockImage

USERS = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv:/bin/false\n"
GROUP = "root:x:0:\nwww:x:44:\nlogs:x:55:other,web\n"


@pytest.fixture
def image(tmp_path: Path) -> MockImage:
    """An image with some users, and links that try to lead out of it."""
    root = tmp_path / "rootfs"
    for name in ("etc", "run", "srv"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "passwd").write_text(USERS)
    (root / "etc" / "group").write_text(GROUP)
    (root / "out").symlink_to("/../../..")
    (root / "rundir").symlink_to("/run")
    (root / "nowhere").symlink_to("/missing")
    (root / "loop").symlink_to("loop")
    return MockImage("strange", rootfs=root)


def asking(*paths: str, user: str = "") -> Workload:
    """A workload with files at these paths."""
    files = tuple(WorkloadFile(path, path.encode(), 0o640) for path in paths)
    return Workload("w", "strange", ("/bin/true",), files=files, user=user)


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("web", (33, 44, (55,))),
        ("33", (33, 44, (55,))),
        ("web:logs", (33, 55, ())),
        ("7:8", (7, 8, ())),
        ("70000", (70000, 0, ())),
    ],
)
def test_a_user_is_looked_up_in_the_image(
    image: MockImage, user: str, found: tuple[int, int, tuple[int, ...]]
) -> None:
    """By number or name, with the groups that the image puts it into unless one is named."""
    known = find_user(asking(user=user), image)
    assert known is not None
    assert (known.uid, known.gid, known.groups) == found


def test_without_a_user_nothing_is_read(image: MockImage) -> None:
    """A workload that says nothing has the target's own user."""
    (image.rootfs / "etc" / "passwd").unlink()
    assert find_user(asking(), image) is None


@pytest.mark.parametrize(
    ("passwd", "message"),
    [
        ("nobody:x:1:1::/:\n", "user 'web' of workload w: .* has no user 'web'"),
        ("web:x:-1:0::/:\n", "impossible id '-1'"),
        ("web:x:99999999999:0::/:\n", "impossible id '99999999999'"),
        ("web:x:33\n", "has no user"),
        ("\0" * 5000, "has no user"),
        ("#" * (1 << 20) + "\nweb:x:33:33::/:\n", "more than 1048576 bytes"),
    ],
)
def test_a_hostile_list_of_users_is_bad_input(image: MockImage, passwd: str, message: str) -> None:
    """Missing, damaged and endless lists are named, and nothing is guessed."""
    (image.rootfs / "etc" / "passwd").write_text(passwd)
    with pytest.raises(InputError, match=message):
        find_user(asking(user="web"), image)


def test_a_list_of_users_outside_the_image_is_not_read(image: MockImage, tmp_path: Path) -> None:
    """A symbolic link in the place of the list leads to a file of the image or to none."""
    secret = tmp_path / "secret"
    secret.write_text("web:x:0:0::/:\n")
    (image.rootfs / "etc" / "passwd").unlink()
    (image.rootfs / "etc" / "passwd").symlink_to(secret)
    with pytest.raises(InputError, match="has no user 'web'"):
        find_user(asking(user="web"), image)


def test_files_get_the_path_without_the_images_links(image: MockImage) -> None:
    """Links are followed inside the image, also those that would lead out; content and mode stay."""
    asked = asking("/srv/a", "/rundir/b", "/out/srv/c", "/new/folder/d", "/etc//group")
    places = find_places(asked, image)
    assert [file.path for file in places] == ["/srv/a", "/run/b", "/srv/c", "/new/folder/d", "/etc/group"]
    assert [(file.content, file.mode) for file in places][:2] == [(b"/srv/a", 0o640), (b"/rundir/b", 0o640)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/srv", "there is something else than a regular file"),
        ("/etc/passwd/x", "Not a directory"),
        ("/loop/x", "Too many levels of symbolic links"),
        ("/nowhere", "/nowhere is a symbolic link to nothing"),
        ("/new/../../etc/x", "it contains '..'"),
        ("/dev/x", "/dev/x is not the image's"),
        ("/proc/1/x", "is not the image's"),
        ("/out/sys/x", "/sys/x is not the image's"),
        ("/.pybench/workload", "is not the image's"),
        ("/etc//passwd2", "it is the same as /etc/passwd2"),
    ],
)
def test_a_file_without_a_place_is_refused_by_name(image: MockImage, path: str, message: str) -> None:
    """The message names the file, the workload and what is in the way."""
    with pytest.raises(InputError) as caught:
        find_places(asking("/etc/passwd2", path), image)
    assert caught.value.message.startswith(f"file {path} of workload w cannot be put into the image: ")
    assert message in caught.value.message
