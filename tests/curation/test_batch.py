import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.curation.llm_server import Faults, LlmServer
from tests.curation.test_client import many, question
from virtue.curation.batch import TYPICAL, BatchClient
from virtue.curation.budget import Budget, BudgetError, Prices
from virtue.curation.client import LlmError
from virtue.curation.llm_settings import BatchSettings, Settings
from virtue.curation.llm_writer import ElementsForm
from virtue.curation.picture import Picture
from virtue.curation.samples import Region
from virtue.curation.store import Curation
from virtue.curation.writers import WriterRefusal
from virtue.images import ImageError
from virtue.prompts import Box

T = TypeVar("T")
QUICK = BatchSettings(gather=0.2, poll=0.02)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Curation(tmp_path / "run", make=True)
    yield run
    run.close()


def batched(
    server: LlmServer,
    run: Curation,
    work: Callable[[BatchClient], Coroutine[Any, Any, T]],
    *,
    batches: BatchSettings = QUICK,
    budget: Budget | None = None,
    **settings: Any,
) -> T:
    """What some work with a batch client comes to."""

    async def main() -> T:
        given = Settings(first_wait=0.01, **settings)
        address = server.url
        async with BatchClient("tiny", run, base_url=address, budget=budget, settings=given, batches=batches) as client:
            return await work(client)

    return asyncio.run(main())


def until_begun(run: Curation, count: int) -> Callable[[BatchClient], Coroutine[Any, Any, None]]:
    """Asks, and goes away when the batch is under way."""

    async def work(client: BatchClient) -> None:
        task = asyncio.create_task(many(count)(client))
        while not any("id" in note for note in run.batches().values()):
            await asyncio.sleep(0.005)
        task.cancel()

    return work


def test_questions_share_a_batch_at_half_the_price(run: Curation) -> None:
    with LlmServer(batch_polls=3) as server:
        budget = Budget(run, prices=Prices(1.0, 10.0))
        forms = batched(server, run, many(5), budget=budget)
        assert batched(server, run, many(5)) == forms
    assert [form.object for form in forms if isinstance(form, ElementsForm)] == [f"dog {n}" for n in range(5)]
    assert (len(server.state.batches), len(server.state.bodies)) == (1, 0)
    totals = run.totals()
    assert totals["answers"] == totals["answers_in_batches"] == 5
    assert totals["money"] == pytest.approx((totals["tokens_in"] + 10 * totals["tokens_out"]) / 2e6)
    (note,) = run.batches(done=True).values()
    assert note == {
        "requests": 5, "model": "tiny", "address": server.url, "id": "batch_0", "status": "completed",
        "estimate": [question().estimate(2000).tokens_in, 2000],
    }  # fmt: skip
    assert not run.batches()


def test_keys_are_those_of_single_requests(run: Curation) -> None:
    with LlmServer() as server:
        batched(server, run, many(3))
    settings = Settings()
    assert set(server.state.bought) == {question(number).key("tiny", settings.sampling) for number in range(3)}
    line = json.loads(server.state.files["file-0"].splitlines()[0])
    assert (line["method"], line["url"], line["body"]["max_tokens"]) == ("POST", "/v1/chat/completions", 2000)


def test_files_are_kept_small(run: Curation) -> None:
    with LlmServer() as server:
        batched(server, run, many(7), batches=BatchSettings(gather=0.2, poll=0.02, max_requests=3))
        assert [note["requests"] for note in run.batches(done=True).values()].count(3) == 2
        size = 2 * len(server.state.files["file-0"].splitlines()[0])
        batched(server, run, many(11), batches=BatchSettings(gather=0.2, poll=0.02, max_bytes=size + 10))
    assert sorted(note["requests"] for note in run.batches(done=True).values()) == [1, 2, 2, 3, 3]
    assert set(server.state.bought.values()) == {1}


def test_a_run_that_stopped_finds_its_batch_again(run: Curation) -> None:
    with LlmServer(batch_polls=10**9) as server:
        batched(server, run, until_begun(run, 4))
        (name,) = run.batches()
        assert run.batches()[name]["id"] == "batch_0"
        server.state.batch_polls = 1
        forms = batched(server, run, many(6))
        assert all(isinstance(form, ElementsForm) for form in forms)
    assert len(server.state.batches) == 2  # the second is of the two that were new
    assert set(server.state.bought.values()) == {1}
    assert run.totals()["answers"] == 6


def test_a_run_that_was_killed_before_the_id_was_kept_finds_its_batch_by_name(run: Curation) -> None:
    with LlmServer(batch_polls=10**9) as server:
        batched(server, run, until_begun(run, 4))
        (name,) = run.batches()
        run.put_batch(name, {"requests": 4, "model": "tiny"})
        run.put_batch("never", {"requests": 4, "model": "tiny"})
        run.put_batch("elsewhere", {"requests": 4, "id": "batch_7", "address": "http://127.0.0.1:1/v1"})
        server.state.batch_polls = 1
        batched(server, run, many(4))
    assert run.batches(done=True)["never"]["status"] == "never begun"
    assert list(run.batches()) == ["elsewhere"]
    assert len(server.state.batches) == 1 and set(server.state.bought.values()) == {1}


