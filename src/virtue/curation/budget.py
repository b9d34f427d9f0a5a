"""What a run of the LLM has used, in tokens and money, and the limit that stops it before it is exceeded.

Before a request goes out, `reserve` sets aside the most that it may use: all of its input as estimated, all of the
output that it is allowed. When the answer is there, what it really used takes that place. While the limit leaves no
room, `reserve` waits for requests in flight, which mostly use less than was set aside; when none is in flight, the
budget is used up. Estimates of input are corrected by the worst that was seen of an endpoint.

Amounts are added up in the store together with the answer that they bought (`Totals`), over all commands of a run.
While prices are not known, tokens are counted all the same, and their money once prices are given (`Curation.price`).
Where an endpoint does not say what it used, the estimate counts and the answer is counted as estimated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

BATCH_SHARE = 0.5
"""What a request costs through the batch API, as a share of its price."""


class BudgetError(RuntimeError):
    """The budget leaves no room for another request."""


class Totals(Protocol):
    """Where amounts are added up, such as `store.Curation`."""

    def totals(self) -> dict[str, float]:
        """Amounts so far by name."""
        ...


@dataclass(frozen=True)
class Usage:
    """Tokens of one request.

    Attributes:
        tokens_in: Read by the LLM, the picture's included.
        tokens_out: Written by it, its unseen reasoning included.
        estimated: Whether the endpoint did not say so.
    """

    tokens_in: int
    tokens_out: int
    estimated: bool = False

    @classmethod
    def of(cls, answer: Mapping[str, Any], otherwise: Usage) -> Usage:
        """What the `usage` of an answer says.

        Args:
            answer: The body of the answer.
            otherwise: What counts, as estimated, where it does not say.
        """
        told = answer.get("usage")
        told = told if isinstance(told, Mapping) else {}
        counts = [told.get("prompt_tokens"), told.get("completion_tokens")]
        numbers = [count for count in counts if isinstance(count, int) and count >= 0]
        if len(numbers) == 2:
            return cls(numbers[0], numbers[1])
        return cls(otherwise.tokens_in, otherwise.tokens_out, estimated=True)


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in one currency; None where that is not known.

    Attributes:
        tokens_in: A million tokens of input.
        tokens_out: A million tokens of output.
    """

    tokens_in: float | None = None
    tokens_out: float | None = None

    @property
    def known(self) -> bool:
        """Whether money can be counted."""
        return self.tokens_in is not None and self.tokens_out is not None

    def money(self, usage: Usage, *, batch: bool = False) -> float:
        """What a request costs; 0 where a price is not known."""
        if self.tokens_in is None or self.tokens_out is None:
            return 0.0
        whole = (usage.tokens_in * self.tokens_in + usage.tokens_out * self.tokens_out) / 1e6
        return whole * BATCH_SHARE if batch else whole


