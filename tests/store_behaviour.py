"""What every store does, whichever database is behind it; the tests of each database inherit it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sql
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybench.harness import store as store_package
from pybench.harness.errors import InputError, PybenchError
from pybench.harness.model import Conditions, Environment, Run, Sample
from pybench.harness.store import RunFilter, Store, insertion
from pybench.harness.store.tables import AnyText, metadata

RUN = Run(
    id="startup-1",
    scenario="startup",
    source="scenarios/startup.yaml",
    started="2025-11-23T22:00:00.000Z",
    finished=None,
    status="running",
    command="pybench run startup",
    environment=Environment({"host.kernel": "6.1", "host.cpu.model": "Größe ½"}),
    definition="name: startup\n",
)
SAMPLE = Sample(
    workload="ready",
    target="vm",
    metric="startup.phase.kernel",
    unit="s",
    value=1.7320508075688772,
    repetition=3,
    warmup=False,
    order=17,
    channel="isa-serial",
    resolution=1e-4,
    qualifiers={"accel": "tcg", "image": "3f1c"},
    parameters={"memory": "128MiB", "instances": 4},
    error=2.5e-4,
)
FAILED = replace(SAMPLE, value=None, status="failed", reason="not ready after 60 s\nlast line\x00�\\0\\")

LABEL = "memory=128MiB, instances=4"
WRITER = """
import sys
from dataclasses import replace
from pybench.harness.model import Environment, Run, Sample
from pybench.harness.store import Store

sample = Sample("w", "t", "m", "s", 1.0, 0, False, 0, "pipe", 1e-9, {})
place, name = sys.argv[1:]
with Store.open(place) as store:
    started = "2025-01-01T00:00:00.000Z"
    store.begin_run(Run(name, "s", "s.yaml", started, None, "running", "c", Environment({})))
    number = 0
    while True:
        step = replace(sample, order=number, reason=f"step {number}")
        store.add_samples(name, [replace(step, repetition=n) for n in range(3)])
        print(number, flush=True)
        number += 1