def test_a_batch_is_found_by_name_behind_a_hundred_newer_ones(run: Curation) -> None:
    with LlmServer(batch_polls=10**9) as server:
        batched(server, run, until_begun(run, 4))
        (name,) = run.batches()
        run.put_batch(name, {"requests": 4, "model": "tiny"})
        others = {f"other_{number}": server.state.batches["batch_0"] | {"id": f"other_{number}", "metadata": None}
                  for number in range(230)}  # fmt: skip
        server.state.batches |= others
        server.state.batch_polls = 1
        batched(server, run, many(4))
    assert set(server.state.bought.values()) == {1}


def test_a_batch_that_the_endpoint_no_longer_has_does_not_stop_the_run(run: Curation) -> None:
    with LlmServer() as server:
        run.put_batch("old", {"requests": 4, "id": "batch_77", "address": server.url})
        assert all(isinstance(form, ElementsForm) for form in batched(server, run, many(3)))
    assert run.batches(done=True)["old"]["status"] == "gone" and run.batches() == {}


def test_answers_that_do_not_say_what_they_took_are_estimated(run: Curation) -> None:
    expected = question(0).estimate(2000)
    with LlmServer(silent=True, batch_polls=10**9) as server:
        batched(server, run, until_begun(run, 4))
        server.state.batch_polls = 1
        batched(server, run, many(4))  # of a batch that an earlier command began
    totals = run.totals()
    assert (totals["answers"], totals["answers_estimated"]) == (4, 4)
    assert (totals["tokens_in"], totals["tokens_out"]) == (4 * expected.tokens_in, 4 * expected.tokens_out)
    with LlmServer(silent=True) as server:
        server.state.files["file-0"] = json.dumps({
            "custom_id": "another", "response": {"status_code": 200, "body": {"choices": [{"message": {}}]}}
        }).encode()  # fmt: skip
        note = {"id": "b", "object": "batch", "status": "completed", "output_file_id": "file-0", "error_file_id": None}
        server.state.batches["b"] = note | {"looks": 0, "files": {}, "input_file_id": "x", "created_at": 0}
        run.put_batch("older", {"requests": 1, "id": "b", "address": server.url})  # whose note says nothing
        batched(server, run, many(5))
    assert run.totals()["tokens_in"] == 4 * expected.tokens_in + TYPICAL + question(4).estimate(1).tokens_in


def test_what_comes_back_without_an_answer_goes_into_the_next_batch(run: Curation) -> None:
    with LlmServer(batch_failures=0.5) as server:
        forms = batched(server, run, many(12))
    assert all(isinstance(form, ElementsForm) for form in forms)
    assert len(server.state.batches) > 1 and set(server.state.bought.values()) == {1}


def test_a_batch_that_expired_gives_what_it_has(run: Curation) -> None:
    with LlmServer(batch_end="expired") as server:
        assert all(isinstance(form, ElementsForm) for form in batched(server, run, many(3)))


def test_a_batch_that_failed_ends_the_run(run: Curation) -> None:
    with LlmServer(batch_end="failed") as server:
        (error,) = batched(server, run, many(1))
        assert isinstance(error, LlmError)
        assert str(error) == "The batch batch_0 failed: Invalid file."
        server.state.batch_end = "completed"
        (form,) = batched(server, run, many(1))
    assert isinstance(form, ElementsForm)


def test_faults_of_answers_are_met_as_in_single_requests(run: Curation) -> None:
    with LlmServer(faults=Faults(refused=0.2, malformed=0.3)) as server:
        forms = batched(server, run, many(12))
    refused = [form for form in forms if isinstance(form, WriterRefusal)]
    assert 0 < len(refused) < 8 and {refusal.reason for refusal in refused} <= {"refused", "unreadable"}
    assert len(server.state.batches) > 1


def test_an_endpoint_without_structured_output_is_understood(run: Curation) -> None:
    with LlmServer(structured=False) as server:
        assert all(isinstance(form, ElementsForm) for form in batched(server, run, many(3)))
    assert len(server.state.batches) == 2


def test_uploads_that_fail_in_passing_are_made_again(run: Curation) -> None:
    with LlmServer(batch_faults=3) as server:
        assert all(isinstance(form, ElementsForm) for form in batched(server, run, many(3)))
    assert len(server.state.batches) == 1 and set(server.state.bought.values()) == {1}


def test_a_budget_splits_batches_and_stops_the_run(run: Curation) -> None:
    with LlmServer() as server:
        budget = Budget(run, prices=Prices(1.0, 10.0), money=0.01)
        forms = batched(server, run, many(40), budget=budget, max_tokens=100)
    refused = [form for form in forms if isinstance(form, BudgetError)]
    assert 0 < len(refused) < 40 and len(refused) + sum(server.state.bought.values()) == 40
    assert 0.0075 < run.totals()["money"] <= 0.01


def test_a_broken_picture_leaves_the_others_alone(run: Curation, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    region = Region("own/1", "own", "a.png", "a", 64, 48, Box(10, 10, 30, 30), "dog")

    async def work(client: BatchClient) -> list[Any]:
        questions = [question(0, Picture(region, tmp_path / "a.png")), question(1)]
        first = await asyncio.gather(*(client.ask(one, ElementsForm) for one in questions), return_exceptions=True)
        alone = await asyncio.gather(client.ask(questions[0], ElementsForm), return_exceptions=True)
        return [*first, *alone]

    with LlmServer() as server:
        broken, good, again = batched(server, run, work)
    assert isinstance(broken, ImageError) and isinstance(again, ImageError)
    assert isinstance(good, ElementsForm)
    assert len(server.state.batches) == 1
