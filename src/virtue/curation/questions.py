"""What an LLM is asked and what it answered, as it goes over the wire and as it is kept.

A `Question` is an instruction, a text, a picture and the form of the answer. Its key is a digest of all of that, of
the model and of the sampling settings: the same question is bought once. An answer that cannot be read is asked for
again as a longer question, which shows the answer and says what was wrong with it; so it has a key of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from virtue.curation.budget import Usage
from virtue.curation.picture import Picture

Form = TypeVar("Form", bound=BaseModel)

_LONGEST = 4000  # characters of an unreadable answer that are shown again
_SCHEMA_WORDS = ("type", "properties", "items", "required", "enum")


@dataclass(frozen=True)
class Turn:
    """An answer that would not do.

    Attributes:
        answer: What it was.
        objection: What was said to it.
    """

    answer: str
    objection: str


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        task: What it is about, in one word.
        instructions: The system's message.
        text: The user's message.
        form: What the answer has to be, as a class of pydantic.
        picture: What is shown, if anything.
        turns: Earlier answers and what was wrong with them.
    """

    task: str
    instructions: str
    text: str
    form: type[BaseModel]
    picture: Picture | None = None
    turns: tuple[Turn, ...] = ()

    def again(self, answer: str, objection: str) -> Question:
        """The same question after an answer that would not do."""
        return replace(self, turns=(*self.turns, Turn(answer[:_LONGEST] or "(nothing)", objection)))

    def key(self, model: str, sampling: Mapping[str, Any]) -> str:
        """Hex digest of all that an answer depends on; the picture's file is read.

        Args:
            model: The LLM's name.
            sampling: Settings that change what it answers.

        Raises:
            FileNotFoundError: If the picture's file is missing.
        """
        what = {
            "model": model,
            "instructions": self.instructions,
            "text": self.text,
            "picture": self.picture.digest() if self.picture is not None else None,
            "turns": [asdict(turn) for turn in self.turns],
            "schema": schema(self.form),
            "sampling": dict(sampling),
        }
        return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()

    def messages(self, *, spell_schema: bool) -> list[dict[str, Any]]:
        """The messages of a chat; the picture is drawn.

        Args:
            spell_schema: Whether the text has to say which JSON is wanted, for endpoints that take no schema.
        """
        text = self.text
        if spell_schema:
            text += (
                f"\n\nAnswer with one JSON object of this schema, and nothing else:\n{json.dumps(schema(self.form))}"
            )
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if self.picture is not None:
            parts.insert(0, {"type": "image_url", "image_url": {"url": self.picture.data_url()}})
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": parts},
        ]
        for turn in self.turns:
            messages.append({"role": "assistant", "content": turn.answer})
            messages.append({"role": "user", "content": turn.objection})
        return messages

    def estimate(self, max_tokens: int) -> Usage:
        """Tokens that the request takes: its input roughly, its output at most."""
        letters = len(self.instructions) + len(self.text) + len(json.dumps(schema(self.form)))
        letters += sum(len(turn.answer) + len(turn.objection) for turn in self.turns)
        pixels = self.picture.size[0] * self.picture.size[1] if self.picture is not None else 0
        # Three letters a token and 600 pixels a token are more than most models take.
        return Usage(letters // 3 + pixels // 600 + 100, max_tokens)


@dataclass(frozen=True)
class Reply:
    """What an LLM answered.

    Attributes:
        text: The answer, "" where there is none.
        refusal: Why the LLM would not answer, in its or the endpoint's words; None where it did.
        cut: Whether the answer ends where its tokens were used up.
        model: The LLM's name as the endpoint gives it, often with its date.
        tokens_in: Read.
        tokens_out: Written.
        estimated: Whether the endpoint did not say how many tokens.
    """

    text: str
    refusal: str | None = None
    cut: bool = False
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: bool = False

    @property
    def usage(self) -> Usage:
        """The tokens."""
        return Usage(self.tokens_in, self.tokens_out, self.estimated)

    def to_text(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """As it was kept."""
        return cls(**json.loads(text))

    @classmethod
    def of(cls, body: Any, estimate: Usage) -> Self:
        """Out of the body of an answer.

        Args:
            body: A chat completion as JSON.
            estimate: What counts as used where the endpoint does not say.

        Raises:
            ValueError: If it is no chat completion.
        """
        try:
            choice = body["choices"][0]
            message, reason = choice["message"], choice.get("finish_reason")
            text, refusal = message.get("content") or "", message.get("refusal") or None
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ValueError(f"it is no chat completion: {json.dumps(body)[:200]}") from None
        if refusal is None and reason == "content_filter":
            refusal = "The endpoint's content filter held the answer back."
        usage = Usage.of(body, estimate)
        model = str(body.get("model") or "")
        text = text if isinstance(text, str) else json.dumps(text)
        refusal = None if refusal is None else str(refusal)
        return cls(text, refusal, reason == "length", model, usage.tokens_in, usage.tokens_out, usage.estimated)

    def read(self, form: type[Form]) -> Form:
        """The answer in its form.

        Args:
            form: A class of pydantic, whose own checks count.

        Raises:
            ValueError: If it has another form; the message says what is wrong, for the LLM to read.
        """
        try:
            return form.model_validate(_object(self.text))
        except ValidationError as error:
            raise ValueError("; ".join(_complaint(entry) for entry in error.errors()[:8])) from None
        except ValueError:
            if self.cut:
                raise ValueError("it is too long and was cut off before its end") from None
            raise


def schema(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a form, down to what strict structured output takes everywhere: types and names.

    Args:
        form: A class of pydantic without classes inside.
    """
    return _plain(form.model_json_schema())


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    kept = {word: node[word] for word in _SCHEMA_WORDS if word in node}
    if "properties" in kept:
        kept["properties"] = {name: _plain(child) for name, child in kept["properties"].items()}
        kept |= {"required": list(kept["properties"]), "additionalProperties": False}
    if "items" in kept:
        kept["items"] = _plain(kept["items"])
    return kept


def _object(text: str) -> dict[str, Any]:
    """The JSON object that a text is or holds: after an LLM's thoughts, in a fenced block, amid words."""
    bare = re.sub(r"^.*</think>", "", text, flags=re.DOTALL).strip()
    start, end = bare.find("{"), bare.rfind("}")
    if start < 0 or end < start:
        raise ValueError("it holds no JSON object")
    try:
        found = json.loads(bare[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its JSON cannot be read: {error}") from None
    assert isinstance(found, dict)
    return found


def _complaint(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
