"""Opens images from anywhere as upright RGB, and refuses what is broken or hostile in one sentence.

Every source ends as the same kind of picture: first frame, turned as its EXIF orientation says, eight bits,
transparency blended on white. Shapes: (H, W, C) with H the height, W the width, C the channels. Sizes are checked in
the header, before anything is decoded, and no global setting of PIL is touched.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from virtue.remote import ImageError, fetch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ImageError",
    "ImageSource",
    "image_key",
    "image_size",
    "is_image_source",
    "is_url",
    "load_image",
    "open_image",
    "thumbnail",
]

ImageSource: TypeAlias = "str | Path | bytes | BinaryIO | Image.Image | NDArray[Any] | Tensor"
"""A path, URL or data URL; the bytes of a file, or the open file; a PIL image, an array or a tensor."""

_Read = TypeVar("_Read")

MAX_PIXELS = 100_000_000
"""More pixels than this are refused by default: as RGB they would take 300 MB."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is read. PIL knows more, but some of it starts other programs or is seldom attacked and seldom mended."""

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WARNINGS_LOCK = threading.Lock()
_SHARED_LOCK = threading.Lock()  # PIL decodes a picture on its first use, which two threads must not do at once


def open_image(source: ImageSource, *, allow_urls: bool = False, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image as upright RGB.

    Args:
        source: A path, the bytes of a file, an open file, a data URL, a PIL image, an array (H, W) or (H, W, C), or a
            tensor, (C, H, W) or (H, W, C). Arrays hold integers from 0 to 255, uint16, bool, or floats from 0 to 1.
        allow_urls: Whether an `http(s)://` URL may be fetched; addresses that are not public are refused all the same.
        max_pixels: The largest width times height that is decoded.

    Returns:
        A picture of mode RGB. It may be the source itself when that is an upright RGB image of PIL's.

    Raises:
        ImageError: If there is no such file, it is no image, is damaged, or is too large.
    """
    return _to_rgb(load_image(source, allow_urls=allow_urls, max_pixels=max_pixels), _name(source))


def load_image(source: ImageSource, *, allow_urls: bool = False, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens and turns an image as `open_image` does, but leaves it in the mode it was stored in.

    Args:
        source: As for `open_image`.
        allow_urls: As for `open_image`.
        max_pixels: As for `open_image`.

    Returns:
        A decoded picture of any mode.

    Raises:
        ImageError: If there is no such file, it is no image, is damaged, or is too large.
    """
    name = _name(source)
    if isinstance(source, Image.Image):
        with _SHARED_LOCK:
            return _decode(source, name, max_pixels)
    if isinstance(source, str) and is_url(source):
        source = _read_url(source, allow_urls)
    if isinstance(source, str | Path):
        return _read_path(Path(source), name, lambda stream: _open_stream(stream, name, max_pixels))
    if isinstance(source, bytes | bytearray | memoryview):
        return _open_stream(io.BytesIO(source), name, max_pixels)
    if _is_tensor(source):
        return _from_array(_tensor_to_array(source, name), name, max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, name, max_pixels)
    if hasattr(source, "read"):
        return _open_stream(io.BytesIO(_read_all(source)), name, max_pixels)
    raise ImageError(f"Cannot open a {type(source).__name__} as an image.")


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file as `open_image` would give it, after the EXIF turn.

    Only the header is read, except of a PNG without a turn in it: that may still follow behind the pixels.

    Args:
        path: The file.

    Raises:
        ImageError: If there is no such file, it is no image, or is too large.
    """
    name = str(path)
    return _read_path(Path(path), name, lambda stream: _upright_size(_identify(stream, name), name))


def is_image_source(value: object) -> TypeGuard[ImageSource]:
    """Whether `open_image` would try to open the value; a str counts, as it may be a path."""
    kinds = (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(value, kinds) or _is_tensor(value) or hasattr(value, "read")


def image_key(source: ImageSource) -> Hashable:
    """A key that two sources share only if they are the same picture, so that it is computed once.

    A file goes by path, time of change and size; bytes by their digest; an object in memory by its identity, so the key
    is good while the object lives and nobody writes to it.

    Args:
        source: Anything `open_image` opens. It is not opened.
    """
    if isinstance(source, str) and is_url(source):
        return ("url", hashlib.blake2b(source.encode()).hexdigest())
    if isinstance(source, str | Path):
        try:
            path = Path(source).resolve()
            status = path.stat()
        except (OSError, ValueError):
            return ("missing", str(source))
        return ("file", str(path), status.st_mtime_ns, status.st_size)
    if isinstance(source, bytes | bytearray | memoryview):
        return ("bytes", hashlib.blake2b(source).hexdigest())
    return ("object", id(source))


def thumbnail(image: Image.Image, size: int) -> Image.Image:
    """A copy that fits a square of `size` pixels, never enlarged.

    Args:
        image: A picture of mode RGB.
        size: Its longer side at most, in pixels.
    """
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return small


# From the source to a decoded picture


def is_url(source: str) -> bool:
    """Whether a text is taken as a URL (`http`, `https` or `data`), and not as a path."""
    return source[:8].lower().startswith(("http://", "https://", "data:"))


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported torch
    return torch is not None and isinstance(value, torch.Tensor)


def _name(source: object) -> str:
    """What an error message calls the source."""
    if isinstance(source, str) and source[:5].lower() == "data:":
        return "The data URL"
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"The image of {len(source):,} bytes"
    if isinstance(source, ImageFile.ImageFile) and source.filename:
        return str(source.filename)
    return f"The {type(source).__name__}"


def _read_url(url: str, allow_urls: bool) -> bytes:
    if url[:5].lower() == "data:":
        return _read_data_url(url)
    if not allow_urls:
        raise ImageError(
            f"{url} is a URL, and URLs are not fetched unless that is asked for: open it with "
            "virtue.images.open_image(url, allow_urls=True)."
        )
    return fetch(url)


def _read_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise ImageError("The data URL has no comma; it should read data:image/png;base64,...")
    data = unquote_to_bytes(body.strip())
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error as error:
        raise ImageError(f"The data URL is not valid base64: {error}.") from error


def _read_all(file: Any) -> bytes:
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"The open file cannot be read: {error}.") from error
    if not isinstance(data, bytes):
        raise ImageError("The open file gives text; open it in binary mode.")
    return data


def _read_path(path: Path, name: str, read: Callable[[BinaryIO], _Read]) -> _Read:
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not an image.")
        if not path.exists():
            raise ImageError(f"{name} does not exist.")
        if not path.is_file():  # a pipe or a device could be read for ever
            raise ImageError(f"{name} is not a regular file.")
        with path.open("rb") as stream:
            return read(stream)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}.") from error


def _open_stream(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    return _decode(_identify(stream, name), name, max_pixels)


def _identify(stream: BinaryIO, name: str) -> Image.Image:
    """The picture that a file promises, its pixels not yet read."""
    if not stream.read(1):
        raise ImageError(f"{name} is empty.")
    stream.seek(0)
    try:
        with _quietly():
            return Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more pixels than PIL agrees to decode.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image of a kind that is read ({', '.join(FORMATS)}).") from None
    except Exception as error:  # a broken file can raise almost anything in PIL's parsers
        raise ImageError(f"{name} cannot be read as an image: {error}.") from error


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    _check_size(image.width, image.height, name, MAX_PIXELS)
    # PIL states the size of a TIFF as it is after the turn.
    lies = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)
    return (image.height, image.width) if lies else (image.width, image.height)


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """The picture decoded and turned upright, if its header does not promise too much."""
    _check_size(image.width, image.height, name, max_pixels)
    try:
        # A TIFF reads, and warns of, the rest of its tags here; the other formats may be decoded side by side.
        with _quietly() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
    except Exception as error:  # as above
        raise ImageError(f"{name} is damaged: {error}.") from error
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    # Its metadata still tell to turn it, and would once more wherever it is opened again.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps PIL's warnings from the user: what matters of them becomes an error here, the rest is about metadata."""
    with _WARNINGS_LOCK, warnings.catch_warnings():  # the filters are global, so one thread at a time
        warnings.simplefilter("ignore")
        yield


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels: its size is {width} x {height}.")
    if width * height > max_pixels:
        raise ImageError(f"{name} is {width} x {height}, more than the {max_pixels:,} pixels that are decoded.")


def _orientation(image: Image.Image) -> int:
    try:
        with _quietly():
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing of the pixels
        return 1


# From any mode to RGB


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        if image.mode.startswith("I"):
            return _from_sixteen_bits(np.asarray(image), image.info.get("transparency"), name)
        if image.mode == "F":
            return Image.fromarray(_to_bytes(np.asarray(image), name)).convert("RGB")
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
        return image.convert("RGB") if image.mode != "RGB" else image
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} is of mode {image.mode}, which cannot be turned into RGB: {error}.") from error


