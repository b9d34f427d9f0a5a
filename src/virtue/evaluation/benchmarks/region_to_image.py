"""Region to image: point at a thing in one picture, find the pictures that hold such a thing in such a place.

Of the drawn world (`region_questions`), every query is ranked against its own ten pictures, and in the *global* form
against all pictures of the task; there every one that holds the elements is right, whoever it was drawn for.

Of photographs with SCaR's captions the true caption and its swaps tell the elements: what the object swaps replace is
the object, what the scene swaps replace is the scene.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile

import numpy as np

from virtue.evaluation.benchmarks.caption_words import caption_words, shared_ends
from virtue.evaluation.benchmarks.region_questions import PICTURES, Question, pictures_of, questions
from virtue.evaluation.benchmarks.scene_pictures import ScenePicture, check_shown, pointed, relation_axis
from virtue.evaluation.benchmarks.sizes import size_word
from virtue.evaluation.tasks import Task
from virtue.items import Item
from virtue.scenes.composing import holds
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS


def region_to_image(count: int = 200, seed: int = 0, *, shown: str = "box") -> list[Task]:
    """The drawn world's task, ranked in two ways.

    Args:
        count: Number of query pictures; each asks two queries and brings ten candidates.
        seed: Of the first test scene that is looked at; a third of the scenes have no two objects to ask about.
        shown: How regions are pointed at: "box", "point", "mask", or "none" for a model that is not told.

    Returns:
        "scenes/region-to-image", each query against its own ten pictures, and "scenes/region-to-image-global", against
        all pictures.

    Raises:
        ValueError: If the count is below 1, the seed is negative or `shown` is unknown.
    """
    if count < 1:
        raise ValueError(f"{count} pictures ask nothing; take 1 or more.")
    check_shown(shown)
    asked = questions(count, seed)
    own = _task(asked, shown)
    return [own, _against_all(own, asked)]


def _task(asked: Sequence[Question], shown: str) -> Task:
    """Every query against the ten pictures of its question."""
    queries, ids, sizes = [], [], []
    for question in asked:
        picture = ScenePicture(question.seed)
        for index in question.regions:
            queries.append(pointed(picture, index, shown))
            ids.append(f"scene {question.seed} object {index}")
            thing = picture.scene().objects[index]
            sizes.append(size_word(thing.box, thing.mask.size))
    lists = [np.arange(PICTURES * (number // 2), PICTURES * (number // 2 + 1)) for number in range(len(queries))]
    swaps = [own for question in asked for own in question.swaps]
    return Task(
        name="scenes/region-to-image",
        queries=queries,
        candidates=[picture.item() for question in asked for picture in pictures_of(question)],
        relevant=[own[[kind == "" for kind in kinds]] for own, kinds in zip(lists, swaps, strict=True)],
        lists=lists,
        swaps=swaps,
        ids=ids,
        groups=[str(question.seed) for question in asked for _ in question.regions],
        tags={
            "relation": [relation_axis(truth.relation) for question in asked for truth in question.truths],
            "size": sizes,
        },
    )


def _against_all(own: Task, asked: Sequence[Question]) -> Task:
    """The same queries against the pictures of all questions, wherever the elements hold."""
    pictures = [picture for question in asked for picture in pictures_of(question)]
    truths = [truth for question in asked for truth in question.truths]
    showing: dict[tuple[str, str], set[int]] = {}  # place and object
    for number, picture in enumerate(pictures):
        assert picture.wish is not None
        for name in picture.wish.names:
            showing.setdefault((picture.wish.place, name), set()).add(number)
    relevant = []
    for right, listed, truth in zip(own.relevant, own.lists or (), truths, strict=True):
        thing, other, place = OBJECTS[truth.object].name, OBJECTS[truth.other].name, PLACES[truth.place]
        strangers = (showing[place, thing] & showing[place, other]) - set(listed.tolist())
        also = [n for n in strangers if holds(pictures[n].scene(), thing, RELATIONS[truth.relation], other, place)]
        relevant.append(np.array(sorted([*right.tolist(), *also]), dtype=np.intp))
    return replace(own, name=f"{own.name}-global", relevant=relevant, lists=None, swaps=None)


# The same of photographs


Elements = tuple[str, str]
"""Object and scene."""

NO_ELEMENTS, NO_RIGHT = "with unknown elements", "without another image of the same"
DISTRACTORS = 9
_LEADING = frozenset({"at", "by", "in", "inside", "near", "of", "on", "with", "within"})


@dataclass(frozen=True, eq=False)
class _Asked:
    """One row that can be asked; its images are places in the task's candidates."""

    row: int
    right: list[int]
    own: list[int]  # one of the right ones first
    swaps: list[str]
    doubtful: list[int]  # its own image, and those that hold object and scene but are not said to hold them together


