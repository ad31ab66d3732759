"""A repository on this disk that is the only one apt knows, with packages made for a test."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybench.vm_images import cache


@dataclass
class Repository:
    """A flat Debian repository; `update` has apt read what was added to it."""

    folder: Path
    archives: dict[str, Path] = field(default_factory=dict)
    """Package → its archive."""
    _index: str = ""

    def __post_init__(self) -> None:
        for name in ("repository", "lists/partial", "cache/archives/partial", "empty"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "status").touch()
        sources = f"deb [trusted=yes] file:{self.folder}/repository ./\n"
        (self.folder / "sources.list").write_text(sources)
        # Root's apt would fetch as another user, who may not enter a test's folder.
        (self.folder / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{self.folder}/sources.list";\n'
            f'Dir::Etc::sourceparts "{self.folder}/empty";\n'
            f'Dir::State::lists "{self.folder}/lists";\n'
            f'Dir::State::status "{self.folder}/status";\n'
            f'Dir::Cache "{self.folder}/cache";\n'
            'APT::Sandbox::User "";\n'
        )

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it the only repository, with an empty cache of images, for this test."""
        monkeypatch.setenv("APT_CONFIG", str(self.folder / "apt.conf"))
        monkeypatch.setenv(cache.CACHE_VARIABLE, str(self.folder / "pybench-cache"))

    def add(self, name: str, version: str, files: dict[str, bytes], depends: str = "") -> None:
        """Add a package for every architecture with these files."""
        content = self.folder / f"content-{name}"
        (content / "DEBIAN").mkdir(parents=True)
        for path, data in files.items():
            (content / path).parent.mkdir(parents=True, exist_ok=True)
            (content / path).write_bytes(data)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: A Test <test@example.org>\nDescription: for a test\n"
        )
        if depends:
            control += f"Depends: {depends}\n"
        (content / "DEBIAN/control").write_text(control)
        self.archives[name] = archive = self.folder / "repository" / f"{name}.deb"
        command = ["dpkg-deb", "--root-owner-group", "--build", str(content), str(archive)]
        subprocess.run(command, check=True, capture_output=True)
        data = archive.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self._index += f"{control}Filename: ./{archive.name}\nSize: {len(data)}\nSHA256: {digest}\n\n"
        (archive.parent / "Packages").write_text(self._index)

    def update(self) -> None:
        """Let apt read the repository's list."""
        subprocess.run(["apt-get", "-qq", "update"], check=True, capture_output=True)
