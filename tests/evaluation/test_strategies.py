"""How a region is shown to a model without visual prompts, on pictures of a few pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from virtue import Box, Item, Mask, Point, Points
from virtue.evaluation import drawing
from virtue.evaluation.changes import changed
from virtue.evaluation.strategies import STRATEGIES, strategy_changes
from virtue.images import open_image
from virtue.prompts import AnyPrompt, VisualPrompt
from virtue.templates import released

WIDTH, HEIGHT = 40, 20
BOX = Box(10, 4, 20, 12)
PICTURES = [name for name, strategy in STRATEGIES.items() if strategy.is_picture]


def numbered() -> Image.Image:
    """A picture whose red says the column and whose green the row."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 200)], axis=-1).astype(np.uint8))


def item(prompt: AnyPrompt | None = BOX, text: str | None = "what is it") -> Item:
    return Item(text=text, image=numbered(), prompt=prompt)


def shown(strategy: str, given: Item) -> Item:
    return changed(given, strategy_changes(strategy))


def pixels(given: Item) -> np.ndarray:
    assert given.image is not None
    return np.asarray(given.image)


def disc() -> Mask:
    """Ten pixels: columns 30 and 31 of rows 5 to 9."""
    array = np.zeros((HEIGHT, WIDTH), dtype=bool)
    array[5:10, 30:32] = True
    return Mask(array)


def test_every_strategy_has_a_line_of_description() -> None:
    assert list(STRATEGIES) == [
        "prompt", "none", "box-in-text", "crop", "crop-margin", "red-circle", "blur", "darken", "alpha",
    ]  # fmt: skip
    assert all(strategy.description and "\n" not in strategy.description for strategy in STRATEGIES.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_item_without_a_visual_prompt_is_handed_back_itself(name: str) -> None:
    for given in (Item(text="a dog"), item(None)):
        assert shown(name, given) is given


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "prompt"])
def test_every_strategy_but_prompt_takes_the_place_of_the_visual_prompt(name: str) -> None:
    assert shown(name, item()).prompt is None
    assert strategy_changes("prompt") == ()


def test_changes_are_named_with_their_amounts() -> None:
    names = [change.name for change in strategy_changes("crop-margin+blur")]
    assert names == ["crop-margin 0.25", "blur 0.05", "none"]


# Words


def test_the_box_is_said_in_the_words_of_the_released_format() -> None:
    text = shown("box-in-text", item()).text
    assert text == "what is it\nReferring object bbox: [10.0, 4.0, 20.0, 12.0]"
    prompt = VisualPrompt(box=BOX)
    assert released(text, has_image=True, prompt=None) == released("what is it", has_image=True, prompt=prompt)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (disc(), "Referring object bbox: [30.0, 5.0, 32.0, 10.0]"),
        (disc() + BOX, "Referring object bbox: [30.0, 5.0, 32.0, 10.0]"),
        (Point(3, 4), "Referring object point: (3, 4)"),
        (Points([(3, 4), (8, 9)], exclude=[(1, 1)]), "Referring object point: (3, 4)"),
    ],
)
def test_other_visual_prompts_in_words(prompt: AnyPrompt, words: str) -> None:
    assert shown("box-in-text", item(prompt, text=None)).text == words


def test_what_only_excludes_cannot_be_said_in_words() -> None:
    with pytest.raises(ValueError, match="without a point on the object"):
        shown("box-in-text", item(Point(1, 1, include=False)))


def test_the_picture_is_not_opened_to_say_its_box(tmp_path: Path) -> None:
    given = Item(image=tmp_path / "missing.png", prompt=BOX)
    assert shown("box-in-text", given).image == tmp_path / "missing.png"


# Pictures


def test_a_crop_holds_the_pixels_of_the_box() -> None:
    np.testing.assert_array_equal(pixels(shown("crop", item())), pixels(item())[4:12, 10:20])


def test_a_crop_touches_every_pixel_that_the_box_does() -> None:
    assert pixels(shown("crop", item(Box(10.6, 4.2, 19.1, 11.5)))).shape == (8, 10, 3)


def test_a_margin_is_a_quarter_on_each_side_and_ends_at_the_border() -> None:
    np.testing.assert_array_equal(pixels(shown("crop-margin", item())), pixels(item())[2:14, 7:23])
    np.testing.assert_array_equal(pixels(shown("crop-margin", item(Box(32, 0, 40, 16)))), pixels(item())[0:20, 30:40])


@pytest.mark.parametrize("box", [Box(39.5, 19.5, 40, 20), Box(0, 0, 0.2, 0.2)])
def test_a_box_of_less_than_a_pixel_is_a_crop_of_one(box: Box) -> None:
    assert pixels(shown("crop", item(box))).shape == (1, 1, 3)


