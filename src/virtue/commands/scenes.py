"""`virtue scenes`: draws scenes of the generated world into a folder, with captions, boxes and masks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from virtue.commands.progress import progress_bar

EXAMPLES = (
    "virtue scenes scenes/ --count 1000",
    "virtue scenes training-scenes/ --count 20000 --split train --size 320x240 --format jpeg",
)


class SplitName(StrEnum):
    """Which scenes: those a model may learn from, or those kept for testing."""

    TRAIN = "train"
    TEST = "test"


class Format(StrEnum):
    """How pictures are stored."""

    PNG = "png"
    JPEG = "jpeg"


def scenes(
    folder: Annotated[Path, typer.Argument(help="Where to; made if missing.")],
    count: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 100,
    split: Annotated[SplitName, typer.Option(help="Scenes to learn from, or scenes to test on.")] = SplitName.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; the others follow.")] = 0,
    size: Annotated[str, typer.Option(help="Width x height, in pixels.")] = "256x256",
    image_format: Annotated[Format, typer.Option("--format", help="How pictures are stored.")] = Format.PNG,
) -> None:
    """Draw scenes of the generated world, with captions and masks.

    Writes the pictures, SCaR_eval_scenes.parquet (ten captions for each pointed-at object, the true one first),
    instances.json and captions.json (COCO). It may be stopped at any moment: the same command goes on.
    """
    from virtue.scenes.write import write_scenes

    width, height = parse_size(size)
    console = Console(stderr=True)
    try:
        with progress_bar("Drawing", "scenes", console) as progress:
            write_scenes(
                folder,
                count,
                split.value,
                seed,
                width=width,
                height=height,
                image_format=image_format.value,
                progress=progress,
            )
    except KeyboardInterrupt:
        console.print(f"Stopped. {folder} keeps what was drawn; run the same command again to go on.", markup=False)
        raise
    typer.echo(f"{folder} holds {count:,} scenes; a larger --count adds to them.")


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `256x256`, in pixels.

    Raises:
        ValueError: If it is not two whole numbers with an x between them.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"A size is written as width x height, as in 256x256, got {text!r}.")
    return int(parts[0]), int(parts[1])
