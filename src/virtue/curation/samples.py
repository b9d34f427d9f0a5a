"""What flows through the builder of SCaR sets: regions of images, and samples made of them.

A `Region` is a pointed-at thing and all that its annotations say. A `Sample` is a region, a true caption of the form
"<object> <relation> <scene>" and nine distractors, three for each kind of swap. Everything is immutable and turns into
plain dicts and back (`to_json`, `from_json`), which is how the store keeps it. Boxes are `prompts.Box`, XYXY in source
pixels, written as lists of four numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from virtue.prompts import Box

Kind = Literal["object", "relation", "scene"]

KINDS: tuple[Kind, ...] = ("object", "relation", "scene")
"""The elements of a caption in the order in which it says them, and so the kinds of swap."""


@dataclass(frozen=True)
class Other:
    """Another region of the image.

    Args:
        category: What it is.
        box: Where it is, XYXY in source pixels.
    """

    category: str
    box: Box

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"category": self.category, "box": _numbers(self.box)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict."""
        return cls(value["category"], Box(*value["box"]))


@dataclass(frozen=True)
class Fact:
    """What is known to be true of the image, as in "dog", "left of", "boat".

    Args:
        subject: The region's category.
        relation: How they stand.
        object: The other thing.
    """

    subject: str
    relation: str
    object: str

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"subject": self.subject, "relation": self.relation, "object": self.object}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict."""
        return cls(value["subject"], value["relation"], value["object"])


@dataclass(frozen=True)
class Region:
    """A region of an image, and what its source says of it.

    Args:
        id: Source, a slash, the annotation's own id, as in "RefCOCOg/49"; unique in a run.
        source: "RefCOCOg", "RefCOCO_plus", "COCO_Stuff", "VisualGenome", "ADE20K", "scenes", or an own name.
        image: Path relative to the folder of the source's images, with forward slashes.
        image_id: The photograph, as in "COCO/285": splits go by it. The same photograph in two sources has the same
            one where that is known.
        width: Of the image, pixels.
        height: Of the image, pixels.
        box: XYXY, source pixels, inside the image.
        category: What it is, in one or a few words.
        segmentation: Its mask as COCO run lengths `{"size": [h, w], "counts": str}`, None where there is none.
        caption: A caption of this region, None where the source has none.
        others: Other regions of the image.
        scene: Words for the place, the most certain first; whole-image captions come last.
        facts: What is known of how this region stands to others.
    """

    id: str
    source: str
    image: str
    image_id: str
    width: int
    height: int
    box: Box
    category: str
    segmentation: dict[str, Any] | None = field(default=None, hash=False)  # a dict has no hash
    caption: str | None = None
    others: tuple[Other, ...] = ()
    scene: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {
            "id": self.id,
            "source": self.source,
            "image": self.image,
            "image_id": self.image_id,
            "width": self.width,
            "height": self.height,
            "box": _numbers(self.box),
            "category": self.category,
            "segmentation": self.segmentation,
            "caption": self.caption,
            "others": [other.to_json() for other in self.others],
            "scene": list(self.scene),
            "facts": [fact.to_json() for fact in self.facts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict.

        Raises:
            ValueError: If the box is none.
        """
        return cls(
            id=value["id"],
            source=value["source"],
            image=value["image"],
            image_id=value["image_id"],
            width=value["width"],
            height=value["height"],
            box=Box(*value["box"]),
            category=value["category"],
            segmentation=value["segmentation"],
            caption=value["caption"],
            others=tuple(Other.from_json(other) for other in value["others"]),
            scene=tuple(value["scene"]),
            facts=tuple(Fact.from_json(fact) for fact in value["facts"]),
        )


@dataclass(frozen=True)
class Elements:
    """What a caption says, as in "salad fork", "on", "table".

    Args:
        object: The region's thing.
        relation: How it stands to the scene.
        scene: What it stands in or beside.
    """

    object: str
    relation: str
    scene: str

    def caption(self) -> str:
        """The three joined by spaces."""
        return " ".join(part for part in (self.object, self.relation, self.scene) if part)

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"object": self.object, "relation": self.relation, "scene": self.scene}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict."""
        return cls(value["object"], value["relation"], value["scene"])


@dataclass(frozen=True)
class Distractor:
    """A false caption.

    Args:
        kind: Which element was swapped.
        elements: What it says.
        text: How it says it.
    """

    kind: Kind
    elements: Elements
    text: str

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"kind": self.kind, "elements": self.elements.to_json(), "text": self.text}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict.

        Raises:
            ValueError: If there is no such kind of swap.
        """
        if value["kind"] not in KINDS:
            raise ValueError(f"A swap is of kind {', '.join(KINDS)}, not {value['kind']!r}.")
        return cls(cast("Kind", value["kind"]), Elements.from_json(value["elements"]), value["text"])


@dataclass(frozen=True)
class Sample:
    """A region with its true caption and its distractors.

    Args:
        region: The region.
        elements: What the true caption says.
        caption: How it says it.
        distractors: Nine, three of each kind.
        writer: "rules" or the LLM's name.
        instructions: Version of the LLM's instructions, "" for rules.
        attempts: How often the distractors were written until they passed.
    """

    region: Region
    elements: Elements
    caption: str
    distractors: tuple[Distractor, ...]
    writer: str
    instructions: str = ""
    attempts: int = 1

    @property
    def captions(self) -> tuple[str, ...]:
        """All of them, the true one first."""
        return self.caption, *(distractor.text for distractor in self.distractors)

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {
            "region": self.region.to_json(),
            "elements": self.elements.to_json(),
            "caption": self.caption,
            "distractors": [distractor.to_json() for distractor in self.distractors],
            "writer": self.writer,
            "instructions": self.instructions,
            "attempts": self.attempts,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict.

        Raises:
            ValueError: If the box is none, or there is no such kind of swap.
        """
        return cls(
            region=Region.from_json(value["region"]),
            elements=Elements.from_json(value["elements"]),
            caption=value["caption"],
            distractors=tuple(Distractor.from_json(distractor) for distractor in value["distractors"]),
            writer=value["writer"],
            instructions=value["instructions"],
            attempts=value["attempts"],
        )


@dataclass(frozen=True)
class Problem:
    """What a check found wrong with a sample.

    Args:
        check: Name of the check, as drops are counted by.
        message: One sentence.
        where: Which distractor, counted from 0; None for the true caption or the sample as a whole.
    """

    check: str
    message: str
    where: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return {"check": self.check, "message": self.message, "where": self.where}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Out of a plain dict."""
        return cls(value["check"], value["message"], value["where"])


def _numbers(box: Box) -> list[float]:
    return [box.x1, box.y1, box.x2, box.y2]
