"""Decisions about captions that a build wrote anew since they were shown."""

import pytest

from tests.curation.review.made_run import made_run, written_anew
from tests.curation.review.test_app import Page


@pytest.fixture
def page(tmp_path):
    return Page(made_run(tmp_path))


def test_a_decision_about_captions_that_were_written_anew_is_refused(page):
    region = page.curation.sample_ids()[0]
    shown = page.get("/api/item", region=region, reviewer="Ann").json()
    written_anew(page.curation, region)
    for verdict in ("accept", "reject", "skip", "edit"):
        more = {"reason": "wording", "captions": [caption["text"] for caption in shown["captions"]]}
        answer = page.decide(region, "Ann", verdict, digest=shown["digest"], **more)
        assert (answer.status_code, answer.json()["rewritten"]) == (409, True)
        assert answer.json()["detail"].startswith("This sample was written anew since its captions were shown")
    assert page.curation.all_decisions() == []
    now = page.get("/api/item", region=region, reviewer="Ann").json()["digest"]
    assert page.decide(region, "Ann", "accept", digest=now).status_code == 200


def test_a_sample_that_is_written_anew_while_a_decision_is_kept_is_seen_too(page, monkeypatch):
    region = page.curation.sample_ids()[0]
    shown = page.get("/api/item", region=region, reviewer="Ann").json()["digest"]
    begin = page.curation.transaction

    def late(**options):
        monkeypatch.undo()
        written_anew(page.curation, region)
        return begin(**options)

    monkeypatch.setattr(page.curation, "transaction", late)
    assert page.decide(region, "Ann", "accept", digest=shown).status_code == 409
    assert page.curation.all_decisions() == []


def test_a_decision_that_was_kept_before_is_not_refused_when_it_is_sent_again(page):
    region = page.curation.sample_ids()[0]
    shown = page.get("/api/item", region=region, reviewer="Ann").json()["digest"]
    key = "one-and-the-same-key"
    kept = page.decide(region, "Ann", "accept", key=key, digest=shown).json()["decision"]
    page.curation.undo(kept["number"])
    page.curation.release("Ann")
    written_anew(page.curation, region)
    again = page.decide(region, "Ann", "accept", key=key, digest=shown)
    assert (again.status_code, again.json()["decision"]["number"]) == (200, kept["number"])


def test_a_page_of_before_sends_no_digest_and_is_taken(page):
    region = page.curation.sample_ids()[0]
    written_anew(page.curation, region)
    assert page.decide(region, "Ann", "accept").status_code == 200
