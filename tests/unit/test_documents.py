"""The documents outside of the site, whose links no other tool follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)(?:#([^)\s]+))?\)")


def anchors(path: Path) -> set[str]:
    """What a heading can be linked by, as GitHub and GitLab spell it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = (
        "".join(each for each in heading.lower() if each.isalnum() or each in " -_") for heading in headings
    )
    return {text.replace(" ", "-") for text in kept}


@pytest.mark.parametrize("name", ["README.md", "HACKING.md", "CHANGELOG.md"])
def test_a_link_leads_somewhere(name: str) -> None:
    """To a file that is there, and to a heading in it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for file, anchor in LINK.findall(text):
        assert (ROOT / file).exists(), file
        if anchor:
            assert anchor in anchors(ROOT / file), f"{file}#{anchor}"


def test_a_broken_link_would_be_noticed() -> None:
    """The pattern finds a file with an anchor, and leaves the network alone."""
    assert LINK.findall("[a](docs/x.md#y), [b](z.md), [c](https://example.org/#q)") == [
        ("docs/x.md", "y"),
        ("z.md", ""),
    ]


def test_pictures_are_small() -> None:
    """Whoever clones the project downloads them."""
    pictures = [
        path for path in (ROOT / "docs" / "images").iterdir() if path.suffix in {".png", ".webp", ".svg"}
    ]
    assert pictures
    for path in pictures:
        assert path.stat().st_size <= 200_000, path.name
