"""Results made by hand for tests of what reads them: figures that can be followed without a model."""

from virtue.evaluation.results import Curve, CurvePoint, Example, Interval, Results, TaskResult

PICTURE = "data:image/jpeg;base64,AAAA"


def task(name: str, hits: list[float], *, digest: str = "d1", **changes: object) -> TaskResult:
    """A task of as many queries as hits, each in a group of its own, ten candidates each."""
    count, mean = len(hits), sum(hits) / len(hits)
    fields: dict[str, object] = {
        "name": name,
        "queries": count,
        "candidates": 10 * count,
        "metrics": {"hit@1": Interval(mean, mean - 0.1, mean + 0.1), "mrr": Interval(mean, mean, mean)},
        "by": {},
        "chance": 0.1,
        "guesser": None,
        "missing": {},
        "ids": [str(number) for number in range(count)],
        "groups": [str(number) for number in range(count)],
        "ranks": [[[0, 1]] for _ in hits],
        "hits": hits,
        "top": [0] * count,
        "digest": digest,
        "examples": [],
    }
    return TaskResult(**{**fields, **changes})  # type: ignore[arg-type]


def results(*tasks: TaskResult, strategy: str = "prompt", **changes: object) -> Results:
    """A run of a model called nano."""
    fields: dict[str, object] = {
        "model": "nano",
        "fingerprint": "f00d",
        "strategy": strategy,
        "dimension": 192,
        "settings": {"batch_size": 32, "limit": None},
        "versions": {"torch": "2.13.0"},
        "made": "2026-01-01T00:00:00+00:00",
        "tasks": list(tasks),
        "curves": [],
    }
    return Results(**{**fields, **changes})  # type: ignore[arg-type]


def curve(disturbance: str = "box jittered", task: str = "scenes/region-to-caption") -> Curve:
    """From 80 % undisturbed to 60 % at the worst."""
    severities = (0.0, 0.1, 0.2)
    points = [CurvePoint(at, f"{100 * at:g} %", Interval(0.8 - at, 0.7 - at, 0.9 - at), 30) for at in severities]
    return Curve(task, disturbance, "share of the side", points)


def example(**changes: object) -> Example:
    """A query that went wrong."""
    fields: dict[str, object] = {
        "id": "scene 3",
        "text": None,
        "image": PICTURE,
        "right": "a dog on a beach",
        "said": "a cat on a beach",
        "rank": 3.0,
    }
    return Example(**{**fields, **changes})  # type: ignore[arg-type]
