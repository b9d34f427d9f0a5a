"""Tiny sets in every published format, written by code: what each writer returns is what `open_source` is given."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48

CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "boat"}, {"id": 3, "name": "person"}]


def picture(file: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """A grey picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "grey").save(file)


def write_json(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return file


def annotation(number: int, image: int, category: int, xywh: list[float], **more: Any) -> dict[str, Any]:
    """A COCO annotation."""
    return {"id": number, "image_id": image, "category_id": category, "bbox": xywh, **more}


def image(number: int, file_name: str, width: int = WIDTH, height: int = HEIGHT, **more: Any) -> dict[str, Any]:
    """A COCO image."""
    return {"id": number, "file_name": file_name, "width": width, "height": height, **more}


def write_coco(
    file: Path, images: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]], pictures: Path | None
) -> Path:
    """A COCO file with the categories of `CATEGORIES`, and its pictures in a folder where one is given."""
    images = list(images)
    for entry in images if pictures else ():
        picture(Path(str(pictures), entry["file_name"]), entry["width"], entry["height"])
    return write_json(file, {"images": images, "annotations": list(annotations), "categories": CATEGORIES})


def refs_entry(number: int, image_id: int, *sentences: str, split: str = "train") -> dict[str, Any]:
    """A ref about annotation `number`."""
    said = [
        {"sent": text, "raw": text.upper(), "tokens": text.split(), "sent_id": i} for i, text in enumerate(sentences)
    ]
    return {
        "ref_id": number + 1000,
        "ann_id": number,
        "image_id": image_id,
        "category_id": 1,
        "file_name": f"COCO_train2014_{image_id:012}_{number}.jpg",
        "split": split,
        "sentences": said,
        "sent_ids": [0],
    }


def write_refcoco(folder: Path, *, refs: str = "refs(umd).p", protocol: int = 2) -> Path:
    """Two photographs: a dog (49) and a boat (50) in COCO/285, a dog (51) in COCO/7, which is of the split "val"."""
    names = {number: f"COCO_train2014_{number:012}.jpg" for number in (285, 7)}
    write_coco(
        folder / "instances.json",
        [image(number, name) for number, name in names.items()],
        [
            annotation(49, 285, 1, [4, 6, 20, 10], segmentation=[[4, 6, 24, 6, 24, 16, 4, 16]], iscrowd=0),
            annotation(50, 285, 2, [30, 10, 20, 20], iscrowd=0),
            annotation(51, 7, 1, [0, 0, 32, 24], iscrowd=0),
        ],
        folder / "train2014",
    )
    entries = [
        refs_entry(49, 285, "the dog", "a dog next to a boat", "dog at the left side"),
        refs_entry(51, 7, "brown dog", split="val"),
    ]
    (folder / refs).write_bytes(pickle.dumps(entries, protocol=protocol))
    return folder


