"""SCaR's five evaluation sets in miniature, in the published layout, about pictures of the drawn world.

Each set has two pictures with several rows each, and a row each whose image is missing, whose image is cut short and
whose box leaves the image. As the paper has it, three distractors of each row swap the object, three the relation and
three the scene, nothing else.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tests.data.files import write_parquet
from virtue.evaluation.benchmarks.scar import SETS
from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.region_captions import Elements, region_caption
from virtue.scenes.renderer import Scene, render
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS
from virtue.templates import DESCRIBE_BOX

MARK = "<|image_1|>"
SIDE = 96  # pixels
PICTURES = 2
FAULTS = {"with a missing image": 1, "with a broken image": 1, "with a box that does not fit": 1}
"""What `scar_tasks` counts as missing in each set."""


def write_scar(folder: Path) -> tuple[Path, Path]:
    """Writes the sets and their images.

    Args:
        folder: Where to.

    Returns:
        The folder of the Parquet files and the folder that image paths start from.
    """
    data, images = folder / "data", folder / "images"
    for number, (name, own) in enumerate(SETS.items()):
        drawn = pictures()[number : number + PICTURES]
        (images / own).mkdir(parents=True)
        for scene in drawn:
            Image.fromarray(scene.image).save(images / own / _file(scene), quality=95)
        whole = (images / own / _file(drawn[0])).read_bytes()
        (images / own / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        rows = [row for scene in drawn for row in _rows(scene, f"{own}/{_file(scene)}")]
        write_parquet(data / f"SCaR_eval_{name}.parquet", [*rows, *_faulty(rows[0], own)], group=4)
    return data, images


def rows_of(number: int) -> list[dict[str, Any]]:
    """The sound rows of a set, by its number in `SETS`."""
    own = list(SETS.values())[number]
    drawn = pictures()[number : number + PICTURES]
    return [row for scene in drawn for row in _rows(scene, f"{own}/{_file(scene)}")]


@cache
def pictures() -> tuple[Scene, ...]:
    """Pictures in which at least two objects can be asked about."""
    drawn = (render(seed, "test", SIDE, SIDE) for seed in range(100))
    asked = (scene for scene in drawn if len(region_samples(scene, caption_rng(scene))) > 1)
    return tuple(next(asked) for _ in range(len(SETS) + PICTURES - 1))


def _file(scene: Scene) -> str:
    return f"{scene.seed:04d}.jpg"


def _rows(scene: Scene, path: str) -> Iterator[dict[str, Any]]:
    """One row for each object that can be asked about; the first says where the image goes, the others do not."""
    for number, sample in enumerate(region_samples(scene, caption_rng(scene))):
        x1, y1, x2, y2 = scene.objects[sample.object_index].box
        yield {
            "qry_text": DESCRIBE_BOX if number else f"{MARK}\n{DESCRIBE_BOX}",
            "qry_image_path": path,
            "tgt_text": [region_caption(elements) for elements in (sample.elements, *_swapped(sample.elements))],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        }


def _swapped(true: Elements) -> Iterator[Elements]:
    for step in (1, 2, 3):
        yield replace(true, object=(true.object + step) % len(OBJECTS))
    for step in (1, 2, 3):
        yield replace(true, relation=(true.relation + step) % len(RELATIONS))
    for step in (1, 2, 3):
        yield replace(true, place=(true.place + step) % len(PLACES))


def _faulty(row: dict[str, Any], own: str) -> list[dict[str, Any]]:
    x, y, _, _ = row["bbox"]
    return [
        row | {"qry_image_path": f"{own}/gone.jpg"},
        row | {"qry_image_path": f"{own}/cut.jpg"},
        row | {"bbox": [x, y, SIDE + 1.0, 10.0]},
    ]
