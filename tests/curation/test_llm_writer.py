import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from tests.curation import llm_answers
from tests.curation.llm_server import Faults, LlmServer, first_text
from virtue.curation.client import LlmClient
from virtue.curation.instructions import Instruction, Instructions, load_instructions
from virtue.curation.llm_settings import Settings
from virtue.curation.llm_writer import LlmWriter
from virtue.curation.picture import Picture
from virtue.curation.samples import Distractor, Elements, Fact, Other, Problem, Region
from virtue.curation.store import Curation
from virtue.curation.writers import Pick, WriterRefusal, swap, true_caption
from virtue.masks import to_rle
from virtue.prompts import Box

T = TypeVar("T")

REGION = Region(
    id="own/1",
    source="own",
    image="a.png",
    image_id="a",
    width=200,
    height=100,
    box=Box(20, 30, 60, 80),
    category="dog",
    caption="a dog; sleeping\non the grass",
    others=(Other("boat", Box(100, 30, 150, 80)), Other("kite", Box(0, 0, 9, 9)), Other("boat", Box(1, 1, 9, 9))),
    scene=("beach",),
    facts=(Fact("dog", "left of", "boat"),),
)
SAID = Elements("dog", "left of", "boat")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Curation(tmp_path / "run", make=True)
    yield run
    run.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def written(
    server: LlmServer,
    run: Curation,
    work: Callable[[LlmWriter], Coroutine[Any, Any, T]],
    instructions: Instructions | None = None,
) -> T:
    """What some work with a writer comes to."""

    async def main() -> T:
        settings = Settings(first_wait=0.01)
        async with LlmClient("tiny", run, base_url=server.url, settings=settings) as client:
            return await work(LlmWriter(client, instructions, side=128))

    return asyncio.run(main())


def test_what_was_refused_is_asked_anew_where_a_region_is_taken_up_again(run: Curation, image: Path) -> None:
    async def taken_up(client: LlmClient, tries: int) -> Elements | None:
        return await LlmWriter(client, side=128, tries=lambda region_id: tries * (region_id == REGION.id)).elements(
            REGION, image
        )

    async def main(server: LlmServer, tries: int) -> Elements | None:
        async with LlmClient("tiny", run, base_url=server.url, settings=Settings(first_wait=0.01)) as client:
            return await taken_up(client, tries)

    with LlmServer(faults=Faults(refused=1.0)) as server, pytest.raises(WriterRefusal):
        asyncio.run(main(server, 0))
    with LlmServer() as server:
        with pytest.raises(WriterRefusal, match="I cannot help"):
            asyncio.run(main(server, 0))
        assert asyncio.run(main(server, 1)) == SAID
        assert len(server.state.bought) == 1


def test_a_region_that_is_taken_up_again_is_asked_about_alike_in_every_run(run: Curation, image: Path) -> None:
    problem = Problem("wording", "Its words tell.")

    async def at_once(writer: LlmWriter) -> list[Distractor]:
        await writer.distractors(REGION, image, SAID, [])
        return await later(writer)

    async def later(writer: LlmWriter) -> list[Distractor]:
        elements = await writer.elements(REGION, image)
        assert elements is not None
        return await writer.distractors(REGION, image, elements, [problem])

    with LlmServer() as server:
        assert written(server, run, at_once) == written(server, run, later)
        assert len(server.state.bodies) == 3
    assert first_text(server.state.bodies[-1]).endswith("An earlier answer could not be used:\n- Its words tell.")


def test_elements_are_written_from_what_is_known(run: Curation, image: Path) -> None:
    with LlmServer() as server:
        assert written(server, run, lambda writer: writer.elements(REGION, image)) == SAID
    (body,) = server.state.bodies
    assert body["messages"][0]["content"] == load_instructions().elements.text
    assert first_text(body).splitlines() == [
        "Task: elements",
        "Category: dog",
        "Caption: a dog, sleeping on the grass",
        "Other things in the image: boat; kite",
        "Place: beach",
        "Known to be true: dog | left of | boat",
    ]


def test_nine_distractors_change_one_element_each(run: Curation, image: Path) -> None:
    with LlmServer() as server:
        made = written(server, run, lambda writer: writer.distractors(REGION, image, SAID, []))
    assert [distractor.kind for distractor in made] == ["object"] * 3 + ["relation"] * 3 + ["scene"] * 3
    for distractor in made:
        assert distractor.text == distractor.elements.caption()
        same = [name for name in ("object", "relation", "scene") if name != distractor.kind]
        assert all(getattr(distractor.elements, name) == getattr(SAID, name) for name in same)
        assert getattr(distractor.elements, distractor.kind) != getattr(SAID, distractor.kind)
    assert made[0].text == "kite left of boat"  # what is in the picture comes first


