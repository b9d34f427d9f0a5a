"""Writes captions and distractors by asking an LLM that sees the picture with the region outlined.

What is known of a region goes along as lines "Name: value", lists with semicolons. Distractors are asked for as
replacements of one element: the captions are put together here (`writers.swap`), so each differs in nothing else. What
checks find wrong is shown to the LLM together with the answer that it gave; the conversation of a region grows with
each attempt, and a repeated run, which asks the same again, finds every answer kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from virtue.curation.checks import EACH
from virtue.curation.client import LlmClient
from virtue.curation.instructions import Instruction, Instructions, load_instructions
from virtue.curation.picture import SIDE, Picture
from virtue.curation.questions import Form, Question
from virtue.curation.samples import KINDS, Distractor, Elements, Problem, Region
from virtue.curation.writers import Pick, WriterRefusal, swap, true_caption
from virtue.images import ImageError

_MOST_OTHERS, _MOST_FACTS, _MOST_PLACES, _LONGEST_VALUE = 30, 20, 5, 200
_MOST_WORDS = 12  # of an element
_REMEMBERED = 50_000  # regions whose last attempt is remembered; more than are under way at once


class ElementsForm(BaseModel):
    """The answer to `elements`."""

    object: str
    relation: str
    scene: str


class SwapsForm(BaseModel):
    """The answer to `distractors`."""

    object: list[str]
    relation: list[str]
    scene: list[str]


class PickForm(BaseModel):
    """The answer to `pick`, counted from 1."""

    best: int
    also_true: list[int]


class _Attempt(NamedTuple):
    """The last distractors of a region, and what was said before."""

    question: Question
    answer: str
    distractors: list[Distractor]


class LlmWriter:
    """A `writers.Writer` that asks an LLM.

    Args:
        client: Who is asked.
        instructions: What the LLM is told to do; ours by default.
        side: Pixels that the longer side of a picture has at most.
        tries: How often a region was taken up again, by its id; what was refused before is then asked anew.

    Raises:
        ValueError: If the side is too small for a picture.
    """

    def __init__(
        self,
        client: LlmClient,
        instructions: Instructions | None = None,
        *,
        side: int = SIDE,
        tries: Callable[[str], int] = lambda region_id: 0,
    ) -> None:
        if side < 64:
            raise ValueError(f"A picture's longer side has 64 pixels or more, not {side}.")
        self._client = client
        self._instructions = instructions or load_instructions()
        self._side = side
        self._tries = tries
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()

    @property
    def name(self) -> str:
        """The LLM's name."""
        return self._client.model

    @property
    def instructions(self) -> str:
        """Versions of the instructions."""
        return self._instructions.version

    async def elements(self, region: Region, image: Path) -> Elements | None:
        """The true caption in its three parts: of the region's own where it holds them, else written.

        Args:
            region: What is described.
            image: The file of the image.

        Raises:
            WriterRefusal: If the LLM refuses, cannot make the region out, or gives no usable answer.
            LlmError: If the endpoint fails for good.
            BudgetError: If the budget is used up.
        """
        self._attempts.pop(region.id, None)  # a region that is taken up again starts alike in every run
        text = _text("elements", _known(region))
        question = self._question(self._instructions.elements, text, ElementsForm, region, image)
        form = await self._ask(question, ElementsForm, self._check_elements)
        return Elements(_tidy(form.object), _tidy(form.relation), _tidy(form.scene))

    async def distractors(
        self, region: Region, image: Path, elements: Elements, problems: Sequence[Problem]
    ) -> list[Distractor]:
        """Nine wrong captions, three of each kind, in the order object, relation, scene. Not yet checked.

        Args:
            region: What is described.
            image: The file of the image.
            elements: The true caption.
            problems: What was wrong with the last attempt; empty at the first.

        Raises:
            WriterRefusal: If the LLM refuses or gives no usable answer.
            LlmError: If the endpoint fails for good.
            BudgetError: If the budget is used up.
        """
        caption = true_caption(region, elements)
        before = self._attempts.pop(region.id, None)
        if problems and before is not None:
            question = before.question.again(before.answer, _objection(problems, before.distractors))
        else:
            text = _text("distractors", [*_known(region), *_said(caption, elements)])
            if problems:
                text += f"\n\nAn earlier answer could not be used:\n{_listed(problems, [])}"
            question = self._question(self._instructions.distractors, text, SwapsForm, region, image)
        form = await self._ask(question, SwapsForm, _check_swaps)
        words = {"object": form.object, "relation": form.relation, "scene": form.scene}
        written = [swap(caption, elements, kind, _tidy(one)) for kind in KINDS for one in words[kind]]
        self._attempts[region.id] = _Attempt(question, form.model_dump_json(), written)
        while len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)
        return written

    async def pick(self, region: Region, image: Path, captions: Sequence[str]) -> Pick | None:
        """Which of the captions is true, found by looking: the LLM is told nothing else of the region.

        Args:
            region: Whose outline is drawn.
            image: The file of the image.
            captions: Shuffled.

        Raises:
            WriterRefusal: If the LLM refuses or gives no usable answer.
            LlmError: If the endpoint fails for good.
            BudgetError: If the budget is used up.
        """
        lines = "\n".join(f"{number}. {_value(caption)}" for number, caption in enumerate(captions, start=1))
        text = f"{_text('pick', [])}\nCaptions:\n{lines}"
        question = self._question(self._instructions.pick, text, PickForm, region, image)
        form = await self._ask(question, PickForm, lambda answer: _check_pick(answer, len(captions)))
        return Pick(form.best - 1, tuple(sorted({number - 1 for number in form.also_true} - {form.best - 1})))

    def _question(
        self, instruction: Instruction, text: str, form: type[BaseModel], region: Region, image: Path
    ) -> Question:
        return Question(instruction.name, instruction.text, text, form, Picture(region, image, self._side))

    def _check_elements(self, form: ElementsForm) -> None:
        """All three or none, which says that the region cannot be made out.

        Raises:
            ValueError: If one is missing or too long.
            WriterRefusal: If there is none.
        """
        parts = {name: _tidy(str(value)) for name, value in form}
        missing = [name for name, words in parts.items() if not words]
        if len(missing) == len(parts):
            raise WriterRefusal("impossible", f"{self.name} could not make the region out.")
        if missing:
            raise ValueError(f"{missing[0]}: it is empty")
        _check_lengths(parts.items())

    async def _ask(self, question: Question, form: type[Form], check: Callable[[Form], object]) -> Form:
        picture = question.picture
        tries = self._tries(picture.region.id) if picture is not None else 0
        try:
            return await self._client.ask(question, form, check, tries=tries)
        except (FileNotFoundError, ImageError) as error:
            raise WriterRefusal("image", str(error)) from error