@pytest.mark.parametrize("name", ["blur", "darken"])
def test_the_region_is_untouched_and_all_else_changed(name: str) -> None:
    for prompt, inside in ((BOX, drawing.inside(VisualPrompt(box=BOX), (WIDTH, HEIGHT))), (disc(), disc().array)):
        given = item(prompt)
        given = Item(image=Image.fromarray(pixels(given) * np.uint8(6)), prompt=prompt)
        before, after = pixels(given).astype(int), pixels(shown(name, given)).astype(int)
        np.testing.assert_array_equal(before[inside], after[inside])
        # The blue is flat, so a blur leaves it; darkness leaves a quarter of it.
        assert (after[~inside][:, 2] == before[0, 0, 2] / (4 if name == "darken" else 1)).all()
        assert (before[~inside] != after[~inside]).any()


def test_a_red_ellipse_touches_the_box_from_outside() -> None:
    red = (pixels(shown("red-circle", item())) == (255, 0, 0)).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (9, 3, 20, 12)  # the box's pixels are 10-19, 4-11
    assert not red[6:10, 13:17].any()


def test_a_red_ellipse_around_everything_is_seen() -> None:
    red = (pixels(shown("red-circle", item(Box(0, 0, WIDTH, HEIGHT)))) == (255, 0, 0)).all(axis=-1)
    assert red[0].any() and red[-1].any() and red[:, 0].any() and red[:, -1].any()


def test_alpha_is_opaque_in_the_region_and_white_to_others() -> None:
    after = shown("alpha", item(disc()))
    np.testing.assert_array_equal(pixels(after)[..., 3], disc().array * 255)
    np.testing.assert_array_equal(pixels(after)[..., :3], pixels(item()))
    assert after.image is not None and open_image(after.image).getpixel((0, 0)) == (255, 255, 255)


def test_a_click_means_a_square_of_a_quarter_of_the_shorter_side() -> None:
    # An eighth of 20 pixels is 2.5 on each side.
    np.testing.assert_array_equal(pixels(shown("crop", item(Point(20.5, 10.5)))), pixels(item())[8:13, 18:23])
    np.testing.assert_array_equal(pixels(shown("crop", item(Point(0, 20)))), pixels(item())[17:20, 0:3])
    spread = Points([(10, 5), (20, 9)], exclude=[(39, 19)])
    np.testing.assert_array_equal(pixels(shown("crop", item(spread))), pixels(item())[2:12, 7:23])


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_any_mode_and_one_pixel(name: str, mode: str) -> None:
    for size in ((9, 7), (1, 1)):
        given = Item(image=Image.new("RGB", size).convert(mode), prompt=Box(0, 0, 1, 1))
        assert pixels(shown(name, given)).shape[2] == (4 if name == "alpha" else 3)


def test_a_picture_is_upright_before_its_region_is_cut_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    numbered().save(tmp_path / "lying.png", exif=exif)
    given = Item(image=tmp_path / "lying.png", prompt=Box(0, 30, 20, 40))  # the picture is 20 wide and 40 high
    assert pixels(shown("crop", given)).shape == (10, 20, 3)


@pytest.mark.parametrize("name", PICTURES)
def test_a_region_outside_the_picture_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"Box\(10, 4, 99, 12\) reaches outside the image of 40 x 20"):
        shown(name, item(Box(10, 4, 99, 12)))


# Joined


def test_words_after_a_crop_speak_of_the_crop_and_before_it_of_the_whole() -> None:
    after, before = shown("crop-margin+box-in-text", item()), shown("box-in-text+crop-margin", item())
    assert after.text == "what is it\nReferring object bbox: [3.0, 2.0, 13.0, 10.0]"
    assert before.text == "what is it\nReferring object bbox: [10.0, 4.0, 20.0, 12.0]"
    np.testing.assert_array_equal(pixels(after), pixels(before))


def test_joined_with_prompt_the_visual_prompt_stays_in_the_frame_of_the_picture() -> None:
    assert shown("prompt+box-in-text", item()).prompt == BOX
    given = item(disc() + Point(30.5, 5.5) + Point(1, 1, include=False) + BOX)
    moved = shown("crop+prompt", given).prompt
    # The box and the excluding click lie outside the mask's crop of 2 x 5.
    assert moved == VisualPrompt(points=(Point(0.5, 0.5),), mask=Mask(np.ones((5, 2), dtype=bool)))


def test_a_circle_is_drawn_in_a_crop() -> None:
    red = (pixels(shown("crop-margin+red-circle", item())) == (255, 0, 0)).all(axis=-1)
    assert red.shape == (12, 16) and red.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cropped", "There is no strategy 'cropped'; there are prompt, none, box-in-text, crop"),
        ("", "There is no strategy ''"),
        ("crop+", "There is no strategy ''"),
        ("prompt+none", "none shows no region"),
        ("crop+crop-margin", "crops twice"),
        ("blur+blur", "names blur twice"),
        ("alpha+crop", "put alpha last"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strategy_changes(name)


def test_the_same_item_is_changed_the_same_way_twice() -> None:
    for name in PICTURES:
        np.testing.assert_array_equal(pixels(shown(name, item())), pixels(shown(name, item())))
