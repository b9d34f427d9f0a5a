"""What nano forgets when it learns new things, and what holds it: `python benchmarks/forgetting.py [--steps N]`.

The new things are the world's own in negative: every thing is shown in inverted colours and called "inky" ("an inky
dog left of an inky taxi on a beach"), so that both its look and its name are new. Nano is trained on them alone, then
with a share of old scenes in every epoch (replay), with elastic weight consolidation, and with both; each time the
ten-way accuracy with a box is measured on new and on old held-out scenes.
"""

import argparse
import logging
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from virtue.data.collator import PairCollator
from virtue.data.mixture import Mixture, Part
from virtue.data.pairs import Pair
from virtue.items import Item
from virtue.prompts import VisualPrompt
from virtue.scenes.renderer import Scene, Split, render
from virtue.scenes.vocabulary import OBJECTS
from virtue.training.adaptation import prepare, start
from virtue.training.forgetting import Anchor
from virtue.training.recipes import VARIED
from virtue.training.running import training_arguments
from virtue.training.scene_pairs import ScenePairs
from virtue.training.settings import ChunkSettings, LossSettings, ModelSettings, Recipe, RunSettings
from virtue.training.trainer import ContrastiveTrainer

NEW, OLD = 200_000_000, 210_000_000  # seeds of scenes that the bundled weights have not seen
NAMES = sorted((thing.name for thing in OBJECTS), key=len, reverse=True)  # "hot dog" is no "dog"
THING = re.compile(rf"\b(an? )?({'|'.join(map(re.escape, NAMES))})\b")
ARMS = {"plain": (0.0, 0.0), "replay": (0.3, 0.0), "consolidation": (0.0, 1.0), "both": (0.3, 1.0)}  # share, strength


class Regions:
    """A region of each scene, shown by its box, and its ten captions.

    Args:
        count: How many.
        start: Seed of the first scene.
        split: Of the scenes.
        inky: Show things in inverted colours and call them inky.
    """

    def __init__(self, count: int, start: int, split: Split, *, inky: bool) -> None:
        self.name = "inky scenes" if inky else "scenes"
        self.scenes, self.inky = ScenePairs(count, start, split), inky
        self.start, self.split = start, split

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, row: int) -> Pair:
        pair = self.scenes[row]
        prompt = pair.query.prompt
        assert isinstance(prompt, VisualPrompt)
        query = replace(pair.query, prompt=prompt.box)
        if not self.inky:
            return replace(pair, query=query)
        query = replace(query, image=inverted(pair.query.image, render(self.start + row, self.split)))
        positive, *negatives = (Item(text=inky(str(item.text))) for item in (*pair.positives, *pair.negatives))
        return replace(pair, query=query, positives=(positive,), negatives=tuple(negatives))


def inverted(picture: Image.Image, scene: Scene) -> Image.Image:
    """A scene's picture with every thing in inverted colours."""
    pixels = np.asarray(picture)
    things = np.any([thing.mask for thing in scene.objects], axis=0)
    return Image.fromarray(np.where(things[..., None], 255 - pixels, pixels))


def inky(caption: str) -> str:
    """A caption with "inky" before the name of every thing."""
    return THING.sub(lambda found: f"an inky {found[2]}" if found[1] else f"inky {found[2]}", caption)


def main() -> None:
    """Trains each arm and prints both accuracies."""
    parser = argparse.ArgumentParser(description="Forgetting, and what holds it.")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--pairs", type=int, default=400, help="held-out pairs of each kind")
    parser.add_argument("--strength", type=float, default=1.0, help="of the consolidation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{'':<16}{'new things':>12}{'old things':>12}   ten-way accuracy with a box, %")
    report("before", *accuracies(trainer(options, 0.0, None, options.steps), options.pairs))
    for name, (share, strength) in ARMS.items():
        trained = trainer(options, share, strength * options.strength, options.steps)
        trained.train()
        report(name, *accuracies(trained, options.pairs))


def trainer(options: argparse.Namespace, share: float, strength: float | None, steps: int) -> ContrastiveTrainer:
    """A trainer of nano on new things, of which `share` are old."""
    run = RunSettings(steps, options.batch, options.rate, 15, bf16=False, tensorboard=False, seed=options.seed)
    recipe = Recipe("", "", run=replace(run, save_every=steps + 1))
    model, processor = start(ModelSettings(start="nano", dtype="float32"))
    torch.manual_seed(options.seed)
    prepare(model, "full")
    new, old = Regions(20_000, NEW, "train", inky=True), Regions(20_000, OLD, "train", inky=False)
    parts = [Part(new, 1 - share), Part(old, share)] if share else [Part(new)]
    chunks, loss = ChunkSettings(queries=64, targets=256, pictures=32), LossSettings(temperature=0.05)
    collator = PairCollator(processor, VARIED, options.seed, hard_negatives=3)
    arguments = training_arguments(recipe, Path(TemporaryDirectory().name), "cpu")
    made = ContrastiveTrainer(
        model, processor, Mixture(parts, options.seed), arguments, loss=loss, chunks=chunks, collator=collator
    )
    if strength:
        earlier = ContrastiveTrainer(
            model, processor, Mixture([Part(old)], options.seed), arguments, loss=loss, chunks=chunks, collator=collator
        )
        made.anchor = Anchor.measure(model, earlier.gradients(20), strength)
    return made


def accuracies(trained: ContrastiveTrainer, count: int) -> tuple[float, float]:
    """Ten-way accuracy on new and on old held-out pairs."""
    sources = (Regions(count, start, "test", inky=start == NEW) for start in (NEW, OLD))
    new, old = (trained.evaluate(source)["eval_hit_at_1"] for source in sources)
    return new, old


def report(name: str, new: float, old: float) -> None:
    """One line."""
    print(f"{name:<16}{100 * new:12.1f}{100 * old:12.1f}", flush=True)


if __name__ == "__main__":
    main()
