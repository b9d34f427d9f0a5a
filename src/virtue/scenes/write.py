"""Writes scenes to disk: pictures, a parquet in SCaR's layout and COCO JSON. A killed run goes on where it stopped.

    folder/images/test_00000000.png ...          the pictures
    folder/SCaR_eval_scenes.parquet              qry_text, qry_image_path, tgt_text (ten, true one first), bbox (XYWH)
    folder/instances.json, folder/captions.json  COCO: masks as compressed RLE, boxes, categories; captions

Beyond COCO, an image of instances.json has its `place`, and an annotation its `relations` to others of the image, as in
`{"relation": "left of", "annotation_id": 12}`; both are what the picture was drawn from.

The work is done in parts of a fixed number of scenes. A part's pictures are written first, then its rows, and every
file is moved into place whole, so a part either counts as done or is done again. The three tables are put together from
the parts at the end, one part at a time: memory does not grow with the number of scenes.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from virtue.masks import to_rle
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.renderer import Scene, Split, check_request, scenes
from virtue.scenes.vocabulary import OBJECTS, object_id
from virtue.templates import DESCRIBE_BOX

PARQUET, INSTANCES, CAPTIONS = "SCaR_eval_scenes.parquet", "instances.json", "captions.json"
PART = 200  # scenes
QUERY = f"<|image_1|>\n{DESCRIBE_BOX}"

_SCHEMA = pa.schema(
    {
        "qry_text": pa.string(),
        "qry_image_path": pa.string(),
        "tgt_text": pa.list_(pa.string()),
        "bbox": pa.list_(pa.float64()),
    }
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides the bytes of a folder, apart from the number of scenes."""

    split: Split
    seed: int
    width: int
    height: int
    image_format: str


