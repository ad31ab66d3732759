"""A report on paper: the page itself, printed by a headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pybench.harness.errors import HostError
from pybench.reports.page import write_whole

VARIABLE: Final = "PYBENCH_CHROMIUM"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALLING: Final = "apt-get install chromium"
TIMEOUT: Final = 180.0
"""Seconds that printing may take."""
DRAWING: Final = 60_000
"""Milliseconds of the page's own time for its figures; the browser does not wait them out."""
LONGEST_COMPLAINT: Final = 300


def find_chromium() -> str:
    """The browser: what `PYBENCH_CHROMIUM` names, or the first that is installed.

    Raises:
        HostError: there is none.
    """
    named = os.environ.get(VARIABLE, "")
    for name in (named,) if named else PROGRAMS:
        if found := shutil.which(name):
            return found
    if named:
        raise HostError(
            f"{VARIABLE}={named}: there is no such program",
            f"name one that is installed, or unset {VARIABLE}; {INSTALLING} installs one",
        )
    raise HostError("a PDF needs Chromium, which is missing", INSTALLING)


def write_pdf(path: Path, page: str) -> Path:
    """Print a page to a file; whoever opens `path` sees the old one or the whole new one.

    Args:
        path: where to write; its folder must exist.
        page: HTML that is complete in itself.

    Raises:
        HostError: there is no Chromium, or it does not print.
        InputError: the file cannot be written.
    """
    program = find_chromium()
    with tempfile.TemporaryDirectory(prefix="pybench-pdf-") as folder:
        source, printed = Path(folder, "report.html"), Path(folder, "report.pdf")
        source.write_text(page, encoding="utf-8")
        command = [
            program, "--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            f"--user-data-dir={folder}/profile", f"--virtual-time-budget={DRAWING}",
            "--no-pdf-header-footer", f"--print-to-pdf={printed}", source.as_uri(),
        ]  # fmt: skip
        if os.geteuid() == 0:
            # Chromium refuses to run as root with its sandbox; the page can neither fetch nor run anything.
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"{program} does not print: {error}", f"name another in {VARIABLE}") from error
        if not printed.exists():
            said = done.stderr.decode(errors="replace").strip()[-LONGEST_COMPLAINT:]
            raise HostError(f"{program} does not print: {said}", f"name another in {VARIABLE}")
        return write_whole(path, printed.read_bytes())
