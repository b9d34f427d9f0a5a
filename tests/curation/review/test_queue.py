"""Who sees which sample, and what an edit does to a sample."""

import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.curation.made import region, sample
from tests.curation.review.made_run import made_run
from virtue.curation.review.edits import edited, problems_of
from virtue.curation.review.outcomes import outcomes
from virtue.curation.review.queue import Queue
from virtue.curation.samples import Elements, Problem
from virtue.curation.store import Curation


@pytest.fixture
def curation(tmp_path):
    return made_run(tmp_path)


def test_a_share_is_seen_by_two_and_which_goes_by_id_and_seed(curation):
    names = [f"made/{number}" for number in range(2000)]
    queue = Queue(curation, share=0.25)
    twice = [name for name in names if queue.looks(name) == 2]
    assert 400 < len(twice) < 600
    assert twice == [name for name in names if Queue(curation, share=0.25).looks(name) == 2]
    assert twice != [name for name in names if Queue(curation, share=0.25, seed=1).looks(name) == 2]
    assert {Queue(curation, share=0).looks(name) for name in names} == {1}
    assert {Queue(curation, share=1).looks(name) for name in names} == {2}


def test_a_share_lies_between_0_and_1(curation):
    with pytest.raises(ValueError, match=r"between 0 and 1, not at 1\.5"):
        Queue(curation, share=1.5)


def test_two_reviewers_get_different_samples_until_there_are_none(curation):
    queue, order = Queue(curation, share=0), curation.sample_ids()
    assert queue.deal("Ann", 2) == order[:2]
    assert queue.deal("Ben", 2) == order[2:]
    assert queue.deal("Cid") == []
    assert queue.deal("Ann", 2) == order[:2]  # after a reload


def test_what_two_are_to_see_is_dealt_to_two_and_no_third(curation):
    queue, order = Queue(curation, share=1), curation.sample_ids()
    assert queue.deal("Ann", 4) == order
    curation.decide(order[0], "Ann", "accept")
    assert queue.deal("Ben", 4) == order
    assert queue.deal("Cid", 4) == []
    curation.decide(order[0], "Ben", "skip")  # a skip is no look
    assert queue.deal("Cid", 4) == order[:1]


def test_leases_run_out_and_can_be_held(curation):
    order = curation.sample_ids()
    assert Queue(curation, share=0, lease=-1).deal("Ann", 4) == order
    assert Queue(curation, share=0).deal("Ben", 4) == order
    Queue(curation, share=0, lease=-1).hold("Ben", order[:1])
    assert Queue(curation, share=0).deal("Cid", 4) == order[:1]


def test_what_was_skipped_waits_for_others_and_comes_back_when_asked_for(curation):
    queue, order = Queue(curation, share=0), curation.sample_ids()
    for name in (order[1], order[0]):
        curation.decide(name, "Ann", "skip")
    assert queue.deal("Ann", 4) == order[2:]
    assert queue.deal("Ann", 4, "skipped") == [order[1], order[0]]
    assert queue.deal("Ben", 2) == []  # Ann holds all of them
    curation.release("Ann")
    assert queue.deal("Ben", 2) == order[:2]


def test_disputed_samples_go_to_somebody_else_first(curation):
    queue, (one, two, *_) = Queue(curation, share=1), curation.sample_ids()
    curation.decide(one, "Ann", "accept")
    curation.decide(one, "Ben", "reject", reason="wording")
    curation.decide(two, "Ben", "accept")
    curation.decide(two, "Cid", "reject", reason="wording")
    assert queue.deal("Cid", 1, "disputed") == [one]
    assert queue.deal("Ann", 5, "disputed") == [two]  # the other one is Cid's for now
    curation.decide(one, "Cid", "accept")
    curation.release("Ann")
    assert queue.deal("Cid", 5, "disputed") == [two]
    assert queue.progress("Ann").disputed == 1


def test_progress_counts_samples_and_the_reviewer(curation):
    queue, order = Queue(curation, share=0), curation.sample_ids()
    assert queue.progress("Ann").per_hour is None
    curation.decide(order[0], "Ann", "accept")
    curation.decide(order[1], "Ann", "skip")
    undone = curation.decide(order[2], "Ann", "accept")
    curation.undo(undone.number)
    curation.decide(order[3], "Ben", "reject", reason="wording")
    progress = queue.progress("Ann")
    assert (progress.samples, progress.done, progress.left, progress.mine, progress.skipped) == (4, 2, 2, 1, 1)
    whole = Queue(curation, share=1).progress("Ann")
    assert (whole.done, whole.left) == (0, 4)


def test_the_rate_is_told_from_the_last_ten_minutes(curation):
    now, names = datetime.now(UTC), iter(curation.sample_ids())
    for minutes in (30, 4, 2, 0):  # three decisions in four minutes: two steps, 30 an hour
        made = (now - timedelta(minutes=minutes)).isoformat()
        curation.decide(next(names), "Ann", "accept", made=made)
    assert Queue(curation).progress("Ann").per_hour == pytest.approx(30)