def test_problems_go_into_a_conversation_that_grows(run: Curation, image: Path) -> None:
    async def work(writer: LlmWriter) -> list[list[Distractor]]:
        attempts: list[list[Distractor]] = []
        problems: list[Problem] = []
        for _ in range(3):
            attempts.append(await writer.distractors(REGION, image, SAID, problems))
            problems = [Problem("synonym", "It means the same.", 4), Problem("length", "It is long.", None)]
        return attempts

    with LlmServer() as server:
        first = written(server, run, work)
        assert written(server, run, work) == first  # a repeated run asks the same
    assert [len(body["messages"]) for body in server.state.bodies] == [2, 4, 6]
    assert len({str(attempt) for attempt in first}) == 3
    relation = first[0][4].elements.relation
    assert server.state.bodies[1]["messages"][-1]["content"] == (
        f'Some of these cannot be used:\n- relation 2, "{relation}": It means the same.\n- It is long.\n'
        "Write all nine again: keep the others, replace these."
    )


def test_problems_that_nobody_remembers_are_told_all_the_same(run: Curation, image: Path) -> None:
    problem = Problem("synonym", "couch means sofa.", 2)
    with LlmServer() as server:
        written(server, run, lambda writer: writer.distractors(REGION, image, SAID, [problem]))
    assert first_text(server.state.bodies[0]).endswith("An earlier answer could not be used:\n- couch means sofa.")


def test_the_true_caption_is_picked_by_looking_alone(run: Curation, image: Path) -> None:
    captions = ["a cat on a mat", "a dog on a mat", "a dog under a mat", "a dog on a boat"]
    with LlmServer() as server:
        assert written(server, run, lambda writer: writer.pick(REGION, image, captions)) == Pick(1)
    text = first_text(server.state.bodies[0])
    assert text == "Task: pick\nCaptions:\n" + "\n".join(f"{n}. {words}" for n, words in enumerate(captions, 1))


def test_a_pick_counts_from_nought_and_stays_in_the_list(
    run: Curation, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"best": 5, "also_true": []}, {"best": 2, "also_true": [4, 1, 2, 4]}]
    monkeypatch.setattr(llm_answers, "answer", lambda text, turns: answers[turns])
    with LlmServer() as server:
        assert written(server, run, lambda writer: writer.pick(REGION, image, list("abcd"))) == Pick(1, (0, 3))
    objection = server.state.bodies[1]["messages"][-1]["content"]
    assert "best: 5 is no number of the list, which goes from 1 to 4" in objection


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"object": ["a", "b"], "relation": ["c"] * 3, "scene": ["d"] * 3}, "object: 3 are wanted, not 2"),
        ({"object": ["a", "b", " "], "relation": ["c"] * 3, "scene": ["d"] * 3}, "object: one of them is empty"),
        ({"object": ["x " * 13, "b", "c"], "relation": ["c"] * 3, "scene": ["d"] * 3}, "object: it has more than 12"),
    ],
)
def test_swaps_that_will_not_do_are_asked_for_again(
    run: Curation, image: Path, monkeypatch: pytest.MonkeyPatch, bad: dict[str, list[str]], said: str
) -> None:
    good = {kind: [f"{kind} {n}." for n in range(3)] for kind in ("object", "relation", "scene")}
    monkeypatch.setattr(llm_answers, "answer", lambda text, turns: good if turns else bad)
    with LlmServer() as server:
        made = written(server, run, lambda writer: writer.distractors(REGION, image, SAID, []))
    assert made[0].text == "object 0 left of boat"
    assert said in server.state.bodies[1]["messages"][-1]["content"]


def test_a_region_that_cannot_be_made_out_is_refused(
    run: Curation, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"object": "dog", "relation": "", "scene": ""}, {"object": "", "relation": "", "scene": " "}]
    monkeypatch.setattr(llm_answers, "answer", lambda text, turns: answers[turns])
    with LlmServer() as server, pytest.raises(WriterRefusal, match="tiny could not make the region out") as caught:
        written(server, run, lambda writer: writer.elements(REGION, image))
    assert caught.value.reason == "impossible"
    assert "relation: it is empty" in server.state.bodies[1]["messages"][-1]["content"]