def _known(region: Region) -> list[tuple[str, str]]:
    """What annotations say of a region, as names and values."""
    others = dict.fromkeys(other.category for other in region.others)
    facts = [f"{_value(fact.subject)} | {_value(fact.relation)} | {_value(fact.object)}" for fact in region.facts]
    lines = [
        ("Category", _value(region.category)),
        ("Caption", _value(region.caption or "")),
        ("Other things in the image", _join(_value(other) for other in list(others)[:_MOST_OTHERS])),
        ("Place", _join(_value(words) for words in region.scene[:_MOST_PLACES])),
        ("Known to be true", _join(facts[:_MOST_FACTS])),
    ]
    return [(name, value) for name, value in lines if value]


def _said(caption: str, elements: Elements) -> list[tuple[str, str]]:
    """What the true caption says, as names and values."""
    parts = [("Object", elements.object), ("Relation", elements.relation), ("Scene", elements.scene)]
    return [(name, _value(words)) for name, words in [("True caption", caption), *parts]]


def _text(task: str, lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in [("Task", task), *lines])


def _value(text: str) -> str:
    """An annotation's words, so that they cannot be taken for another line or entry."""
    plain = " ".join(text.replace(";", ",").replace("|", ",").split())
    return plain if len(plain) <= _LONGEST_VALUE else f"{plain[:_LONGEST_VALUE]}..."


def _join(values: Iterable[str]) -> str:
    return "; ".join(value for value in values if value)


def _tidy(words: str) -> str:
    return " ".join(words.split()).strip(" .")


def _check_swaps(form: SwapsForm) -> None:
    """Three of each.

    Raises:
        ValueError: If not, or one is empty or too long.
    """
    for kind, listed in form:
        words = [_tidy(one) for one in listed]
        if len(words) != EACH:
            raise ValueError(f"{kind}: {EACH} are wanted, not {len(words)}")
        if not all(words):
            raise ValueError(f"{kind}: one of them is empty")
        _check_lengths((kind, one) for one in words)


def _check_pick(form: PickForm, count: int) -> None:
    """Numbers of the list.

    Raises:
        ValueError: If not.
    """
    for name, number in [("best", form.best), *(("also_true", number) for number in form.also_true)]:
        if not 1 <= number <= count:
            raise ValueError(f"{name}: {number} is no number of the list, which goes from 1 to {count}")


def _check_lengths(parts: Iterable[tuple[str, str]]) -> None:
    for name, words in parts:
        if len(words.split()) > _MOST_WORDS:
            raise ValueError(f"{name}: it has more than {_MOST_WORDS} words")


def _objection(problems: Sequence[Problem], distractors: Sequence[Distractor]) -> str:
    """What was wrong with the last attempt, for the LLM to read."""
    listed = _listed(problems, distractors)
    return f"Some of these cannot be used:\n{listed}\nWrite all nine again: keep the others, replace these."


def _listed(problems: Sequence[Problem], distractors: Sequence[Distractor]) -> str:
    return "\n".join(f"- {_place(problem, distractors)}{problem.message}" for problem in problems)


def _place(problem: Problem, distractors: Sequence[Distractor]) -> str:
    if problem.where is None or not 0 <= problem.where < len(distractors):
        return ""
    distractor = distractors[problem.where]
    words = getattr(distractor.elements, distractor.kind)
    return f'{distractor.kind} {problem.where % EACH + 1}, "{words}": '