def region_to_image_from_scar(task: Task, *, text: str | None = None, seed: int = 0) -> list[Task]:
    """Makes region to image of a task in SCaR's layout, such as one of `scar.scar_tasks`.

    Of a region with (object, scene), right are the other images of which one caption says both. Distractors are images
    with the object and never the scene, and with the scene and never the object. A row is not asked, and counted, when
    its captions do not tell its elements, or there is no right image or no distractor: the task is whole without it.

    Args:
        task: Queries with an image and a region, each with its true caption and swapped ones; `groups` name the images.
        text: What the queries say beside the region; by default nothing.
        seed: Chooses among right images and distractors where there are many.

    Returns:
        "region-to-image/<set>", each query against one right image and up to nine distractors, about half of each kind,
        and "region-to-image/<set>-global", against all images but its own and those that may be right unsaid.

    Raises:
        EmptyTaskError: If no row is left.
    """
    told = [_elements_of(task, row) for row in range(len(task.queries))]
    known = [row for row, elements in enumerate(told) if elements is not None]
    images = {group: number for number, group in enumerate(dict.fromkeys(task.groups[row] for row in known))}
    asked = _asked(told, [images.get(group, -1) for group in task.groups], np.random.default_rng(seed))
    first_rows = {task.groups[row]: row for row in reversed(known)}
    rows = [one.row for one in asked]
    name = photographs_name(task.name)
    own = Task(
        name=name,
        queries=[replace(task.queries[row], text=text) for row in rows],
        candidates=[Item(image=task.queries[first_rows[group]].image) for group in images],
        relevant=[np.array(one.own[:1], dtype=np.intp) for one in asked],
        lists=[np.array(one.own, dtype=np.intp) for one in asked],
        swaps=[one.swaps for one in asked],
        ids=[task.ids[row] for row in rows],
        groups=[task.groups[row] for row in rows],
        tags={tag: [words[row] for row in rows] for tag, words in task.tags.items()},
        missing=task.missing,
        excluded={NO_ELEMENTS: len(told) - len(known), NO_RIGHT: len(known) - len(asked)},
        instructed=task.instructed,
    )
    right = [np.array(one.right, dtype=np.intp) for one in asked]
    lists = [np.delete(np.arange(len(images)), one.doubtful) for one in asked]
    return [own, replace(own, name=f"{name}-global", relevant=right, lists=lists, swaps=None)]


def photographs_name(scar: str) -> str:
    """What the task is called that is made of one of SCaR's: "region-to-image/ADE20K" of "scar/ADE20K"."""
    return f"region-to-image/{scar.rpartition('/')[2]}"


def _asked(told: Sequence[Elements | None], images: Sequence[int], rng: np.random.Generator) -> list[_Asked]:
    """The rows that have a right image and a distractor.

    Args:
        told: The elements of each row.
        images: The image of each row.
        rng: Chooses.
    """
    together: dict[Elements, set[int]] = defaultdict(set)
    things: dict[str, set[int]] = defaultdict(set)
    scenes: dict[str, set[int]] = defaultdict(set)
    for elements, image in zip(told, images, strict=True):
        if elements is not None:
            together[elements].add(image)
            things[elements[0]].add(image)
            scenes[elements[1]].add(image)
    asked = []
    for row, (elements, image) in enumerate(zip(told, images, strict=True)):
        if elements is None:
            continue
        right = together[elements] - {image}
        thing, scene = things[elements[0]], scenes[elements[1]]
        distractors = _chosen(rng, sorted(thing - scene), sorted(scene - thing))
        if right and distractors:
            numbers, swaps = zip(*distractors, strict=True)
            own = [int(rng.choice(sorted(right))), *numbers]
            doubtful = sorted(((thing & scene) - right) | {image})
            asked.append(_Asked(row, sorted(right), own, ["", *swaps], doubtful))
    return asked


def _chosen(rng: np.random.Generator, elsewhere: list[int], without: list[int]) -> list[tuple[int, str]]:
    """Up to nine distractors and what is swapped in them, about half of each kind where there are enough."""
    objects = [(without[i], "object") for i in rng.permutation(len(without))]
    scenes = [(elsewhere[i], "scene") for i in rng.permutation(len(elsewhere))]
    half = max(DISTRACTORS // 2 + int(rng.integers(2)), DISTRACTORS - len(scenes))
    taken = objects[:half]
    return taken + scenes[: DISTRACTORS - len(taken)]


def _elements_of(task: Task, row: int) -> Elements | None:
    """Object and scene of a row's true caption; None where its list does not tell."""
    if task.swaps is None:
        return None
    swapped: dict[str, list[str]] = defaultdict(list)
    for place, kind in zip(task.listed(row), task.swaps[row], strict=True):
        swapped[kind].append(task.candidates[place].text or "")
    return caption_elements(task.candidates[task.relevant[row][0]].text or "", swapped)


def caption_elements(true: str, swapped: Mapping[str, Sequence[str]]) -> Elements | None:
    """Object and scene of a caption, told by what the captions with one of them swapped do not share with it.

    A swap's *span* is the true caption without the first and last words that both captions share. The relation is the
    shortest span of its swaps; the object is the longest span of its swaps that ends before the relation, the scene the
    longest that begins behind it. Case, punctuation and articles are passed over, prepositions in front dropped.

    Args:
        true: The true caption.
        swapped: By kind ("object", "relation", "scene") the swapped ones.

    Returns:
        Object and scene; None where one of them cannot be told.
    """
    words = caption_words(true)
    spans = {kind: [_span(words, caption_words(false)) for false in captions] for kind, captions in swapped.items()}
    if not all(spans.get(kind) for kind in ("object", "relation", "scene")):
        return None
    start, end = min(spans["relation"], key=_length)
    things = [span for span in spans["object"] if span[1] <= start]
    scenes = [span for span in spans["scene"] if span[0] >= end]
    if not things or not scenes:
        return None
    thing, scene = (" ".join(_trimmed(words[slice(*max(found, key=_length))])) for found in (things, scenes))
    return (thing, scene) if thing and scene else None


def _span(true: Sequence[str], false: Sequence[str]) -> tuple[int, int]:
    """Where the first caption differs from the second: first word, and the one behind the last."""
    first, last = shared_ends(true, false)
    return first, len(true) - last


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _trimmed(words: list[str]) -> list[str]:
    return list(dropwhile(_LEADING.__contains__, words))
