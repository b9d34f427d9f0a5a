"""Opening images: every source and mode gives the picture that a viewer shows, and broken ones one clear sentence."""

import base64
import io
import os
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from virtue.images import FORMATS, ImageError, image_key, image_size, load_image, open_image, thumbnail

RED, WHITE = (255, 0, 0), (255, 255, 255)


def picture() -> np.ndarray:
    """A picture (8, 12, 3) that is another one after any turn or flip: dark left, red top, blue bottom right."""
    array = np.full((8, 12, 3), 200, dtype=np.uint8)
    array[:, :4] = 30
    array[:2] = (220, 20, 20)
    array[5:, 9:] = (20, 20, 220)
    return array


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(source: object, **options: object) -> np.ndarray:
    image = open_image(source, **options)  # type: ignore[arg-type]
    assert image.mode == "RGB"
    return np.asarray(image)


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    array = picture()
    data = encoded(Image.fromarray(array))
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    stream.read(3)
    with path.open("rb") as file:
        sources = [
            path,
            str(path),
            data,
            bytearray(data),
            stream,
            stream,  # read a second time
            file,
            f"data:image/png;base64,{base64.b64encode(data).decode()}",
            f"data:image/png,{quote(data)}",
            Image.fromarray(array),
            array,
            array.astype(np.int64),
            array / 255,
            (array / 255).astype(np.float32),
            array.astype(np.uint16) * 257,
            torch.from_numpy(array),
            torch.from_numpy(array).permute(2, 0, 1),
            torch.from_numpy(array).permute(2, 0, 1) / 255,
        ]
        for source in sources:
            assert np.array_equal(pixels(source), array), type(source)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_opens(kind: str) -> None:
    data = encoded(Image.new("RGB", (9, 7), (200, 100, 50)), kind)
    assert np.abs(pixels(data).astype(int) - (200, 100, 50)).max() <= 3  # some formats are lossy


FIRST_ROW_AND_COLUMN = ["top left", "top right", "bottom right", "bottom left"]
FIRST_ROW_AND_COLUMN += ["left top", "right top", "right bottom", "left bottom"]