class Budget:
    """The limits of a run and what is left of them.

    Args:
        totals: What was used so far, in earlier runs too.
        prices: Of a million tokens.
        money: The most that may be spent over all runs, in the prices' currency.
        tokens: The most that may be used over all runs, input and output together.

    Raises:
        ValueError: If a limit or a price is negative, or money is limited while a price is not known.
    """

    def __init__(
        self, totals: Totals, *, prices: Prices | None = None, money: float | None = None, tokens: int | None = None
    ) -> None:
        self.prices = prices or Prices()
        check_limits(self.prices, money, tokens)
        self._totals = totals
        self._limits = {"money": money, "tokens": tokens}
        self._held = {"money": 0.0, "tokens": 0.0}  # by requests in flight
        self._in_flight = 0
        self._ratio = 1.0  # the worst ratio of true to estimated input
        self._changed: asyncio.Condition | None = None

    async def reserve(self, estimate: Usage, *, batch: bool = False) -> Reservation:
        """Sets aside the most that a request may use, waiting for others where there is no room.

        Args:
            estimate: Its input, roughly, and the most of its output.
            batch: Whether it goes through the batch API.

        Raises:
            BudgetError: If there is no room and no request is in flight that may leave some.
        """
        condition = self._condition()
        async with condition:
            while (found := self.try_reserve(estimate, batch=batch)) is None:
                if not self._in_flight:
                    raise BudgetError(self._used_up())
                await condition.wait()
            return found

    def try_reserve(self, estimate: Usage, *, batch: bool = False) -> Reservation | None:
        """The same at once; None where there is no room now."""
        scaled = Usage(round(estimate.tokens_in * self._ratio), estimate.tokens_out)
        wanted = self._amounts(scaled, batch)
        totals = self._totals.totals()
        for name, limit in self._limits.items():
            if limit is not None and _used(totals, name) + self._held[name] + wanted[name] > limit:
                return None
        self._hold(wanted, 1)
        return Reservation(self, wanted, estimate, batch)

    def cost(self, usage: Usage, *, batch: bool = False) -> dict[str, float]:
        """What an answer adds to the totals.

        Args:
            usage: Its tokens.
            batch: Whether it came through the batch API.

        Returns:
            "answers", "tokens_in", "tokens_out" and "money"; "unpriced_in" and "unpriced_out" instead of money where
            prices are not known, those of batches at their share; "answers_in_batches" and "answers_estimated".
        """
        amounts = {"answers": 1.0, "tokens_in": float(usage.tokens_in), "tokens_out": float(usage.tokens_out)}
        share = BATCH_SHARE if batch else 1.0
        if self.prices.known:
            amounts["money"] = self.prices.money(usage, batch=batch)
        else:
            amounts |= {"unpriced_in": share * usage.tokens_in, "unpriced_out": share * usage.tokens_out}
        marks = {"answers_in_batches": batch, "answers_estimated": usage.estimated}
        return amounts | {name: 1.0 for name, is_so in marks.items() if is_so}

    def learn(self, estimate: Usage, usage: Usage) -> None:
        """Corrects later estimates by what a request really used."""
        if estimate.tokens_in > 0 and not usage.estimated:
            self._ratio = max(self._ratio, usage.tokens_in / estimate.tokens_in)

    async def _release(self, held: Mapping[str, float]) -> None:
        condition = self._condition()
        async with condition:
            self._hold(held, -1)
            condition.notify_all()

    def _hold(self, amounts: Mapping[str, float], sign: int) -> None:
        """Sets aside what one request may use, or gives it back."""
        self._in_flight += sign
        for name, amount in amounts.items():
            # Sums of fractions do not come back to 0 by themselves.
            self._held[name] = self._held[name] + sign * amount if self._in_flight else 0.0

    def _amounts(self, usage: Usage, batch: bool) -> dict[str, float]:
        money = self.prices.money(usage, batch=batch)
        return {"money": money, "tokens": float(usage.tokens_in + usage.tokens_out)}

    def _used_up(self) -> str:
        totals = self._totals.totals()
        parts = [
            f"{_used(totals, name):,.4g} of {limit:,g} {'' if name == 'money' else name}".rstrip()
            for name, limit in self._limits.items()
            if limit is not None
        ]
        return f"The budget leaves no room for another request: {' and '.join(parts)} used. Raise it to go on."

    def _condition(self) -> asyncio.Condition:
        if self._changed is None:  # it belongs to the event loop that first waits on it
            self._changed = asyncio.Condition()
        return self._changed


class Reservation:
    """What is set aside for one request, until `release`.

    Args:
        budget: Where it is set aside.
        held: What is set aside, by name.
        estimate: What was estimated.
        batch: Whether it goes through the batch API.
    """

    def __init__(self, budget: Budget, held: Mapping[str, float], estimate: Usage, batch: bool) -> None:
        self._budget = budget
        self._held = held
        self.estimate = estimate
        self.batch = batch

    def used(self, usage: Usage) -> dict[str, float]:
        """What is to be added to the totals for an answer; the reservation stays until that is done."""
        self._budget.learn(self.estimate, usage)
        return self._budget.cost(usage, batch=self.batch)

    async def release(self) -> None:
        """Gives back what was set aside."""
        await self._budget._release(self._held)


def check_limits(prices: Prices, money: float | None, tokens: int | None) -> None:
    """Whether a budget can be kept to.

    Raises:
        ValueError: If a limit or a price is negative, or money is limited while a price is not known.
    """
    amounts = (prices.tokens_in, prices.tokens_out, money, tokens)
    if any(amount is not None and not amount >= 0 for amount in amounts):  # also true for NaN
        raise ValueError("Prices and budgets are not negative.")
    if money is not None and not prices.known:
        raise ValueError(
            "A budget of money needs the prices of a million tokens of input and of output (--price-in and "
            "--price-out); without them give a budget of tokens."
        )


def _used(totals: Mapping[str, float], name: str) -> float:
    if name == "tokens":
        return totals.get("tokens_in", 0.0) + totals.get("tokens_out", 0.0)
    return totals.get(name, 0.0)
