"""How often a guesser that reads the candidates of a task, and sees neither query nor image, finds a right one.

`virtue.data.text_guesser` is the guesser; here it is given the lists of a task. Its figure stands beside a model's:
where both are the same, the model may have read no more than the wording.
"""

from __future__ import annotations

from virtue.data.text_guesser import guesses_of_places
from virtue.evaluation.tasks import Task

LONGEST = 50
"""Of longer lists nothing is guessed: those are searches, not choices between written answers."""


def text_guesser(task: Task, seed: int = 0) -> float | None:
    """How often a guesser that reads the candidates only puts a right one first.

    Args:
        task: What is guessed. Its queries are not looked at.
        seed: Deals the folds and starts the network.

    Returns:
        Hit@1 in [0, 1], a tie counting as an even chance; None where a list is longer than `LONGEST` or not all texts,
        or there is but one group, so that there is nothing to learn from.
    """
    listed = [task.listed(query) for query in range(len(task.queries))]
    if len(set(task.groups)) < 2 or any(len(own) > LONGEST for own in listed):
        return None
    if any(item.image is not None or item.text is None for item in task.candidates):
        return None
    texts = [item.text or "" for item in task.candidates]
    found = guesses_of_places(texts, listed, task.relevant, task.groups, seed=seed)
    return None if found is None else float(found.hits.mean())