def naive(curation, queue, reviewer, count):
    """What a deal gives, told from all samples and decisions."""
    leases, verdicts = curation.leases(), {}
    for own in curation.decisions():
        verdicts.setdefault(own.region_id, {})[own.reviewer] = own.verdict
    wanted = []
    for name in curation.sample_ids():
        own = verdicts.get(name, {})
        seen = {who for who, verdict in own.items() if verdict != "skip"}
        if reviewer not in own and len((seen | leases.get(name, set())) - {reviewer}) < queue.looks(name):
            wanted.append(name)
    return sorted(wanted, key=lambda name: reviewer not in leases.get(name, ()))[:count]


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_deal_and_its_counts_are_those_of_going_through_everything(tmp_path, share):
    curation, rng = made_run(tmp_path, 12), random.Random(share)
    queue = Queue(curation, share=share, lease=60)
    names = curation.sample_ids()
    for step in range(150):
        reviewer = rng.choice(("Ann", "Ben", "Cid"))
        expected = naive(curation, queue, reviewer, 2)
        dealt = queue.deal(reviewer, 2)
        assert dealt == expected
        action, made = rng.random(), curation.all_decisions()
        if action < 0.3 and made:
            curation.undo(rng.choice(made).number)
        elif action < 0.4:
            curation.release(reviewer)
        else:
            name = dealt[0] if dealt and action < 0.8 else rng.choice(names)
            verdict = rng.choice(("accept", "reject", "skip"))
            curation.decide(name, reviewer, verdict, reason="wording" if verdict == "reject" else "")
        if step % 10 == 0:
            found, others = outcomes(curation), [own for own in curation.decisions() if own.verdict != "skip"]
            seen = Counter(own.region_id for own in others)
            done = sum(seen[name] >= queue.looks(name) and found[name].state != "disputed" for name in seen)
            progress = queue.progress(reviewer)
            assert (progress.done, progress.left) == (done, len(names) - done)
            assert progress.mine == sum(own.reviewer == reviewer for own in others)
            skipped = [own for own in curation.decisions(reviewer=reviewer) if own.verdict == "skip"]
            assert progress.skipped == len(skipped)
            assert queue.standing.skips(reviewer) == [own.region_id for own in skipped]


def test_a_deal_reads_what_changed_and_nothing_else(curation, monkeypatch):
    queue, order = Queue(curation, share=0), curation.sample_ids()
    curation.decide(order[3], "Ben", "accept")
    assert queue.deal("Ann") == order[:1]
    read = []
    whole, all_decisions = curation.sample_ids, curation.all_decisions
    monkeypatch.setattr(curation, "sample_ids", lambda: read.append("all samples") or whole())
    monkeypatch.setattr(
        curation, "all_decisions", lambda name=None, **by: read.append(name) or all_decisions(name, **by)
    )
    for place in range(3):
        curation.decide(order[place], "Ann", "accept")
        queue.deal("Ann")
        queue.progress("Ann")
    assert read == order[:3]


def test_samples_that_a_build_adds_are_dealt(curation):
    queue, order = Queue(curation, share=0), curation.sample_ids()
    assert queue.deal("Ann", 9) == order
    added = region(77)
    curation.add_regions([added])
    curation.put_sample(sample(added))
    assert sorted(queue.deal("Ann", 9)) == sorted([*order, added.id])
    assert queue.progress("Ann").samples == len(order) + 1


def test_the_last_decisions_of_a_reviewer_are_the_end_of_all(curation):
    order = curation.sample_ids()
    for name in (order[0], order[1], order[0], order[2]):
        curation.decide(name, "Ann", "accept")
    curation.decide(order[3], "Ben", "accept")
    curation.undo(curation.decide(order[3], "Ann", "accept").number)
    counted = curation.decisions(reviewer="Ann")
    assert [own.region_id for own in counted] == [order[1], order[0], order[2]]
    assert [curation.last_decisions("Ann", count) for count in (1, 2, 9)] == [counted[-1:], counted[-2:], counted]


def test_no_two_of_many_at_once_get_the_same_sample(tmp_path):
    made = made_run(tmp_path, 40)
    decided: list[str] = []

    def review(reviewer: str) -> None:
        own = Curation(made.folder)  # a connection of its own, as another process has
        queue = Queue(own, share=0)
        while dealt := queue.deal(reviewer):
            own.decide(dealt[0], reviewer, "accept")
            decided.append(dealt[0])
        own.close()

    threads = [threading.Thread(target=review, args=(name,)) for name in ("Ann", "Ben", "Cid", "Dot")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(decided) == Counter(made.sample_ids())


def test_an_edit_brings_its_elements_along():
    old = sample(region(1))
    assert old.captions[0] == "dog left of a fence on a beach"
    captions = list(old.captions)
    captions[0] = "small dog right of a fence on the beach"
    captions[1] = "black cat left of a fence on a beach"
    new = edited(old, captions)
    assert new.elements == Elements("small dog", "right of a fence", "on the beach")
    assert new.distractors[0].elements == Elements("black cat", "left of a fence", "on a beach")
    assert new.distractors[1:] == old.distractors[1:]
    assert new.region == old.region


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("dog left of a fence", Elements("dog", "left of a fence", "")),
        ("dog left of a low fence on a beach", Elements("dog", "left of a low fence", "on a beach")),
        ("cat left of a fence on a beach", Elements("cat", "left of a fence", "on a beach")),
        ("dog left of a fence on a beach at night", Elements("dog", "left of a fence", "on a beach at night")),
        ("Dog left of a fence on a beach.", Elements("Dog", "left of a fence", "on a beach.")),
    ],
)
def test_words_go_to_the_element_that_they_stand_in(text, elements):
    old = sample(region(1))
    assert edited(old, [text, *old.captions[1:]]).elements == elements


def test_an_edit_is_checked():
    old = sample(region(1))
    captions = old.captions
    assert problems_of(old, captions) == []
    broken = [captions[0], " ", captions[0].upper(), "x" * 301, *captions[4:]]
    assert [(problem.check, problem.where) for problem in problems_of(old, broken)] == [
        ("empty", 0),
        ("duplicate", 1),
        ("length", 2),
    ]
    found = Problem("likeness", "A cat is a dog.", 0)
    assert problems_of(old, captions, lambda new: [found] if new == old else []) == [found]


def test_an_edit_has_as_many_captions():
    with pytest.raises(ValueError, match="The sample has 10 captions, the edit 1"):
        edited(sample(region(1)), ["one"])
