import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.curation.llm_server import LlmServer, first_text
from tests.curation.test_client import QUICK, STRUCTURED, asked, many, one, question
from virtue.curation.budget import Budget, BudgetError, Prices, Usage
from virtue.curation.llm_settings import Settings
from virtue.curation.store import Curation
from virtue.curation.writers import WriterRefusal


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Curation(tmp_path / "run", make=True)
    yield run
    run.close()


def test_tokens_are_estimated_where_the_endpoint_does_not_say(run: Curation) -> None:
    with LlmServer(silent=True) as server:
        asked(server, run, one, budget=Budget(run, prices=Prices(1.0, 10.0)))
    expected = question().estimate(QUICK.max_tokens)
    totals = run.totals()
    assert (totals["tokens_in"], totals["tokens_out"]) == (expected.tokens_in, expected.tokens_out)
    assert totals["answers_estimated"] == 1
    assert totals["money"] == pytest.approx((expected.tokens_in + 10 * expected.tokens_out) / 1e6)


def test_the_question_whether_the_endpoint_answers_at_all_is_counted(run: Curation) -> None:
    with LlmServer(rejected="dog 0\n") as server, pytest.raises(WriterRefusal):
        asked(server, run, one, settings=STRUCTURED)
    (text,) = [first_text(body) for body in server.state.bodies if "fine" in first_text(body)]
    totals = run.totals()
    assert totals["probes"] == 1 and "answers" not in totals
    assert totals["tokens_in"] == 1000 + len(text) // 4


def test_a_budget_stops_the_run_before_it_is_exceeded(run: Curation) -> None:
    prices, settings = Prices(1.0, 10.0), Settings(concurrency=4, max_tokens=100)
    with LlmServer() as server:
        budget = Budget(run, prices=prices, money=0.02)
        forms = asked(server, run, many(40), budget=budget, settings=settings)
    refused = [form for form in forms if isinstance(form, BudgetError)]
    assert 0 < len(refused) < 40 and len(refused) + sum(server.state.bought.values()) == 40
    assert str(refused[0]).startswith("The budget leaves no room for another request: 0.0")
    assert 0.015 < run.totals()["money"] <= 0.02
    with LlmServer() as server:
        forms = asked(server, run, many(40), budget=Budget(run, tokens=10), settings=settings)
    assert sum(isinstance(form, BudgetError) for form in forms) == len(refused)  # what is kept costs nothing
    assert not server.state.asked


def test_prices_and_limits() -> None:
    assert Prices(2.0, 8.0).money(Usage(1_000_000, 500_000)) == 6.0
    assert Prices(2.0, 8.0).money(Usage(1_000_000, 500_000), batch=True) == 3.0
    assert Prices(2.0).money(Usage(1_000_000, 0)) == 0.0


def test_a_budget_of_money_needs_prices(run: Curation) -> None:
    with pytest.raises(ValueError, match="needs the prices of a million tokens"):
        Budget(run, money=5.0)
    with pytest.raises(ValueError, match="not negative"):
        Budget(run, tokens=-1)


def test_a_reservation_is_the_most_that_a_request_may_use(run: Curation) -> None:
    async def main() -> None:
        budget = Budget(run, tokens=1000)
        first = await budget.reserve(Usage(300, 300))
        assert budget.try_reserve(Usage(300, 300)) is None
        waiting = asyncio.create_task(budget.reserve(Usage(300, 300)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        run.add_totals(first.used(Usage(300, 50)))
        await first.release()
        await (await waiting).release()
        run.add_totals({"tokens_out": 100.0})
        with pytest.raises(BudgetError, match=r"450 of 1,000 tokens used\. Raise it to go on"):
            await budget.reserve(Usage(300, 300))

    asyncio.run(main())


def test_tokens_without_prices_wait_for_them(run: Curation) -> None:
    unpriced, priced = Budget(run), Budget(run, prices=Prices(2.0, 8.0))
    run.put_answer("a", "", unpriced.cost(Usage(3000, 100)))
    run.put_answer("b", "", unpriced.cost(Usage(3000, 100), batch=True))  # at half the price, once it is known
    run.put_answer("c", "", priced.cost(Usage(1000, 0)))
    assert run.totals()["money"] == pytest.approx(0.002)
    assert run.price(2.0, 8.0) == pytest.approx((4500 * 2 + 150 * 8) / 1e6)
    assert run.totals()["money"] == pytest.approx(0.002 + 0.0102)


def test_what_the_answer_does_not_say_counts_as_estimated() -> None:
    assert Usage.of({"usage": {"prompt_tokens": 7, "completion_tokens": 8}}, Usage(1, 2)) == Usage(7, 8)
    assert Usage.of({}, Usage(1, 2)) == Usage(1, 2, estimated=True)
