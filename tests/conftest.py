"""Shared by all tests; its place puts this folder on the import path, for the helpers beside it."""

import pytest

pytest.register_assert_rewrite("store_behaviour")