"""

Place = Path | str


def run_of(number: int, **fields: str) -> Run:
    """A finished run of its own day."""
    return replace(
        RUN,
        id=f"startup-{number}",
        started=f"2025-11-{number:02}T22:00:00.000Z",
        finished=f"2025-11-{number:02}T22:01:00.000Z",
        status="done",
        environment=Environment(fields),
    )


def engine_of(place: Place) -> sql.Engine:
    """To look past the store."""
    return sql.create_engine(place if isinstance(place, str) else f"sqlite:///{place}")


def count_series(place: Place) -> int:
    """How many series are stored."""
    engine = engine_of(place)
    with engine.connect() as connection:
        found = connection.execute(sql.text("SELECT count(*) FROM series")).scalar_one()
    engine.dispose()
    return int(found)


def make_older_record(place: Place, revision: str, samples: Sequence[Sample]) -> None:
    """A record as an older version left it, with one run that failed."""
    engine = engine_of(place)
    configuration = Config()
    configuration.set_main_option(
        "script_location", str(Path(store_package.__file__).with_name("migrations"))
    )
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)
        found = sql.MetaData()
        found.reflect(connection)
        run = {**asdict(RUN), "status": "failed", "environment": dict(RUN.environment.fields), "owner": {}}
        connection.execute(found.tables["run"].insert(), run)
        table = found.tables["sample"]
        rows = [
            {
                "id": 2 * number,
                "run": RUN.id,
                "sequence": number,
                **asdict(sample),
                "reason": AnyText().process_bind_param(sample.reason, connection.dialect),
            }
            for number, sample in enumerate(samples)
        ]
        connection.execute(
            table.insert(), [{column.name: row[column.name] for column in table.columns} for row in rows]
        )
    engine.dispose()


class StoreBehaviour:
    """Needs a fixture `place`: a database that does not exist yet, or has no tables."""

    def test_samples_and_runs_come_back_as_they_were(self, place: Place) -> None:
        """Everything round-trips through the database, failed samples included, in the order of storing."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, [SAMPLE, FAILED])
            store.add_samples(RUN.id, [])
            store.add_samples(RUN.id, [replace(SAMPLE, warmup=True)])
            store.finish_run(RUN.id, "done", "2025-11-23T22:01:00.000Z")
        with Store.open(place, create=False) as store:
            assert store.samples(RUN.id) == [SAMPLE, FAILED, replace(SAMPLE, warmup=True)]
            assert store.run(RUN.id) == replace(RUN, status="done", finished="2025-11-23T22:01:00.000Z")

    def test_conditions_are_stored_with_the_samples_of_their_step(self, place: Place) -> None:
        """They come back in the plan's order, and a step without them has none."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            late = Conditions(18, {"steal": 0.25, "waited": 0.0})
            early = Conditions(17, {"steal": 0.0})
            store.add_samples(RUN.id, [replace(SAMPLE, order=18)], late)
            store.add_samples(RUN.id, [SAMPLE], early)
            store.add_samples(RUN.id, [replace(SAMPLE, order=19)])
            assert store.conditions(RUN.id) == [early, late]
            with pytest.raises(InputError, match="there is no run"):
                store.conditions("other")
            assert store.condition([RUN.id, "other"], "steal") == {RUN.id: [0.0, 0.25]}
            assert store.condition([RUN.id], "waited") == {RUN.id: [0.0]}
            assert store.condition([RUN.id], "unheard-of") == {}

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
        max_examples=40,
        deadline=None,
    )
    @given(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.dictionaries(st.text(), st.text()))
    def test_any_value_and_text_round_trips(
        self, place: Place, value: float, reason: str, qualifiers: dict[str, str]
    ) -> None:
        """No value, reason or qualifier is altered on its way through the database."""
        sample = replace(SAMPLE, value=value, reason=reason, qualifiers=qualifiers)
        with Store.open(place) as store:
            if not store.runs():
                store.begin_run(RUN)
            store.add_samples(RUN.id, [sample])
            assert store.samples(RUN.id)[-1] == sample

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_no_number_is_a_failed_sample(self, place: Place, value: float) -> None:
        """NaN and infinities enter no figure, and the sample says what was measured."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, [replace(SAMPLE, value=value)])
            (stored,) = store.samples(RUN.id)
        assert (stored.value, stored.status, stored.reason) == (None, "failed", f"measured as {value}")

    def test_latest_is_the_run_that_was_started_last(self, place: Place) -> None:
        """`latest` names it, and `runs` lists the oldest first."""
        with Store.open(place) as store:
            for name, second in (("b", 2), ("c", 3), ("a", 1)):
                store.begin_run(replace(RUN, id=name, started=f"2025-11-23T22:00:0{second}.000Z"))
            assert [run.id for run in store.runs()] == ["a", "b", "c"]
            assert store.run().id == "c"
            assert store.samples("latest") == []

    def test_an_unknown_run_offers_the_nearest(self, place: Place) -> None:
        """The hint names runs, tags and branches that exist."""
        with Store.open(place) as store:
            with pytest.raises(InputError, match="no runs yet"):
                store.run()
            store.begin_run(run_of(1, **{"source.branch": "feature/fast"}))
            store.tags.set("main", "startup-1")
            with pytest.raises(InputError, match="no run, tag or branch 'startup-2'") as caught:
                store.samples("startup-2")
            assert "startup-1" in caught.value.hint
            with pytest.raises(InputError) as caught:
                store.run("mian")
            assert "main" in caught.value.hint
            with pytest.raises(InputError) as caught:
                store.run("feature/fsat")
            assert "feature/fast" in caught.value.hint

    def test_a_run_is_found_by_tag_branch_and_beginning(self, place: Place) -> None:
        """A tag comes before a branch, and a beginning counts only if it is one run's alone."""
        with Store.open(place) as store:
            for number, branch in ((1, "main"), (12, "main"), (13, "other")):
                store.begin_run(run_of(number, **{"source.branch": branch}))
            assert store.run("main").id == "startup-12"
            assert store.run("startup-13").id == "startup-13"
            assert store.run("startup-1").id == "startup-1"
            store.tags.set("main", "startup-1")
            assert store.run("main").id == "startup-1"
            with pytest.raises(InputError, match="no run"):
                store.run("start")
            with pytest.raises(InputError, match="no run"):
                store.run("")

    def test_a_tag_that_moves_leaves_older_baselines(self, place: Place) -> None:
        """Each earlier run of a tag is known, the latest first; ending the tag keeps them."""
        with Store.open(place) as store:
            for number in (1, 2, 3):
                store.begin_run(run_of(number))
                store.tags.set("main", f"startup-{number}")
                store.tags.set("main", f"startup-{number}")
            assert store.tags.current() == {"main": "startup-3"}
            assert store.tags.earlier("main") == ["startup-2", "startup-1"]
            store.tags.end("main")
            assert store.tags.current() == {}
            assert store.tags.earlier("main") == ["startup-3", "startup-2", "startup-1"]
            assert store.tags.ever_tagged() == {"startup-1", "startup-2", "startup-3"}
            with pytest.raises(InputError, match="no tag 'main'"):
                store.tags.end("main")

    @pytest.mark.parametrize("name", ["latest", "", "Main", "a b", "main\n", "x" * 64])
    def test_a_tag_is_a_label(self, place: Place, name: str) -> None:
        """What could not be told from something else is refused."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            with pytest.raises(InputError, match="cannot be a tag"):
                store.tags.set(name, RUN.id)

    def test_notes_belong_to_runs(self, place: Place) -> None:
        """They come back in the order of writing; an empty one is refused."""
        with Store.open(place) as store:
            store.begin_run(run_of(1))
            store.begin_run(run_of(2))
            store.tags.write_note("startup-1", "kernel was updated \\0\n")
            store.tags.write_note("startup-2", "quiet machine")
            store.tags.write_note("startup-1", "again")
            assert [note.text for note in store.tags.notes(["startup-1"])] == [
                "kernel was updated \\0",
                "again",
            ]
            with pytest.raises(InputError, match="between 1 and"):
                store.tags.write_note("startup-1", "  ")

    def test_tags_and_notes_are_taken_over(self, place: Place, tmp_path: Path) -> None:
        """Once, with their times; a tag that names another run here is left to it, one that ended stays."""
        with Store.open(tmp_path / "other.sqlite") as other, Store.open(place) as store:
            for each in (other, store):
                each.begin_run(run_of(1))
                each.begin_run(run_of(2))
            for name, run in (("main", "startup-1"), ("main", "startup-2"), ("good", "startup-2")):
                other.tags.set(name, run)
            other.tags.write_note("startup-1", "Größe \\0 ½")
            names = ("startup-1", "startup-2")
            told = [(other.tags.of_run(name), other.tags.notes([name])) for name in names]
            for tags, notes in told * 2:
                assert store.tags.take_over(tags, notes) == {}
            assert [store.tags.of_run(name) for name in names] == [tags for tags, _ in told]
            assert store.tags.notes(["startup-1"]) == told[0][1]
            assert store.tags.earlier("main") == ["startup-1"]
            store.tags.set("main", "startup-1")
            store.tags.end("good")
            assert store.tags.take_over(*told[1]) == {"main": "startup-1"}
            assert store.tags.current() == {"main": "startup-1"}
            with pytest.raises(InputError):
                store.tags.take_over([replace(told[0][0][0], run="unknown")], [])

    def test_runs_are_filtered(self, place: Place) -> None:
        """By scenario, host, branch, tag and time, and to the newest."""
        with Store.open(place) as store:
            for number in range(1, 7):
                fields = {"host.name": f"host{number % 2}", "source.branch": "main" if number < 4 else "next"}
                store.begin_run(run_of(number, **fields))
            store.begin_run(replace(run_of(7), scenario="density"))
            store.tags.set("good", "startup-2")

            def found(wanted: RunFilter) -> str:
                return "".join(run.id[-1] for run in store.runs(wanted))

            assert found(RunFilter()) == "1234567"
            assert found(RunFilter(scenario="density")) == "7"
            assert found(RunFilter(host="host1")) == "135"
            assert found(RunFilter(host="host1", branch="main")) == "13"
            assert found(RunFilter(tag="good")) == "2"
            assert (
                found(RunFilter(since="2025-11-03T22:00:00.000Z", until="2025-11-05T22:00:00.000Z")) == "34"
            )
            assert found(RunFilter(scenario="startup", newest=2)) == "56"
            assert found(RunFilter(host="no'body")) == ""

    def test_removed_runs_take_everything_with_them(self, place: Place) -> None:
        """Samples, tags and notes of a removed run are gone, those of others stay."""
        with Store.open(place) as store:
            for number in (1, 2):
                store.begin_run(run_of(number))
                store.add_samples(f"startup-{number}", [SAMPLE], Conditions(0, {"steal": 0.0}))
                store.tags.set(f"tag{number}", f"startup-{number}")
                store.tags.write_note(f"startup-{number}", "note")
            assert store.remove_runs(["startup-1", "unknown"]) == 1
            store.compact()
            assert [run.id for run in store.runs()] == ["startup-2"]
            assert store.sample_counts(["startup-1", "startup-2"]) == {"startup-2": 1}
            assert len(store.conditions("startup-2")) == 1
            assert store.tags.current() == {"tag2": "startup-2"}
            assert len(store.tags.notes(["startup-1", "startup-2"])) == 1

    def test_values_are_those_that_count(self, place: Place) -> None:
        """Warm-ups, failures and rejected ones are left out; cells are kept apart, also by parameters."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            samples = [SAMPLE, FAILED, replace(SAMPLE, warmup=True), replace(SAMPLE, value=2.0)]
            store.add_samples(
                RUN.id,
                [
                    *samples,
                    replace(SAMPLE, target="container"),
                    replace(SAMPLE, target="container", parameters={}),
                    replace(SAMPLE, status="rejected"),
                    replace(SAMPLE, metric="m"),
                ],
            )
            assert store.values([RUN.id, "unknown"], SAMPLE.metric) == {
                RUN.id: {
                    ("ready", "vm", "s", LABEL): [SAMPLE.value, 2.0],
                    ("ready", "container", "s", LABEL): [SAMPLE.value],
                    ("ready", "container", "s", ""): [SAMPLE.value],
                }
            }

    def test_the_rest_of_a_run_can_be_delivered(self, place: Place) -> None:
        """Delivering a run again adds only what was missing; another run of the same id is refused."""
        samples = [replace(SAMPLE, order=number) for number in range(5)]
        conditions = [Conditions(order, {"steal": order / 8}) for order in (1, 2, 3)]
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, samples[:2], conditions[0])
            done = replace(RUN, status="done", finished="2025-11-23T22:01:00.000Z")
            assert store.put_run(done, samples, conditions) == 3
            assert store.put_run(done, samples, conditions) == 0
            assert store.samples(RUN.id) == samples
            assert store.conditions(RUN.id) == conditions
            assert store.run(RUN.id) == done
            with pytest.raises(InputError, match="another run"):
                store.put_run(replace(done, definition="name: other\n"), samples)

    def test_a_whole_run_at_once_is_stored_as_its_steps_would_be(self, place: Place) -> None:
        """Thousands of samples of every kind come back in their order, and a second time is refused."""
        samples = [replace(each, order=order) for order in range(400) for each in (SAMPLE, FAILED)]
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, samples)
            assert store.samples(RUN.id) == samples
            with pytest.raises(PybenchError):
                store.add_samples("unknown", samples)
            assert store.samples(RUN.id) == samples

    def test_what_samples_have_in_common_is_stored_once(self, place: Place) -> None:
        """However often it comes back: in a step, later, after opening the record anew, and in a delivery."""
        samples = [replace(each, order=order) for order in range(4) for each in (SAMPLE, FAILED, SAMPLE)]
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, samples[:3])
            assert count_series(place) == 2
            store.add_samples(RUN.id, samples[3:6])
        with Store.open(place) as store:
            store.add_samples(RUN.id, samples[6:9])
            assert store.put_run(RUN, samples) == 3
            store.add_samples(RUN.id, [replace(SAMPLE, repetition=9)])
            assert store.samples(RUN.id) == [*samples, replace(SAMPLE, repetition=9)]
            assert count_series(place) == 2
            store.add_samples(RUN.id, [replace(SAMPLE, qualifiers={"accel": "kvm"})])
            assert count_series(place) == 3
            store.remove_runs([RUN.id])
            assert count_series(place) == 0
            store.put_run(RUN, samples)
            assert store.samples(RUN.id) == samples

    def test_a_step_that_was_not_stored_leaves_nothing(self, place: Place) -> None:
        """What it would have been the first to need is stored with the next step that needs it."""
        with Store.open(place) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, [SAMPLE], Conditions(17, {"steal": 0.0}))
            with pytest.raises(PybenchError):
                store.add_samples(RUN.id, [FAILED], Conditions(17, {"steal": 0.0}))
            assert count_series(place) == 1
            store.add_samples(RUN.id, [FAILED], Conditions(18, {"steal": 0.0}))
            assert store.samples(RUN.id) == [SAMPLE, FAILED]

    def test_samples_may_have_nothing_in_common(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A writer that cannot keep all of it in mind loses nothing."""
        monkeypatch.setattr(insertion, "MOST_KNOWN", 4)
        samples = [replace(SAMPLE, reason=f"{number % 10}") for number in range(60)]
        with Store.open(place) as store:
            store.begin_run(RUN)
            for first in range(0, 30, 3):
                store.add_samples(RUN.id, samples[first : first + 3])
            store.put_run(RUN, samples)
            assert store.samples(RUN.id) == samples
            assert store.values([RUN.id], SAMPLE.metric) == {
                RUN.id: {("ready", "vm", "s", LABEL): [SAMPLE.value] * 60}
            }

    @pytest.mark.parametrize("revision", ["0001", "0002"])
    def test_an_older_record_is_migrated(self, place: Place, revision: str) -> None:
        """Every sample of it is there afterwards, in its order, and it can be written to."""
        others = [replace(SAMPLE, target="container", order=order) for order in range(3)]
        samples = [SAMPLE, FAILED, others[0], replace(SAMPLE, value=2.0), *others, FAILED]
        if revision == "0001":
            samples = [replace(each, parameters={}, error=each.resolution) for each in samples]
        make_older_record(place, revision, samples)
        with Store.open(place, create=False) as store:
            assert store.run() == replace(RUN, status="failed")
            assert store.samples(RUN.id) == samples
            assert count_series(place) == 3
            store.add_samples(RUN.id, [*samples, SAMPLE])
            store.tags.set("main", RUN.id)
            assert store.samples("main") == [*samples, *samples, SAMPLE]
            assert store.put_run(replace(RUN, id="other"), samples) == len(samples)

    def test_two_processes_may_write_at_once(self, place: Place) -> None:
        """Two writers lose nothing, whatever the order in which they write, and both may make the tables."""
        command = [sys.executable, "-c", WRITER, str(place)]
        writers = [
            subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("one", "other")
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                announced = [next(writer.stdout, "") for _ in range(30)]
                assert announced == [f"{number}\n" for number in range(30)]
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        with Store.open(place) as store:
            for name in ("one", "other"):
                orders = [sample.order for sample in store.samples(name)]
                assert orders == [step for step in range(max(orders) + 1) for _ in range(3)]
                assert len(orders) >= 90

    def test_what_was_committed_survives_a_kill(self, place: Place) -> None:
        """Every announced step is complete, both before and after SIGKILL, and the run says so then."""
        command = [sys.executable, "-c", WRITER, str(place), "killed"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "0\n"
            with Store.open(place) as store:
                for line in writer.stdout:
                    orders = [sample.order for sample in store.samples("killed")]
                    assert orders == [step for step in range(max(orders) + 1) for _ in range(3)]
                    assert max(orders) >= int(line)
                    if int(line) >= 50:
                        break
            os.kill(writer.pid, signal.SIGKILL)
            announced = 50 + sum(1 for _ in writer.stdout)
        with Store.open(place) as store:
            orders = [sample.order for sample in store.samples("killed")]
            assert store.run("killed").status == "abandoned"
        steps = max(orders) + 1
        assert steps > announced
        assert orders == [step for step in range(steps) for _ in range(3)]

    def test_the_migrations_make_exactly_the_declared_tables(self, place: Place) -> None:
        """Alembic finds no difference between the migrated database and the tables that the code uses."""
        Store.open(place).close()
        engine = engine_of(place)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()
