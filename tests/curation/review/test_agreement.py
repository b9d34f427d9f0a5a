"""Outcomes of decisions, and Cohen's kappa worked out by hand."""

import math

import pytest

from tests.curation.review.made_run import decision
from virtue.curation.review.agreement import agreement_of, cohens_kappa, pooled
from virtue.curation.review.outcomes import disputed, outcome, outcomes_of
from virtue.curation.review.reasons import REASONS, counted_as, written

A, R = "accept", "reject"
WORDS = tuple(f"caption {number}" for number in range(10))


def test_kappa_is_the_textbook_value():
    # 50 proposals: both yes 20, only the first yes 5, only the second yes 10, both no 15.
    # p = 35 / 50 = 0.7; e = (25 * 30 + 25 * 20) / 2500 = 0.5; kappa = 0.2 / 0.5 = 0.4.
    first = [A] * 25 + [R] * 25
    second = [A] * 20 + [R] * 5 + [A] * 10 + [R] * 15
    kappa = cohens_kappa(first, second)
    assert (kappa.samples, kappa.note) == (50, "")
    assert kappa.observed == pytest.approx(0.7)
    assert kappa.expected == pytest.approx(0.5)
    assert kappa.value == pytest.approx(0.4)


def test_kappa_is_one_for_equal_and_minus_one_for_opposite_words():
    assert cohens_kappa([A, R], [A, R]).value == pytest.approx(1)
    assert cohens_kappa([A, R], [R, A]).value == pytest.approx(-1)


def test_kappa_that_is_undefined_says_why():
    nobody, always = cohens_kappa([], []), cohens_kappa([A] * 3, [A] * 3)
    assert math.isnan(nobody.value) and "No sample was seen by two reviewers" in nobody.note
    assert math.isnan(always.value) and always.observed == 1
    assert "said the same of all 3 samples and nothing else" in always.note


def test_kappa_needs_the_same_samples():
    with pytest.raises(ValueError, match="One reviewer saw 1 samples, the other 2"):
        cohens_kappa([A], [A, R])


def test_pairs_are_pooled_by_their_samples():
    # p = (2 * 1 + 4 * 0.5) / 6 = 2 / 3, e = 0.5: kappa = 1 / 3. A pair without samples weighs nothing.
    pairs = [cohens_kappa([A, R], [A, R]), cohens_kappa([A, A, R, R], [A, R, A, R]), cohens_kappa([], [])]
    assert pooled(pairs).value == pytest.approx(1 / 3)
    assert math.isnan(pooled([]).value)


def test_nobody_one_or_two_who_agree_settle_a_sample():
    assert outcome([]).state == "open"
    assert outcome([decision(1, "s", "Ann", "skip")]).state == "open"
    assert outcome([decision(1, "s", "Ann", A)]).state == "kept"
    assert outcome([decision(1, "s", "Ann", R), decision(2, "s", "Ben", R)]).state == "rejected"
    edits = [decision(1, "s", "Ann", "edit", captions=WORDS), decision(2, "s", "Ben", "edit", captions=WORDS)]
    assert (outcome(edits).state, outcome(edits).captions) == ("kept", WORDS)


@pytest.mark.parametrize(
    "second",
    [decision(2, "s", "Ben", R), decision(2, "s", "Ben", "edit", captions=WORDS)],
)
def test_two_who_differ_dispute_and_the_next_look_settles_it(second):
    first = decision(1, "s", "Ann", A)
    assert outcome([first, second]).state == "disputed"
    third = decision(3, "s", "Cid", R)
    settled = outcome([first, second, third])
    assert (settled.state, settled.final) == ("rejected", third)
    assert settled.independent == (first, second)
    assert outcome([first, second, third, decision(4, "s", "Dot", A)]).state == "kept"


def test_what_was_taken_back_counts_no_more():
    first, second = decision(1, "s", "Ann", A), decision(2, "s", "Ben", R, undone=True)
    assert outcome([first, second]).state == "kept"


def test_a_change_of_mind_takes_the_place_of_what_was_said():
    assert outcome([decision(1, "s", "Ann", A), decision(2, "s", "Ann", R)]).state == "rejected"


def test_disputed_samples_come_in_the_order_of_their_waiting():
    decisions = [
        decision(1, "late", "Ann", A),
        decision(2, "early", "Ann", A),
        decision(3, "early", "Ben", R),
        decision(4, "late", "Ben", R),
        decision(5, "fine", "Ben", R),
    ]
    assert disputed(outcomes_of(decisions)) == ["early", "late"]


def test_agreement_of_a_review_by_hand():
    # Both saw s1 to s4: Ann keeps, keeps, rejects, rejects; Ben keeps, rejects, rejects, rejects.
    # p = 3 / 4; e = (2 * 1 + 2 * 3) / 16 = 1 / 2; kappa = 1 / 2. Cid's third look is no part of it.
    decisions = [
        decision(1, "s1", "Ann", "edit", captions=WORDS),
        decision(2, "s2", "Ann", A),
        decision(3, "s3", "Ann", R, reason="wording"),
        decision(4, "s4", "Ann", R, reason="ambiguous"),
        decision(5, "s1", "Ben", "edit", captions=WORDS),
        decision(6, "s2", "Ben", R, reason="other: too dark"),
        decision(7, "s3", "Ben", R, reason="wording"),
        decision(8, "s4", "Ben", R, reason="wording"),
        decision(9, "s2", "Cid", A),
        decision(10, "s5", "Cid", "skip"),
        decision(11, "s6", "Cid", R, reason="offensive", undone=True),
    ]
    found = agreement_of(decisions)
    assert found.kappa.value == pytest.approx(0.5)
    assert found.pairs[("Ann", "Ben")].samples == 4
    assert list(found.pairs) == [("Ann", "Ben")]
    assert found.reasons == {"wording": 3, "ambiguous": 1, "other": 1}
    assert found.reviewers == {
        "Ann": {"edit": 1, A: 1, R: 2},
        "Ben": {"edit": 1, R: 3},
        "Cid": {A: 1, "skip": 1},
    }
    assert found.states == {"kept": 2, "rejected": 2, "open": 2}
    assert found.disputed == []


def test_reasons_are_counted_by_their_name():
    assert written("wording") == "wording"
    assert written("other", " too \n dark ") == "other: too dark"
    assert counted_as("other: too dark") == "other"
    assert counted_as("wording: twice") == "wording"
    assert counted_as("something else") == "other"
    assert len(REASONS) == 7


@pytest.mark.parametrize(
    ("reason", "message"),
    [("ugly", "A reason is one of not true, ambiguous"), ("other", "needs words of your own")],
)
def test_reasons_that_say_nothing_are_refused(reason, message):
    with pytest.raises(ValueError, match=message):
        written(reason, "  ")
