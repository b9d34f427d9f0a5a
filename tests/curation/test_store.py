import multiprocessing
import os
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.curation.made import region, sample
from virtue.curation.database import FILE
from virtue.curation.samples import Problem
from virtue.curation.store import Curation


@pytest.fixture
def run(tmp_path: Path):
    curation = Curation(tmp_path / "run", make=True)
    yield curation
    curation.close()


def test_a_run_is_begun_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run in .*`virtue curate build --to DIR` begins one"):
        Curation(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    Curation(tmp_path / "run", make=True).close()
    Curation(tmp_path / "run").close()


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database, however long it may be")
    with pytest.raises(ValueError, match="cannot be used as a run of the curation"):
        Curation(tmp_path)
    with pytest.raises(ValueError, match="is a file; a run is kept in a folder"):
        Curation(tmp_path / FILE, make=True)


def test_another_format_is_refused(tmp_path: Path) -> None:
    Curation(tmp_path, make=True).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ValueError, match="has format 99, this version reads format 2"):
        Curation(tmp_path)


def test_settings_are_fixed_by_the_first_call(run: Curation) -> None:
    run.settle({"seed": 0, "writer": "rules"})
    run.settle({"seed": 0, "design": "single"})
    assert run.settings == {"seed": 0, "writer": "rules", "design": "single"}
    with pytest.raises(ValueError, match="was begun with writer rules, not gpt: give the same, or another folder"):
        run.settle({"attempts": 3, "writer": "gpt"})
    assert "attempts" not in run.settings


def test_some_settings_may_change_until_a_region_was_worked_on(run: Curation) -> None:
    run.add_regions([region(1)])
    run.settle({"writer": "gtp"}, until="worked")
    run.settle({"writer": "gpt"}, until="worked")
    assert run.settings == {"writer": "gpt"}
    run.drop("made/1", "test", "")
    with pytest.raises(ValueError, match="was begun with writer gpt, not gtp"):
        run.settle({"writer": "gtp"}, until="worked")


def test_notes_may_change(run: Curation) -> None:
    assert run.noted("seconds", 0) == 0
    run.note("seconds", 5)
    run.note("seconds", [7])
    assert run.noted("seconds") == [7]


