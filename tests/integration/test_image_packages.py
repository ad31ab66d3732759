"""Packages from a repository on this disk: found, fetched once, checked, and errors told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from apt_repository import Repository

from pybench.runtime.errors import HostError
from pybench.vm_images import cache, packages

if TYPE_CHECKING:
    from pathlib import Path

NAME = "pybench-test-package"
VERSION = "1:2.0-3"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository that apt has read, with one package, and an empty cache."""
    repository = Repository(tmp_path)
    repository.use(monkeypatch)
    repository.add(NAME, VERSION, {"usr/hello": b"hello\n"}, "linux-image-1.0 (= 1.0), one | another")
    repository.update()
    return repository


def ignore(_: str) -> None:
    """Progress that nobody wants to hear of."""


@pytest.mark.usefixtures("repository")
def test_a_package_is_found_with_version_and_dependencies() -> None:
    """The candidate version is taken, and of each set of alternatives the first."""
    package = packages.require_package(NAME)
    assert (package.version, package.architecture) == (VERSION, "all")
    assert package.depends == ("linux-image-1.0", "one")


@pytest.mark.usefixtures("repository")
def test_the_first_alternative_on_offer_is_chosen() -> None:
    """Names that no archive offers are skipped; if none is offered, all are named."""
    assert packages.find_alternative(["no-such-package", NAME], "key").name == NAME
    with pytest.raises(HostError, match=r"no-such-package or nor-this \(key\)"):
        packages.find_alternative(["no-such-package", "nor-this"], "key")


def test_a_package_is_downloaded_once_and_unpacked(repository: Repository, tmp_path: Path) -> None:
    """The second request is answered from the cache, without the repository."""
    package = packages.require_package(NAME)
    said: list[str] = []
    archive = packages.download(package, said.append)
    assert said == [f"downloading {NAME} {VERSION}"]
    repository.archives[NAME].unlink()
    assert packages.download(package, said.append) == archive
    assert len(said) == 1
    target = tmp_path / "unpacked"
    target.mkdir()
    packages.unpack(archive, target)
    assert (target / "usr/hello").read_text() == "hello\n"


@pytest.mark.usefixtures("repository")
def test_a_damaged_download_is_fetched_again() -> None:
    """A cached archive whose content is not what apt's lists announce is replaced."""
    package = packages.require_package(NAME)
    archive = packages.download(package, ignore)
    good = archive.read_bytes()
    archive.write_bytes(good[:-1] + b"!")
    assert packages.download(package, ignore).read_bytes() == good


def test_a_failed_download_names_the_package_and_leaves_nothing(repository: Repository) -> None:
    """An archive that cannot be fetched is an error of the host, with apt's reason and what to try."""
    package = packages.require_package(NAME)
    repository.archives[NAME].unlink()
    with pytest.raises(HostError, match=f"cannot download {NAME} {VERSION}: ") as caught:
        packages.download(package, ignore)
    assert "apt-get update" in caught.value.hint
    assert not [path for path in cache.downloads_directory().iterdir() if not path.name.endswith(".lock")]


def test_an_archive_that_changed_since_is_refused(repository: Repository) -> None:
    """Content that does not have the announced hash never reaches the cache."""
    package = packages.require_package(NAME)
    repository.archives[NAME].write_bytes(repository.archives[NAME].read_bytes()[:-1] + b"!")
    with pytest.raises(HostError, match=NAME):
        packages.download(package, ignore)
    assert not list(cache.downloads_directory().glob("*.deb"))


@pytest.mark.usefixtures("repository")
def test_an_unknown_package_suggests_to_update_the_lists() -> None:
    """What apt does not know may be in newer lists."""
    with pytest.raises(HostError, match="no archive that offers the package no-such-package") as caught:
        packages.require_package("no-such-package")
    assert "apt-get update" in caught.value.hint


def test_without_apt_the_hint_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without apt the error names the program and its package."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="apt-cache is missing") as caught:
        packages.find_package(NAME)
    assert caught.value.hint == "apt-get install apt"
