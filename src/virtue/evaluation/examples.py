"""What a reader wants to see of a task: the queries that went worst, as pictures, and the commonest wrong answers.

Pictures are small JPEG files in data URLs, with the visual prompt drawn on (`thumbnails`), those of candidates smaller
than those of queries. A candidate without text is named by its picture's file, or by its number.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np

from virtue.evaluation.ranking import Placing, Ranking
from virtue.evaluation.results import Example
from virtue.evaluation.tasks import Task
from virtue.evaluation.thumbnails import draw_query
from virtue.images import ImageError
from virtue.items import Item

SIDE, CANDIDATE_SIDE = 256, 160
"""Longer sides of pictures of queries and of candidates at most, in pixels."""

WORST = 6
COMMONEST = 10

_QUALITY = 85
_LONGEST = 300  # characters of a text


def worst_examples(task: Task, ranking: Ranking, count: int = WORST) -> list[Example]:
    """The queries whose best right candidate stands furthest behind, one of each group, the worst first.

    Args:
        task: What was asked.
        ranking: What came out.
        count: How many at most.

    Returns:
        None of those that have a right candidate alone on the first place.
    """
    ranks = np.array([expected_rank(placing) for placing in ranking.placings])  # (Q,)
    chosen: dict[str, int] = {}
    for number in np.argsort(-ranks, kind="stable"):
        if ranks[number] <= 1 or len(chosen) == count:
            break
        chosen.setdefault(task.groups[number], int(number))
    return [_example(task, ranking, number, float(ranks[number])) for number in chosen.values()]


def common_mistakes(task: Task, ranking: Ranking, count: int = COMMONEST) -> tuple[dict[str, int], dict[str, str]]:
    """The wrong candidates that most often score higher than every right one.

    Args:
        task: What was asked.
        ranking: What came out.
        count: How many at most.

    Returns:
        By what a reader knows each by, how often it does, and the pictures of those that have one, as data URLs.
    """
    beaten = [placing.better.min() > 0 for placing in ranking.placings]
    said = Counter(int(top) for top, is_beaten in zip(ranking.top, beaten, strict=True) if is_beaten)
    names: Counter[str] = Counter()
    places: dict[str, int] = {}
    for place, times in said.items():
        name = candidate_name(task, place)
        names[name] += times
        places.setdefault(name, place)
    commonest = dict(names.most_common(count))
    images = {name: picture_of(task.candidates[places[name]], CANDIDATE_SIDE) for name in commonest}
    return commonest, {name: image for name, image in images.items() if image is not None}


def expected_rank(placing: Placing) -> float:
    """The rank of the best right candidate, from 1, as the mean over the orders of what is level with it.

    With b better candidates and l level ones, r of them right, it is b + (l + 1) / (r + 1).
    """
    best = int(np.argmin(placing.better))
    better, level = int(placing.better[best]), int(placing.level[best])
    right = int((placing.better == better).sum())
    return better + (level + 1) / (right + 1)


def candidate_name(task: Task, place: int) -> str:
    """What a reader knows a candidate by: its text, its picture's file, or its number."""
    item = task.candidates[place]
    if item.text:
        return _short(item.text)
    if isinstance(item.image, str | Path) and str(item.image)[:5].lower() != "data:":
        return Path(item.image).name
    return f"candidate {place}"


def picture_of(item: Item, side: int = SIDE) -> str | None:
    """The item's picture with its visual prompt drawn, as a data URL; None if it has none, or it cannot be shown.

    Args:
        item: Of which the picture is.
        side: Longer side of what is drawn at most, in pixels.
    """
    if item.image is None:
        return None
    try:
        image = draw_query(item.image, item.prompt, side)
    except (ImageError, ValueError):  # a server may have read what is not here
        return None
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY, subsampling=0)  # thin lines keep their colour
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _example(task: Task, ranking: Ranking, number: int, rank: float) -> Example:
    query = task.queries[number]
    right, said = int(task.relevant[number][0]), int(ranking.top[number])
    return Example(
        id=task.ids[number],
        text=None if query.text is None else _short(query.text),
        image=picture_of(query),
        right=candidate_name(task, right),
        said=candidate_name(task, said),
        rank=rank,
        right_image=picture_of(task.candidates[right], CANDIDATE_SIDE),
        said_image=picture_of(task.candidates[said], CANDIDATE_SIDE),
    )


def _short(text: str) -> str:
    return textwrap.shorten(text, _LONGEST, placeholder="...")
