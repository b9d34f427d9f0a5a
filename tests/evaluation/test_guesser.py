from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest

from virtue.evaluation.guesser import text_guesser
from virtue.evaluation.tasks import Task
from virtue.items import Item
from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.guesser import Guesser
from virtue.scenes.renderer import scenes

WORDS = [f"word{number}" for number in range(200)]


def task_of(lists: Sequence[Sequence[str]], groups: Sequence[str] = (), relevant: Sequence[int] | None = None) -> Task:
    """Lists whose first text is right, if nothing else is said."""
    places = {text: place for place, text in enumerate(dict.fromkeys(chain.from_iterable(lists)))}
    listed = [np.array([places[text] for text in own]) for own in lists]
    right = [own[[number]] for own, number in zip(listed, relevant or [0] * len(lists), strict=True)]
    return Task(
        "x/y", [Item(text="?")] * len(lists), [Item(text=text) for text in places], right, listed, groups=groups
    )


def guess(lists: Sequence[Sequence[str]], **options: Sequence[str]) -> float:
    figure = text_guesser(task_of(lists, **options))
    assert figure is not None
    return figure


def said(rng: np.random.Generator, length: int) -> str:
    return " ".join(rng.choice(WORDS, length))


def test_what_is_always_longest_is_found() -> None:
    rng = np.random.default_rng(0)
    lists = [[said(rng, 8), *(said(rng, int(rng.integers(3, 8))) for _ in range(9))] for _ in range(150)]
    assert guess(lists) > 0.98


def test_nothing_is_found_in_random_texts() -> None:
    rng = np.random.default_rng(1)
    figure = guess([[said(rng, 6) for _ in range(10)] for _ in range(250)])
    assert figure == pytest.approx(0.1, abs=0.057)  # three standard errors


def test_the_centre_of_its_swaps_is_found() -> None:
    rng = np.random.default_rng(2)
    lists = []
    for _ in range(120):
        true = rng.choice(WORDS, 4, replace=False)
        swaps = [true.copy() for _ in range(9)]
        for number, swap in enumerate(swaps):
            swap[number % 3] = f"other{number}"
        lists.append([" ".join(words) for words in (true, *swaps)])
    assert guess(lists) > 0.9


def test_words_that_only_wrong_texts_use_are_learned() -> None:
    rng = np.random.default_rng(3)
    lists = [[f"{said(rng, 3)} table", f"{said(rng, 3)} abyss"] for _ in range(150)]
    assert guess(lists) > 0.98


def test_a_label_that_is_mostly_right_is_learned() -> None:
    figure = guess([["no", "yes"]] * 150, relevant=[0, 0, 0, 1, 0] * 30)
    assert figure == pytest.approx(0.8)


def test_true_texts_of_other_lists_give_nothing_away() -> None:
    rng = np.random.default_rng(4)
    true = [said(rng, 6) for _ in range(250)]
    others = [[true[place] for place in rng.choice(250, 10, replace=False) if place != row][:9] for row in range(250)]
    assert guess([[text, *wrong] for text, wrong in zip(true, others, strict=True)]) == pytest.approx(0.1, abs=0.057)


def test_the_order_of_a_list_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    lists = [[said(rng, 5), *(said(rng, int(rng.integers(3, 7))) for _ in range(4))] for _ in range(60)]
    task = task_of(lists)
    turned = Task("x/y", task.queries, task.candidates, task.relevant, [own[::-1] for own in task.lists or ()])
    assert text_guesser(turned) == text_guesser(task)


def test_texts_that_nothing_tells_apart_are_an_even_chance() -> None:
    assert guess([["dog", "cat"], ["cat", "dog"]] * 20) == pytest.approx(0.5, abs=0.01)


def test_the_drawn_world_gives_no_more_away_than_to_its_own_guesser() -> None:
    samples = [
        (str(scene.seed), s)
        for scene in scenes("test", 0, 60, 96, 96)
        for s in region_samples(scene, caption_rng(scene))
    ]
    figure = guess([(s.caption, *s.distractors) for _, s in samples], groups=[group for group, _ in samples])
    half = len(samples) // 2
    own = Guesser().fit([s for _, s in samples[half:]]).accuracy([s for _, s in samples[:half]])
    assert figure == pytest.approx(0.125, abs=0.07)
    assert own == pytest.approx(0.125, abs=0.1)


def test_groups_are_not_learned_from_themselves() -> None:
    lists = [["alpha", "beta"]] * 4 + [["beta", "alpha"]] * 4
    right = text_guesser(task_of(lists, groups=["a"] * 4 + ["b"] * 4))
    assert right == 0  # what one group teaches is wrong of the other


def test_lists_of_different_lengths_and_several_right_texts() -> None:
    rng = np.random.default_rng(6)
    texts = [Item(text=said(rng, 3)) for _ in range(300)] + [Item(text=said(rng, 9)) for _ in range(100)]
    wrong = [rng.choice(300, int(rng.integers(2, 8)), replace=False) for _ in range(100)]
    right = [np.array([300 + row, 300 + (row + 1) % 100]) for row in range(100)]
    lists = [np.concatenate(pair) for pair in zip(wrong, right, strict=True)]
    assert text_guesser(Task("x/y", [Item(text="?")] * 100, texts, right, lists)) == 1


def test_what_is_no_choice_between_texts_is_not_guessed() -> None:
    queries, first = [Item(text="?")] * 2, [np.array([0])] * 2
    long = [Item(text=f"text {number}") for number in range(51)]
    assert text_guesser(Task("x/y", queries, long, first)) is None
    assert text_guesser(Task("x/y", queries, [Item(image="a.png"), Item(text="b")], first)) is None
    assert text_guesser(Task("x/y", queries, long[:5], first, groups=["one", "one"])) is None