def unturned(shown: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels of a picture: the EXIF standard says which side of it the first row and column are."""
    row, column = FIRST_ROW_AND_COLUMN[orientation - 1].split()
    stored = shown.transpose(1, 0, 2) if row in ("left", "right") else shown
    if row in ("right", "bottom"):
        stored = stored[::-1]
    if column in ("right", "bottom"):
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_all_eight_orientations_show_the_same_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    big = picture().repeat(8, axis=0).repeat(8, axis=1)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(unturned(big, orientation)), kind, exif=exif, **options)
    assert np.abs(pixels(data).astype(int) - big).mean() < 2
    once = open_image(data)
    assert np.array_equal(pixels(once), np.asarray(once))  # not turned again
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(pixels(image), np.asarray(once))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_the_size_of_a_file_is_that_of_the_picture_turned(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(unturned(picture(), orientation)), kind, exif=exif))
    assert image_size(path) == image_size(str(path)) == open_image(path).size == (12, 8)


def test_the_size_is_read_without_the_pixels(tmp_path: Path) -> None:
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded(big, "JPEG")[:2000])
    assert image_size(path) == (300, 200)
    with pytest.raises(ImageError, match="is damaged"):
        open_image(path)


def test_what_has_no_size_is_refused_in_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "words.png"
    text.write_text("no picture")
    huge = tmp_path / "huge.gif"  # only a header: 65,535 x 65,535
    huge.write_bytes(b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x00;")
    with pytest.raises(ImageError, match=r"missing\.png does not exist\."):
        image_size(tmp_path / "missing.png")
    with pytest.raises(ImageError, match=r"words\.png is not an image"):
        image_size(text)
    with pytest.raises(ImageError, match=r"huge\.gif .*more"):
        image_size(huge)


def test_broken_exif_is_no_reason_to_refuse() -> None:
    data = encoded(Image.fromarray(picture()), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert pixels(data).shape == (8, 12, 3)


def test_palette_images() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    assert pixels(encoded(image)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(encoded(image, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert pixels(encoded(image, transparency=b"\x00\xff")).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_alpha_is_blended_on_white() -> None:
    half = (255, 127, 127)  # 255 * 128 / 255 of red and the rest of white
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 128), (255, 0, 0, 0)])
    for source in (image, encoded(image), np.asarray(image), encoded(image, "WEBP", lossless=True, exact=True)):
        assert pixels(source).tolist() == [[list(RED), list(half), list(WHITE)]]
    grey = Image.new("LA", (2, 1))
    grey.putdata([(10, 255), (10, 0)])
    assert pixels(encoded(grey)).tolist() == [[[10, 10, 10], [255, 255, 255]]]
    keyed = Image.new("RGB", (2, 1), RED)
    keyed.putpixel((1, 0), (1, 2, 3))
    assert pixels(encoded(keyed, transparency=(1, 2, 3))).tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 100 * 257, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(values), kind)
    assert pixels(data)[..., 0].tolist() == [[0, 1, 100, 255]]
    assert pixels(values).tolist() == pixels(data).tolist()


def test_transparent_sixteen_bit_grey_is_white() -> None:
    data = encoded(Image.fromarray(np.array([[257, 514]], dtype=np.uint16)), transparency=257)
    assert pixels(data)[..., 0].tolist() == [[255, 2]]


def test_turned_sixteen_bit_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(Image.fromarray(np.array([[257, 514]], dtype=np.uint16)), exif=exif)
    assert pixels(data)[..., 0].tolist() == [[2, 1]]


def test_wider_values_must_be_in_range() -> None:
    assert pixels(Image.fromarray(np.array([[0.0, 0.2, 1.0]], dtype=np.float32)))[..., 0].tolist() == [[0, 51, 255]]
    with pytest.raises(ImageError, match="16 bits hold 0 to 65535"):
        open_image(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))
    with pytest.raises(ImageError, match="must hold values from 0 to 1, got 0 to 300"):
        open_image(Image.fromarray(np.array([[0, 300]], dtype=np.float32)))


def test_one_bit_and_cmyk() -> None:
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert pixels(encoded(bits))[..., 0].tolist() == [[0, 255]]
    for kind in ("JPEG", "TIFF"):
        data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind)
        assert np.abs(pixels(data).astype(int) - RED).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, loop=0)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    assert np.abs(pixels(data).astype(int) - RED).max() <= 3


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (np.array([[0, 9]], dtype=np.uint8), [[0, 9]]),
        (np.array([[[0], [9]]], dtype=np.uint8), [[0, 9]]),
        (np.array([[False, True]]), [[0, 255]]),
        (np.array([[-0.0005, 0.5, 1.0005]]), [[0, 128, 255]]),
        (torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16), [[0, 255]]),
        (torch.tensor([[0.0, 1.0]], requires_grad=True), [[0, 255]]),
    ],
)
def test_grey_arrays(array: object, shown: list[list[int]]) -> None:
    assert pixels(array)[..., 0].tolist() == shown


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 9), dtype=np.uint8), r"ndarray of shape \(3, 8, 9\) is not one image"),
        (torch.zeros(1, 3, 8, 9), r"Tensor of shape \(1, 3, 8, 9\) is not one image"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"no pixels: its size is 4 x 0"),
        (np.array([[0.0, 255.0]]), r"float64 must hold values from 0 to 1, got 0 to 255"),
        (np.array([[0.0, np.nan]]), r"got nan to nan"),
        (np.array([[-1, 5]]), r"must hold values from 0 to 255, got -1 to 5"),
        (np.array([[1j]]), r"holds complex128"),
        (3, r"Cannot open a int as an image"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(array)  # type: ignore[arg-type]


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        path = tmp_path / f"cut.{kind.lower()}"
        data = encoded(noise, kind)
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(
            ImageError, match=rf"cut\.{kind.lower()} (is damaged|cannot be read as an image|is not an image)"
        ):
            open_image(path)


def test_files_that_are_no_image_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.jpg").write_text("not an image at all")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in {
        "empty.png": "is empty",
        "notes.jpg": "is not an image of a kind that is read",
        "folder.png": "is a folder, not an image",
        "pipe.png": "is not a regular file",
        "none.png": "does not exist",
        "x" * 300: "cannot be read: File name too long",
    }.items():
        with pytest.raises(ImageError, match=f"{name} {message}"):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match="is not an image of a kind"):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript
    with pytest.raises(ImageError, match="open it in binary mode"):
        open_image(io.StringIO("text"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64", "has no comma"),
        ("data:image/png;base64,a*b", "not valid base64"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png,hello", "is not an image"),
    ],
)
def test_malformed_data_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(ImageError, match=f"The data URL.*{message}"):
        open_image(url)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises this size and holds a single grey pixel."""
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_sizes_are_checked_before_decoding() -> None:
    with pytest.raises(ImageError, match="more pixels than PIL agrees to decode"):
        open_image(png_header(30_000, 30_000))
    with pytest.raises(ImageError, match="is 10001 x 10001, more than the 100,000,000 pixels that are decoded"):
        open_image(png_header(10_001, 10_001))  # PIL itself would only warn
    for source in (picture(), Image.fromarray(picture()), encoded(Image.fromarray(picture()))):
        assert pixels(source, max_pixels=96).shape == (8, 12, 3)
        with pytest.raises(ImageError, match="is 12 x 8, more than the 95 pixels"):
            open_image(source, max_pixels=95)


@given(
    st.integers(0, 5),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_damage_of_any_kind_is_refused_or_harmless(kind: int, length: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(picture()), ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")[kind]))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        image = open_image(bytes(data[: length % len(data) + 1]))
    except ImageError as error:
        assert str(error).startswith("The image of ")
    else:
        assert image.mode == "RGB"


def test_load_image_keeps_the_mode() -> None:
    assert load_image(encoded(Image.new("1", (2, 2)))).mode == "1"
    assert load_image(encoded(Image.new("P", (2, 2)))).mode == "P"


def test_image_key(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(picture()).save(path)
    before = image_key(path)
    assert before == image_key(str(path)) == image_key(tmp_path / "." / "picture.png")
    os.utime(path, ns=(1, 1))
    assert image_key(path) != before
    data = path.read_bytes()
    assert image_key(data) == image_key(bytes(bytearray(data))) != image_key(data + b"\0")
    array = picture()
    assert image_key(array) == image_key(array) != image_key(array.copy())
    assert image_key("https://example.org/a.png") != image_key("https://example.org/b.png")
    assert image_key("none.png") == image_key(Path("none.png")) != image_key("other.png")


def test_thumbnail_keeps_shape_and_source() -> None:
    image = Image.new("RGB", (40, 20))
    assert thumbnail(image, 10).size == (10, 5)
    assert thumbnail(image, 100).size == (40, 20)
    assert image.size == (40, 20)
