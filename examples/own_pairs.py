"""Writes pairs.jsonl: regions of drawn scenes with names that nano has never heard. `docs/training.md` trains on it."""

import json
from pathlib import Path

NAMES = {"dog": "doggo", "cat": "mouser", "taxi": "hackney", "apple": "pippin", "bicycle": "velocipede"}
SCENES = Path("scenes")  # virtue scenes scenes --split train --count 1500

instances = json.loads((SCENES / "instances.json").read_text())
files = {image["id"]: image["file_name"] for image in instances["images"]}
names = {category["id"]: category["name"] for category in instances["categories"]}

with Path("pairs.jsonl").open("w") as file:
    for thing in instances["annotations"]:
        if (name := names[thing["category_id"]]) in NAMES:
            x, y, width, height = thing["bbox"]  # COCO's XYWH
            query = {"image": str(SCENES / files[thing["image_id"]]), "box": [x, y, x + width, y + height]}
            query["mask"] = thing["segmentation"]
            negatives = [f"a {other}" for key, other in NAMES.items() if key != name]
            file.write(json.dumps({"query": query, "positive": f"a {NAMES[name]}", "negatives": negatives}) + "\n")