def _from_sixteen_bits(grey: NDArray[Any], transparent: object, name: str) -> Image.Image:
    """RGB from grey values 0 to 65535, (H, W); the value that the file calls transparent becomes white."""
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{name} holds grey values from {grey.min()} to {grey.max()}; 16 bits hold 0 to 65535.")
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, 65535, grey)
    return Image.fromarray(_scale_sixteen_bits(grey)).convert("RGB")


def _scale_sixteen_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0 to 65535 as 0 to 255: 65535 is 255 times 257."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


# Arrays and tensors


def _tensor_to_array(tensor: Tensor, name: str) -> NDArray[Any]:
    """The tensor as an array with its channels last."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.permute(1, 2, 0)
    array: NDArray[Any] = tensor.numpy()
    return array


def _from_array(array: NDArray[Any], name: str, max_pixels: int) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{name} of shape {array.shape} is not one image: give (height, width) or (height, width, 1, 3 or 4)."
        )
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(_to_bytes(array, name)))


def _to_bytes(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Pixel values of any accepted type as uint8, same shape."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return _scale_sixteen_bits(array)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise ImageError(f"{name} holds {array.dtype}; an image is integers from 0 to 255 or floats from 0 to 1.")
    is_float = bool(np.issubdtype(array.dtype, np.floating))
    low, high, top = array.min(), array.max(), 1 if is_float else 255
    slack = 1e-3 if is_float else 0  # interpolation overshoots a little; a quarter of a grey step does no harm
    if not -slack <= low <= high <= top + slack:  # also false for NaN
        raise ImageError(f"{name} of {array.dtype} must hold values from 0 to {top}, got {low:g} to {high:g}.")
    if is_float:
        return (array.clip(0, 1) * 255).round().astype(np.uint8)
    return array.astype(np.uint8)