def test_a_refusal_and_a_broken_image_drop_the_region(run: Curation, image: Path, tmp_path: Path) -> None:
    with LlmServer(faults=Faults(refused=1.0)) as server:
        with pytest.raises(WriterRefusal, match="tiny refused: I cannot help with that picture") as caught:
            written(server, run, lambda writer: writer.elements(REGION, image))
        assert caught.value.reason == "refused"
        (tmp_path / "b.png").write_bytes(b"no image")
        for name, message in (("b.png", "is not an image of a kind"), ("c.png", "No such file")):
            with pytest.raises(WriterRefusal, match=message) as caught:
                written(server, run, lambda writer, name=name: writer.pick(REGION, tmp_path / name, ["a", "b"]))
            assert caught.value.reason == "image"


def test_what_a_sample_is_marked_with(run: Curation, image: Path) -> None:
    own = Instructions(*(Instruction(name, "v9", f"{name}!") for name in ("elements", "distractors", "pick")))

    async def work(writer: LlmWriter) -> tuple[str, str]:
        await writer.elements(REGION, image)
        return writer.name, writer.instructions

    with LlmServer() as server:
        name, instructions = written(server, run, work, own)
    assert (name, instructions) == ("tiny", own.version)
    assert server.state.bodies[0]["messages"][0]["content"] == "elements!"


# The picture


def test_the_box_is_outlined_outside_of_it_and_downscaled(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "grey").save(tmp_path / "a.png")
    region = Region("own/1", "own", "a.png", "a", 400, 200, Box(100, 60, 200, 160), "dog")
    picture = Picture(region, tmp_path / "a.png", side=200)
    shown = picture.draw()
    assert shown.size == picture.size == (200, 100)
    assert [shown.getpixel((x, 50)) for x in (46, 47, 48, 49, 50, 99, 100, 101, 102, 103)] == [
        (128, 128, 128), (255, 255, 255), (255, 0, 0), (255, 0, 0), (128, 128, 128),
        (128, 128, 128), (255, 0, 0), (255, 0, 0), (255, 255, 255), (128, 128, 128),
    ]  # fmt: skip


def test_a_mask_is_outlined_along_its_edge(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "a.png")
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:20] = True
    region = Region("own/1", "own", "a.png", "a", 40, 40, Box(10, 10, 20, 30), "dog", segmentation=to_rle(mask))
    pixels = np.asarray(Picture(region, tmp_path / "a.png").draw())
    assert [tuple(pixels[20, x]) for x in (6, 7, 8, 9, 10, 11)] == [
        (128, 128, 128), (255, 255, 255), (255, 0, 0), (255, 0, 0), (255, 0, 0), (128, 128, 128),
    ]  # fmt: skip


def test_a_region_as_large_as_the_image_keeps_its_line(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "a.png")
    for segmentation in (None, to_rle(np.ones((40, 40), dtype=bool)), {"size": [1, 1], "counts": [0, 1]}):
        region = Region("own/1", "own", "a.png", "a", 40, 40, Box(0, 0, 40, 40), "sky", segmentation=segmentation)
        shown = Picture(region, tmp_path / "a.png").draw()
        assert {shown.getpixel(corner) for corner in ((0, 0), (0, 39), (39, 0), (39, 39))} == {(255, 0, 0)}
        assert shown.getpixel((20, 20)) == (128, 128, 128)


# Captions


def test_a_caption_that_holds_its_elements_is_kept_and_swapped_in_place() -> None:
    region = Region(
        "own/1", "own", "a", "a", 9, 9, Box(0, 0, 9, 9), "fork", caption="The salad fork lying on  the table."
    )
    elements = Elements("salad fork", "on", "table")
    caption = true_caption(region, elements)
    assert caption == "The salad fork lying on the table."
    assert swap(caption, elements, "relation", "under") == Distractor(
        "relation", Elements("salad fork", "under", "table"), "The salad fork lying under the table."
    )


def test_a_caption_that_lacks_an_element_or_has_another_order_is_put_together() -> None:
    for caption in ("forks on tables", "on the table a fork", None):
        region = Region("own/1", "own", "a", "a", 9, 9, Box(0, 0, 9, 9), "fork", caption=caption)
        elements = Elements("fork", "on", "table")
        assert true_caption(region, elements) == "fork on table"
        assert swap("fork on table", elements, "scene", " a  chair ").text == "fork on a chair"


@pytest.mark.parametrize(
    ("caption", "words", "swapped"),
    [
        ("A dog on a beach", "owl", "An owl on a beach"),
        ("an owl on a beach", "dog", "a dog on a beach"),
        ("the owl on a beach", "dog", "the dog on a beach"),
    ],
)
def test_the_article_follows_the_word_behind_it(caption: str, words: str, swapped: str) -> None:
    elements = Elements(caption.split()[1], "on a", "beach")
    assert swap(caption, elements, "object", words).text == swapped
