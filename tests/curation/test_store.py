import multiprocessing
import os
import signal
import sqlite3
import threading
from collections import Counter
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
    with pytest.raises(ValueError, match="has format 99, this version reads format 1"):
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
    run.settle({"writer": "gtp"}, once_begun=True)
    run.settle({"writer": "gpt"}, once_begun=True)
    assert run.settings == {"writer": "gpt"}
    run.drop("made/1", "test", "")
    with pytest.raises(ValueError, match="was begun with writer gpt, not gtp"):
        run.settle({"writer": "gtp"}, once_begun=True)


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


def test_what_was_dropped_for_a_reason_that_passed_is_new_again(run: Curation) -> None:
    run.add_regions([region(number) for number in range(3)])
    run.drop("made/0", "missing image", "It is gone.", [[Problem("synonym", "It is one.")]])
    run.drop("made/1", "synonym", "It is one.", [[Problem("synonym", "It is one.")]])
    assert run.reopen("missing image") == 1
    assert run.states() == {"made": {"new": 2, "dropped": 1}}
    assert [name for name, *_ in run.drops()] == ["made/1"] and run.problems() == {"synonym": 1}
    assert run.reopen("missing image") == 0


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