def write_coco_stuff(folder: Path) -> Path:
    """One photograph, COCO/139: grass as stuff, a dog as a thing, and a caption; JSON as published."""
    images = [image(139, "000000000139.jpg")]
    runs = {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT // 2, WIDTH * HEIGHT // 2]}  # the right half
    stuff = [
        annotation(10000, 139, 124, [32, 0, 32, 48], segmentation=runs, iscrowd=0),
        annotation(10001, 139, 183, [0, 0, 64, 48], iscrowd=0),
        annotation(10002, 139, 171, [0, 0, 32, 48], iscrowd=0),
    ]
    names = [{"id": 124, "name": "grass"}, {"id": 171, "name": "wall-brick"}, {"id": 183, "name": "other"}]
    value = {"images": images, "annotations": stuff, "categories": names}
    write_json(folder / "annotations" / "stuff_val2017.json", value)
    things = [annotation(5, 139, 1, [4, 4, 20, 20], iscrowd=0)]
    write_coco(folder / "annotations" / "instances_val2017.json", images, things, folder / "val2017")
    captions = [{"id": 1, "image_id": 139, "caption": "A dog on  the grass.\n"}]
    write_json(folder / "annotations" / "captions_val2017.json", {"images": images, "annotations": captions})
    return folder


def write_stuff_maps(folder: Path) -> Path:
    """The map of a photograph, COCO/139: grass on the right, a person at the top left, the rest unlabelled."""
    pixels = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    pixels[:, 32:], pixels[:24, :16] = 123, 0  # one below the labels
    file = folder / "stuffthingmaps" / "val2017" / "000000000139.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    (folder / "labels.txt").write_text("0: unlabeled\n1: person\n124: grass\n")
    picture(folder / "val2017" / "000000000139.jpg")
    return folder


def write_visual_genome(folder: Path) -> Path:
    """Two photographs: 1 is COCO/547168 with a man riding a horse, 2 has a box that leaves it."""
    man = {"object_id": 11, "names": ["man"], "x": 10, "y": 4, "w": 20, "h": 30, "synsets": []}
    horse = {"object_id": 12, "merged_object_ids": [15], "names": ["Horse"], "x": 8, "y": 20, "w": 40, "h": 26}
    cup = {"object_id": 21, "names": ["cup"], "x": -4, "y": 10, "w": 20, "h": 20}
    gone = {"object_id": 22, "names": ["fork"], "x": 60, "y": 10, "w": 20, "h": 20}
    write_json(
        folder / "objects.json", [{"image_id": 1, "objects": [man, horse]}, {"image_id": 2, "objects": [cup, gone]}]
    )
    riding = {"relationship_id": 1, "predicate": "RIDING", "subject": {**man, "name": "man"}, "object": horse}
    below = {"relationship_id": 2, "predicate": "under", "subject": {"object_id": 15, "name": "horse"}, "object": man}
    write_json(folder / "relationships.json", [{"image_id": 1, "relationships": [riding, below]}])
    phrases = [
        {"region_id": 1, "image_id": 1, "phrase": "a man on a horse.", "x": 10, "y": 4, "width": 22, "height": 30},
        {"region_id": 2, "image_id": 1, "phrase": "a man is far away", "x": 50, "y": 4, "width": 4, "height": 4},
    ]
    write_json(folder / "region_descriptions.json", [{"id": 1, "regions": phrases}])
    address = "https://example.org/images/VG_100K"
    data = [
        {"image_id": 1, "url": f"{address}_2/1.jpg", "width": WIDTH, "height": HEIGHT, "coco_id": 547168},
        {"image_id": 2, "url": f"{address}/2.jpg", "width": WIDTH, "height": HEIGHT, "coco_id": None},
    ]
    write_json(folder / "image_data.json", data)
    picture(folder / "VG_100K_2" / "1.jpg")
    picture(folder / "VG_100K" / "2.jpg")
    return folder


def write_scene_parsing(folder: Path) -> Path:
    """One image, ADE_val_00000001, in an access road: a building, and two cars that do not touch."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[:20], labels[30:40, 4:20], labels[30:40, 40:60] = 2, 21, 21
    file = folder / "annotations" / "validation" / "ADE_val_00000001.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(file)
    table = "Idx\tRatio\tTrain\tVal\tName\n2\t0.1\t1\t1\tbuilding, edifice\n21\t0.1\t1\t1\tcar, auto, automobile\n"
    (folder / "objectInfo150.txt").write_text(table)
    (folder / "sceneCategories.txt").write_text("ADE_train_00000001 misc\nADE_val_00000001 access_road\n")
    picture(folder / "images" / "validation" / "ADE_val_00000001.jpg")
    return folder


def write_ade20k(folder: Path) -> Path:
    """One photograph of the full set in a street: a car half hidden, a wheel of it, and a tree without a mask."""
    home, stem = folder / "images" / "ADE" / "training" / "urban" / "street", "ADE_train_00000009"
    seen = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    seen[10:30, 4:20], seen[10:30, 20:44] = 255, 128
    (home / stem).mkdir(parents=True)
    Image.fromarray(seen).save(home / stem / f"instance_000_{stem}.png")

    def thing(number: int, name: str, x: list[int], y: list[int], part_of: object, mask: str) -> dict[str, Any]:
        parts = {"hasparts": [], "ispartof": part_of, "part_level": 0}
        return {"id": number, "name": name, "polygon": {"x": x, "y": y}, "parts": parts, "instance_mask": mask}

    objects = [
        thing(0, "car, auto", [4, 44, 44, 4], [10, 10, 30, 30], [], f"{stem}/instance_000_{stem}.png"),
        thing(1, "wheel", [4, 10, 10, 4], [24, 24, 30, 30], 0, ""),
        thing(2, "tree", [50, 60, 60, 50], [0, 0, 40, 40], [], f"{stem}/missing.png"),
    ]
    value = {"filename": f"{stem}.jpg", "imsize": [HEIGHT, WIDTH, 3], "scene": ["outdoor", "urban", "street"]}
    write_json(home / f"{stem}.json", {"annotation": {**value, "object": objects}})
    picture(home / f"{stem}.jpg")
    return folder