def test_images_are_found_by_source(run: Curation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not know where the images of made are"):
        run.image(region(1))
    run.set_images({"made": tmp_path / "a"})
    run.set_images({"other": tmp_path / "b"})
    assert run.image(region(1)) == tmp_path / "a" / "1.png"


def test_regions_keep_one_order_and_are_added_once(tmp_path: Path) -> None:
    orders = []
    for number, order in enumerate([range(1200), reversed(range(1200))]):
        with Curation(tmp_path / str(number), make=True) as run:
            assert run.add_regions(region(i) for i in order) == 1200
            assert run.add_regions([region(3), region(1200)]) == 1
            orders.append([found.id for found in run.regions()])
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 1201
    assert orders[0] != sorted(orders[0])


def test_a_region_comes_back_as_it_was(run: Curation) -> None:
    whole = region(1, caption="a dog", segmentation={"size": [48, 64], "counts": "abc"}, scene=("beach",))
    run.add_regions([whole])
    assert list(run.regions()) == [whole]
    assert run.region("made/1") == whole
    with pytest.raises(KeyError):
        run.region("made/2")


def test_a_region_is_written_or_dropped_once(run: Curation) -> None:
    run.add_regions(map(region, range(3)))
    first = sample(region(0))
    run.put_sample(first)
    run.put_sample(sample(region(0), attempts=2))
    run.drop("made/0", "pick", "too late")
    run.drop("made/1", "synonym", "sofa is a couch")
    run.put_sample(sample(region(1)))
    assert list(run.samples()) == [first]
    assert run.sample("made/0") == first
    assert run.sample_ids() == ["made/0"]
    assert run.drops() == [("made/1", "synonym", "sofa is a couch")]
    assert run.states() == {"made": Counter(written=1, dropped=1, new=1)}
    assert [left.id for left in run.regions("new")] == ["made/2"]
    with pytest.raises(KeyError):
        run.sample("made/1")


def test_problems_are_counted_once_for_an_attempt(run: Curation) -> None:
    run.add_regions(map(region, range(2)))
    twice = [Problem("synonym", "first", 0), Problem("synonym", "second", 1)]
    run.put_sample(sample(region(0)), [twice, [Problem("length", "long")]])
    run.drop("made/1", "synonym", "given up", [twice])
    assert run.problems() == Counter(synonym=2, length=1)


def test_regions_may_be_written_while_they_are_read(run: Curation) -> None:
    run.add_regions(map(region, range(700)))
    seen = []
    for found in run.regions("new"):
        seen.append(found.id)
        run.drop(found.id, "test", "")
    assert len(seen) == len(set(seen)) == 700


def test_an_answer_is_bought_once(run: Curation) -> None:
    assert run.answer("key") is None
    run.put_answer("key", "first", {"tokens_in": 10, "money": 0.5})
    run.put_answer("key", "second", {"tokens_in": 99})
    run.put_answer("other", "", {"tokens_in": 1})
    assert run.answer("key") == "first"
    assert run.totals() == {"money": 0.5, "tokens_in": 11}


def test_batches_are_under_way_or_done(run: Curation) -> None:
    run.put_batch("b1", {"file": "f"})
    run.put_batch("b2", {})
    run.put_batch("b1", {"file": "f"}, done=True)
    assert run.batches() == {"b2": {}}
    assert run.batches(done=True) == {"b1": {"file": "f"}}


def test_counting_a_source_again_counts_once(run: Curation) -> None:
    for _ in range(2):
        run.count("source COCO", {"crowd": 3, "tiny": 7})
    run.count("source VG", {"tiny": 1})
    assert run.counts() == {"source COCO": Counter(tiny=7, crowd=3), "source VG": Counter(tiny=1)}


def test_the_last_decision_counts_until_it_is_taken_back(run: Curation) -> None:
    run.add_regions([region(1)])
    run.put_sample(sample(region(1)))
    first = run.decide("made/1", "ann", "accept")
    second = run.decide("made/1", "ann", "reject", reason="not true")
    other = run.decide("made/1", "bob", "edit", captions=["a", "b"])
    assert run.decisions("made/1") == [second, other]
    assert run.decisions(reviewer="bob")[0].captions == ("a", "b")
    assert run.undo(second.number).undone
    assert run.undo(second.number).undone
    assert run.decisions() == [first, other]
    assert [decision.undone for decision in run.all_decisions()] == [False, True, False]
    with pytest.raises(ValueError, match="no decision 9"):
        run.undo(9)


def test_a_decision_that_is_sent_twice_is_kept_once(run: Curation) -> None:
    run.add_regions([region(1)])
    run.put_sample(sample(region(1)))
    assert run.decide("made/1", "ann", "accept", key="k") == run.decide("made/1", "ann", "accept", key="k")
    assert len(run.all_decisions()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("made/2", "ann", "accept"), "There is no sample 'made/2'"),
        (("made/1", " ", "accept"), "needs the name of the person"),
        (("made/1", "ann", "maybe"), "one of accept, reject, edit, skip, not 'maybe'"),
        (("made/1", "ann", "edit"), "comes with the captions"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(run: Curation, values: tuple[str, ...], message: str) -> None:
    run.add_regions([region(1), region(2)])
    run.put_sample(sample(region(1)))
    with pytest.raises(ValueError, match=message):
        run.decide(*values)  # type: ignore[arg-type]


def test_a_lease_ends_by_time_release_or_decision(run: Curation) -> None:
    run.add_regions([region(1), region(2)])
    run.put_sample(sample(region(1)))
    run.lease("made/1", "ann", 60)
    run.lease("made/1", "bob", 60)
    run.lease("made/2", "ann", -1)
    assert run.leases() == {"made/1": {"ann", "bob"}}
    run.decide("made/1", "ann", "accept")
    assert run.leases() == {"made/1": {"bob"}}
    run.release("bob")
    assert run.leases() == {}


def test_threads_and_processes_share_a_run(tmp_path: Path) -> None:
    def add(curation: Curation, name: str) -> None:
        for number in range(20):
            curation.put_answer(f"{name}{number}", name, {"requests": 1})

    with Curation(tmp_path, make=True) as one, Curation(tmp_path) as two:
        threads = [threading.Thread(target=add, args=(one, "a")), threading.Thread(target=add, args=(one, "b"))]
        threads.append(threading.Thread(target=add, args=(two, "c")))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.totals() == two.totals() == {"requests": 60}


def _die_within_a_change(folder: Path) -> None:
    run = Curation(folder)
    run.put_answer("whole", "kept", {"money": 1})
    with run.transaction() as connection:
        connection.execute("INSERT INTO answers VALUES ('half', 'lost')")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_all_of_a_change_or_nothing(tmp_path: Path) -> None:
    with Curation(tmp_path, make=True) as run:
        process = multiprocessing.get_context("spawn").Process(target=_die_within_a_change, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert (run.answer("whole"), run.answer("half"), run.totals()) == ("kept", None, {"money": 1})
        run.put_answer("half", "now")


def test_an_error_within_a_change_keeps_nothing(run: Curation) -> None:
    with pytest.raises(RuntimeError), run.transaction():
        run.note("a", 1)
        raise RuntimeError
    assert run.noted("a") is None


def test_settings_that_choose_regions_may_change_until_there_are_some(run: Curation) -> None:
    run.settle({"seed": 0, "per_image": None}, until="read")
    run.settle({"seed": 1, "per_image": 2}, until="read")
    run.add_regions([region(1)])
    with pytest.raises(ValueError, match="was begun with per_image 2, not none"):
        run.settle({"per_image": None}, until="read")
    run.record({"limit of made": 5})
    run.record({"limit of made": 7})
    assert run.settings == {"seed": 1, "per_image": 2, "limit of made": 7}


def test_money_is_counted_once_the_prices_are_known(run: Curation) -> None:
    run.put_answer("a", "", {"tokens_in": 3000, "unpriced_in": 3000, "unpriced_out": 500})
    run.put_answer("b", "", {"tokens_in": 1000, "money": 0.5})
    assert run.price(2, 8) == pytest.approx(0.01)
    assert run.totals() == {"tokens_in": 4000, "money": pytest.approx(0.51)}
    assert run.price(2, 8) == 0


def test_decisions_are_found_by_indexes(run: Curation) -> None:
    plans = [
        str(run.rows(f"EXPLAIN QUERY PLAN SELECT * FROM decisions WHERE {condition} ORDER BY number"))
        for condition in ("reviewer = 'ann'", "region_id = 'a'", "region_id = 'a' AND reviewer = 'ann'", "undone = 1")
    ]
    indexes = ("decisions_reviewer", "decisions_region", "decisions_region", "decisions_undone")
    assert all(name in plan for name, plan in zip(indexes, plans, strict=True))


def test_a_file_of_the_first_format_gets_what_it_lacks(tmp_path: Path) -> None:
    with Curation(tmp_path, make=True) as run:
        run.add_regions([region(0)])
    with sqlite3.connect(tmp_path / FILE) as connection:
        for what in ("INDEX decisions_reviewer", "INDEX decisions_undone", "TABLE tries", "TABLE rewrites"):
            connection.execute(f"DROP {what}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with Curation(tmp_path) as run:
        assert (run.tries("made/0"), run.rewrites(), len(list(run.regions()))) == (0, [], 1)


@contextmanager
def read_only(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder of files that this process may read and not write, also where it is root's."""
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    user = os.geteuid()
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o444)
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        yield folder
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def files_of(run: Curation) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.folder.iterdir()}


def test_a_run_that_may_not_be_written_to_is_read(run: Curation) -> None:
    run.add_regions([region(1)])
    run.put_sample(sample(region(1)))
    with_log = files_of(run)
    assert with_log[f"{FILE}-wal"]
    run.close()
    for files in (with_log, files_of(run)):
        with read_only(files) as folder, Curation(folder) as found:
            assert found.is_readonly and found.sample("made/1") == sample(region(1))
            with pytest.raises(ValueError, match="may be read here and not written to: change its permissions, or "):
                found.decide("made/1", "ann", "accept")
            with pytest.raises(ValueError, match="may be read here and not written to"):
                Curation(folder, make=True)
            assert {file.name: file.read_bytes() for file in folder.iterdir()} == files


def test_a_run_that_cannot_even_be_read_says_why(run: Curation) -> None:
    run.add_regions([region(1)])
    files = {name: data for name, data in files_of(run).items() if not name.endswith("-shm")}
    with read_only(files) as folder, pytest.raises(ValueError, match="was not closed where it was written last, so it"):
        Curation(folder)
    with (
        read_only({FILE: b"this is no database, however long it may be"}) as folder,
        pytest.raises(ValueError, match="cannot be used as a run of the curation: file is not a database"),
    ):
        Curation(folder)


def test_a_durable_change_is_no_part_of_one_that_is_not(run: Curation) -> None:
    with pytest.raises(RuntimeError, match="make that one durable"), run.transaction():
        run.put_answer("key", "answer")
    assert run.answer("key") is None
    with run.transaction(durable=True):
        run.put_answer("key", "answer")
    assert run.answer("key") == "answer"


def test_a_change_that_cannot_be_kept_is_not_half_open(run: Curation) -> None:
    run.rows("PRAGMA max_page_count = 1")  # a full disk: SQLite takes no less than it has
    with pytest.raises(sqlite3.OperationalError, match="full"), run.transaction():
        run.note("long", "x" * 10_000_000)
    run.rows("PRAGMA max_page_count = 1000000")
    run.note("short", 1)
    run.close()
    with Curation(run.folder) as again:
        assert (again.noted("long"), again.noted("short")) == (None, 1)


def test_llms_are_counted_by_the_names_that_the_endpoint_gave(run: Curation) -> None:
    for number, answer in enumerate(
        ('{"model": "m-2"}', '{"model": "m-2"}', '{"model": "m-1"}', '{"model": ""}', "text")
    ):
        run.put_answer(str(number), answer)
    assert run.models() == {"m-2": 2, "m-1": 1}
