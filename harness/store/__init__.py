"""The record of all runs: SQLite by default, PostgreSQL by URL."""

from pybench.harness.store.checking import Checked, CheckedRun, check
from pybench.harness.store.errors import UnreachableError
from pybench.harness.store.filters import BRANCH, HOST, RunFilter
from pybench.harness.store.names import new_run_id, timestamp
from pybench.harness.store.record import LATEST, Recorder, Store
from pybench.harness.store.schema import REVISION
from pybench.harness.store.spool import SPOOL, Delivery, SpooledStore, deliver_all
from pybench.harness.store.tags import TagsAndNotes

__all__ = [
    "BRANCH",
    "HOST",
    "LATEST",
    "REVISION",
    "SPOOL",
    "Checked",
    "CheckedRun",
    "Delivery",
    "Recorder",
    "RunFilter",
    "SpooledStore",
    "Store",
    "TagsAndNotes",
    "UnreachableError",
    "check",
    "deliver_all",
    "new_run_id",
    "timestamp",
]
