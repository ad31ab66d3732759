"""The scenario language: a YAML file becomes a `Scenario`, or an error that names its place and key."""

from __future__ import annotations

from pybench.harness.scenario.load import Choices, load_scenario

__all__ = ["Choices", "load_scenario"]
