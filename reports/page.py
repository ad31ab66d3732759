"""What all pages have in common: templates that escape, scripts, a policy, and files that appear whole."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pybench.harness.errors import InputError
from pybench.harness.units import count
from pybench.reports.curves import curve_finding, slowdown
from pybench.reports.decision import score_text
from pybench.reports.findings import finding
from pybench.reports.numbers import one_line, slug

SITE_SOURCES = ("'self'", "file:")
"""Where the library that the pages of a site share comes from: a server, or the disk."""
STATUSES = {
    "done": "complete",
    "running": "not ended",
    "interrupted": "interrupted",
    "failed": "ended with an error",
    "abandoned": "abandoned: its process died",
}


@cache
def templates() -> Environment:
    """The templates, in which every text is escaped unless it was made by `script_safe_json`."""
    environment = Environment(
        loader=PackageLoader("pybench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slug"] = lambda parts: slug(*parts)
    environment.filters["one_line"] = one_line
    environment.filters["score"] = score_text
    environment.filters["curve_finding"] = curve_finding
    environment.filters["slowdown"] = slowdown
    environment.filters["instant"] = _instant
    environment.filters["status"] = STATUSES.__getitem__
    environment.globals["count"] = count
    environment.globals["finding"] = finding
    return environment


def _instant(text: str) -> str:
    """A stored instant for people: to the second, if it is one."""
    matched = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z", text)
    return f"{matched[1]} {matched[2]} UTC" if matched else one_line(text, 40)


@cache
def scripts(*names: str) -> dict[str, Markup]:
    """Scripts of ours by name, exactly as they stand in a page: their hashes admit them.

    `plotly` is the library; every other name is a file among the templates.
    """
    texts = {name: plotly_library() if name == "plotly" else _source(f"{name}.js") for name in names}
    # HTML turns CR LF into LF before it hashes; a script that closed its own element would end there.
    return {
        name: Markup(text.replace("\r\n", "\n").replace("</script", "<\\/script"))  # noqa: S704 - our own code
        for name, text in texts.items()
    }


@cache
def plotly_library() -> str:
    """The library that draws, in the part of it that reports need."""
    return (files("pybench.reports") / "plotly" / "plotly-basic.min.js").read_text(encoding="utf-8")


def _source(name: str) -> str:
    loader = templates().loader
    return loader.get_source(templates(), name)[0] if loader else ""


def policy(admitted: Mapping[str, str], *sources: str) -> str:
    """A content security policy: no request of any kind, and no script but ours, whatever got in.

    Plotly sets styles as it draws, hence `unsafe-inline` for these.

    Args:
        admitted: the scripts that stand in the page.
        sources: what scripts may besides come from, as the policy spells it.
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in admitted.values())
    allowed = " ".join([*sources, *(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)])
    rules = ("default-src 'none'", f"script-src {allowed}", "style-src 'unsafe-inline'", "img-src data:")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file; whoever opens `path` sees the old one or the whole new one.

    Args:
        path: where to write; its folder must exist.
        content: text, which is written as UTF-8, or bytes.

    Returns:
        `path`.

    Raises:
        InputError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    try:
        try:
            unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write the report {path}: {os.strerror(error.errno or 0)}",
            "choose a folder that exists and that you may write to",
        ) from error
    return path
