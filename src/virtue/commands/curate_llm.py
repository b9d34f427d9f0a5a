"""The LLM of `virtue curate build`: its options, checked before anything is read, and the client made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtue.curation.client import LlmClient
    from virtue.curation.instructions import Instructions
    from virtue.curation.llm_settings import Settings
    from virtue.curation.store import Curation


@dataclass(frozen=True)
class Llm:
    """How the LLM is asked; see the options of `build`."""

    model: str
    base_url: str | None
    price_in: float | None
    price_out: float | None
    budget: float | None
    budget_tokens: int | None
    concurrency: int
    rate: float | None
    token_rate: float | None
    max_tokens: int
    temperature: float | None
    side: int
    instructions: Path | None
    batch: bool
    poll: float

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that samples depend on, beside the LLM's name and the instructions."""
        how = "the endpoint's" if self.temperature is None else self.temperature
        return {"temperature": how, "side": self.side}

    @property
    def settings(self) -> Settings:
        """Of the client."""
        from virtue.curation.llm_settings import Settings

        return Settings(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            concurrency=self.concurrency,
            requests_per_minute=self.rate,
            tokens_per_minute=self.token_rate,
        )


def check(llm: Llm) -> Instructions:
    """Sees that the LLM can be asked as the options say, without asking it or touching a run.

    Returns:
        What it is told to do.

    Raises:
        FileNotFoundError: If there is no such folder of instructions.
        ModuleNotFoundError: If openai or pydantic is not installed.
        ValueError: If it has no name, a number makes no sense, an address or key is missing, or instructions are none.
    """
    if not llm.model:
        raise ValueError("An LLM needs a name: give --model as the endpoint knows it, or take --writer rules.")
    try:
        from virtue.curation.budget import Prices, check_limits
        from virtue.curation.endpoint import Endpoint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"An LLM is asked through {error.name}: install it with `pip install 'virtue[curate]'`.", name=error.name
        ) from error
    from virtue.curation.instructions import load_instructions
    from virtue.curation.pace import Pace

    check_limits(Prices(llm.price_in, llm.price_out), llm.budget, llm.budget_tokens)
    Pace(llm.rate, llm.token_rate)
    Endpoint(llm.base_url, None, llm.settings.timeout)  # it sends nothing
    return load_instructions(llm.instructions)


def client(run: Curation, llm: Llm) -> LlmClient:
    """Who is asked; `check` comes before."""
    from virtue.curation.batch import BatchClient
    from virtue.curation.budget import Budget, Prices
    from virtue.curation.client import LlmClient
    from virtue.curation.llm_settings import BatchSettings

    prices = Prices(llm.price_in, llm.price_out)
    budget = Budget(run, prices=prices, money=llm.budget, tokens=llm.budget_tokens)
    if not llm.batch:
        return LlmClient(llm.model, run, base_url=llm.base_url, budget=budget, settings=llm.settings)
    how = BatchSettings(gather=min(10.0, llm.poll), poll=llm.poll)
    return BatchClient(llm.model, run, base_url=llm.base_url, budget=budget, settings=llm.settings, batches=how)


def price_earlier(run: Curation, llm: Llm) -> str:
    """Counts the money of what earlier commands used without prices; a sentence about it, "" if there is nothing."""
    if llm.price_in is None or llm.price_out is None:
        return ""
    money = run.price(llm.price_in, llm.price_out)
    return f"Earlier commands gave no prices; their tokens count as {money:,.4g} now." if money else ""


def refuse_beside_batches(run: Curation, llm: Llm) -> None:
    """Refuses to ask one by one what a batch is being asked: it would be bought twice.

    Raises:
        ValueError: If a batch of the run is under way at the address.
    """
    from virtue.curation.endpoint import Endpoint

    address = Endpoint(llm.base_url, None, llm.settings.timeout).address
    if not llm.batch and any(note.get("address", address) == address for note in run.batches().values()):
        raise ValueError(
            f"A batch of the run in {run.folder} is under way at {address}: go on with --batch, which takes its "
            "answers; without it they would be bought again."
        )


def ending_errors(llm: Llm | None) -> tuple[type[Exception], ...]:
    """What ends a build in a sentence: images are gone, the budget is used up, or the endpoint is gone."""
    if llm is None:
        return (FileNotFoundError,)
    from virtue.curation.budget import BudgetError
    from virtue.curation.endpoint import LlmError

    return FileNotFoundError, BudgetError, LlmError
