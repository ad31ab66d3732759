"""The scenario language: a YAML file becomes a `Scenario`, or an error that names its place and key."""

from __future__ import annotations

from pybench.harness.scenario.document import read_text
from pybench.harness.scenario.load import load_scenario

__all__ = ["load_scenario", "read_text"]