def write_scenes(
    folder: Path | str,
    count: int,
    split: Split = "test",
    seed: int = 0,
    *,
    width: int = 256,
    height: int = 256,
    image_format: Literal["png", "jpeg"] = "png",
    progress: Progress | None = None,
) -> Path:
    """Writes the scenes of seeds `seed` to `seed + count - 1`; the module says which files.

    Args:
        folder: Where to; made if missing. An unfinished or smaller set of the same settings is completed.
        count: Number of scenes.
        split: "train" or "test".
        seed: The first scene's.
        width: Pixels.
        height: Pixels.
        image_format: "png", or "jpeg" for smaller files of quality 95.
        progress: Called with the scenes done and their total after each scene.

    Returns:
        The folder.

    Raises:
        ValueError: If the count is not positive, the format is unknown, no such scene can be drawn, or the folder
            holds more scenes or scenes of other settings.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be 1 or more")
    if image_format not in ("png", "jpeg"):
        raise ValueError(f"image_format is {image_format!r}; it must be 'png' or 'jpeg'")
    check_request(seed, split, width, height)
    folder = Path(folder)
    settings = _Settings(split, seed, width, height, image_format)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / ".parts").mkdir(exist_ok=True)
    _check_settings(folder, settings)
    _check_count(folder, count, seed)
    parts = []
    for start in range(0, count, PART):
        stop = min(start + PART, count)
        parts.append(folder / ".parts" / f"{start:08d}-{stop:08d}.json")
        if not parts[-1].exists():
            _write_part(folder, parts[-1], settings, start, stop, lambda done: progress and progress(done, count))
        elif progress:
            progress(stop, count)
    _join_parquet(folder / PARQUET, parts)
    _join_json(folder / INSTANCES, parts, "instances", categories=_categories())
    _join_json(folder / CAPTIONS, parts, "captions")
    return folder


def _check_settings(folder: Path, settings: _Settings) -> None:
    """Remembers the settings in the folder, or compares them with those remembered."""
    file, wanted = folder / ".parts" / "settings.json", {name: getattr(settings, name) for name in _Settings.__slots__}
    if not file.exists():
        _write_whole(file, json.dumps(wanted).encode())
    found = json.loads(file.read_text(encoding="utf-8"))
    if other := [name for name in wanted if found.get(name) != wanted[name]]:
        differences = ", ".join(f"{name} {found.get(name)} instead of {wanted[name]}" for name in other)
        raise ValueError(f"{folder} holds scenes with {differences}; choose another folder")


def _check_count(folder: Path, count: int, seed: int) -> None:
    """Refuses to make a set smaller: its tables would no longer be about all its pictures."""
    seeds = [int(picture.stem.split("_")[1]) for picture in (folder / "images").glob("*_*.[pj][np]g")]
    held = max(seeds, default=seed - 1) - seed + 1
    if held > count:
        raise ValueError(f"{folder} holds {held} scenes already; ask for as many or more, or choose another folder")


def _write_part(
    folder: Path, file: Path, settings: _Settings, start: int, stop: int, progress: Callable[[int], object]
) -> None:
    """Writes the pictures of scenes `start` to `stop - 1`, then their rows as one file."""
    part: dict[str, list[Any]] = {"rows": [], "images": [], "instances": [], "captions": []}
    drawn = scenes(settings.split, settings.seed + start, stop - start, settings.width, settings.height)
    for number, scene in enumerate(drawn, start):
        suffix = "png" if settings.image_format == "png" else "jpg"
        path = f"images/{scene.split}_{scene.seed:08d}.{suffix}"
        _write_whole(folder / path, _encoded(scene.image, settings.image_format))
        part["rows"] += _scar_rows(scene, path)
        size = {"width": settings.width, "height": settings.height}
        part["images"].append({"id": number, "file_name": path, **size, "place": scene.place})
        part["instances"] += _instances(scene, number)
        part["captions"].append({"id": number, "image_id": number, "caption": canonical_caption(scene)})
        progress(number + 1)
    _write_whole(file, json.dumps(part).encode())


def _encoded(image: np.ndarray, image_format: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, image_format, **({"quality": 95} if image_format == "jpeg" else {}))
    return buffer.getvalue()


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file beside its place and moves it there, so that it is never half written."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _scar_rows(scene: Scene, path: str) -> Iterator[dict[str, Any]]:
    """One row for each pointed-at object."""
    for sample in region_samples(scene, caption_rng(scene)):
        yield {
            "qry_text": QUERY,
            "qry_image_path": path,
            "tgt_text": [sample.caption, *sample.distractors],
            "bbox": _xywh(scene.objects[sample.object_index].box),
        }


def _instances(scene: Scene, image_id: int) -> Iterator[dict[str, Any]]:
    """One COCO annotation for each object; ids count objects, ten places to a scene."""
    ids = [image_id * 10 + index + 1 for index in range(len(scene.objects))]
    for thing in scene.objects:
        yield {
            "id": ids[thing.index],
            "image_id": image_id,
            "category_id": object_id(thing.name) + 1,
            "bbox": _xywh(thing.box),
            "area": int(thing.mask.sum()),
            "segmentation": to_rle(thing.mask),
            "iscrowd": 0,
            "relations": [
                {"relation": relation, "annotation_id": ids[other]}
                for index, relation, other in scene.relations
                if index == thing.index
            ],
        }


def _categories() -> list[dict[str, Any]]:
    return [{"id": index, "name": word.name} for index, word in enumerate(OBJECTS, 1)]


def _read_part(file: Path) -> dict[str, list[Any]]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _join_parquet(path: Path, parts: list[Path]) -> None:
    """The rows of all parts as one parquet file, one row group for each part."""
    unfinished = path.with_name(path.name + ".unfinished")
    with pq.ParquetWriter(unfinished, _SCHEMA) as writer:
        for part in parts:
            writer.write_table(pa.Table.from_pylist(_read_part(part)["rows"], _SCHEMA))
    unfinished.replace(path)


def _join_json(path: Path, parts: list[Path], key: str, categories: list[dict[str, Any]] | None = None) -> None:
    """One COCO file: images, annotations and, if given, categories."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "drawn scenes"}')
        for name, field in (("images", "images"), ("annotations", key)):
            file.write(f', "{name}": [')
            for index, part in enumerate(parts):
                entries = ", ".join(json.dumps(entry) for entry in _read_part(part)[field])
                file.write((", " if index and entries else "") + entries)
            file.write("]")
        if categories is not None:
            file.write(f', "categories": {json.dumps(categories)}')
        file.write("}")
    unfinished.replace(path)
