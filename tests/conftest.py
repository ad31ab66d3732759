"""Shared by all tests; its place puts this folder on the import path, for the helpers beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pybench.harness.runner.lock import LOCK_VARIABLE

pytest.register_assert_rewrite("store_behaviour")

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def lock_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither wait for a run that somebody has under way on this host nor keep one from starting."""
    before = os.environ.get(LOCK_VARIABLE)
    os.environ[LOCK_VARIABLE] = str(tmp_path_factory.mktemp("lock") / "run.lock")
    yield
    if before is None:
        del os.environ[LOCK_VARIABLE]
    else:
        os.environ[LOCK_VARIABLE] = before
