"""A pytest plugin: the extension that $PYBENCH_EXTENSION names takes the place of the installed one."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys

NAME = "pybench.runtime.container.spawn._spawn"

_loader = importlib.machinery.ExtensionFileLoader(NAME, os.environ["PYBENCH_EXTENSION"])
_spec = importlib.util.spec_from_loader(NAME, _loader)
assert _spec is not None
_module = importlib.util.module_from_spec(_spec)
_loader.exec_module(_module)
sys.modules[NAME] = _module

import pybench.runtime.container.spawn as package  # noqa: E402 - the module above comes first

package._spawn = _module  # type: ignore[attr-defined]


def pytest_report_header() -> str:
    """Shows that it is this one that is tested."""
    return f"extension: {_module.__file__}"
