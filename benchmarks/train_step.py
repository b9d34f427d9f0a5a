"""A step of contrastive training three ways, as ratios within one run: `python benchmarks/train_step.py [SECTION ...]`.

nano      the bundled architecture, scenes of 256 x 256 pixels
released  Qwen2-VL-2B and SAM-2.1 base-plus, scenes of 1024 x 768 pixels: SAM-2 sees 1024 x 1024, the VLM 999 tokens

plain  all rows embedded at once with their graph
twice  GradCache, the towers run again in the second pass (nothing of them is kept)
once   GradCache, the towers run once

Each way has a process of its own, so that its peak memory is its own; they take their steps in turn, so that what else
the machine does slows them alike. Seconds are those of the CPU, which others' work does not count in (with more than
one thread their waiting for each other does), and with a GPU those of the clock. Weights are random and learn as in the
recipes. `released` has full widths, full image sizes and all of SAM-2, but few layers elsewhere: what the ratio is at
full depth is computed and printed below.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from statistics import median

import torch
from shapes import WORDS, released
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.data.collator import PairCollator
from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.training.adaptation import prepare
from virtue.training.architecture import VOCABULARY, nano_model, nano_processor, nano_tokenizer
from virtue.training.estimate import Load, estimate
from virtue.training.grad_cache import grad_cache
from virtue.training.loss import info_nce
from virtue.training.nano import has_half
from virtue.training.recipes import RECIPES
from virtue.training.scene_pairs import ScenePairs
from virtue.training.settings import ChunkSettings, Recipe
from virtue.training.step import SIDES, StepRows
from virtue.training.towers import Towers

WAYS = ("plain", "twice", "once")
LAYERS, BLOCKS = 2, 2  # of 28 and 32
BAR = 1.4


@dataclass(frozen=True)
class Section:
    """What is compared.

    Attributes:
        recipe: Whose adapter, temperature and kinds of number are taken.
        pairs: Of a step, each with its own picture.
        negatives: Hard negatives of a pair.
        size: Width and height of the pictures, pixels.
        chunks: Of GradCache.
        rounds: Steps of each way.
        bar: How many times faster towers-once has to be than twice, if it has to.
    """

    recipe: Recipe
    pairs: int
    negatives: int
    size: tuple[int, int]
    chunks: ChunkSettings
    rounds: int
    bar: float | None = None


NANO = Section(RECIPES["own-pairs"], 32, 2, (256, 256), ChunkSettings(queries=8, targets=32, pictures=8), 5)
RELEASED = Section(
    RECIPES["virtue-2b-scar"], 2, 2, (1024, 768), ChunkSettings(queries=1, targets=6, pictures=1), 3, BAR
)
SECTIONS = {"nano": NANO, "released": RELEASED}


def main() -> None:
    """Runs the sections asked for, all by default."""
    parser = argparse.ArgumentParser(description="Speed and memory of a training step.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--threads", type=int, default=1, help="one, so that none waits for another")
    parser.add_argument("--rounds", type=int, help="steps of each way")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in options.sections or SECTIONS:
        print(f"\n{name}", flush=True)
        compare(name, options.rounds or SECTIONS[name].rounds, options.threads)


def compare(name: str, rounds: int, threads: int) -> None:
    """Lets the three ways take their steps in turn and prints times and memory."""
    section, ways = SECTIONS[name], {way: Way(name, way, threads) for way in WAYS}
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS[number % 3 :] + WAYS[: number % 3]:
            taken[way].append(ways[way].step())
    peaks = {way: each.close() for way, each in ways.items()}
    for way in WAYS:
        times = median(plain / own for plain, own in zip(taken["plain"], taken[way], strict=True))
        shares = " and ".join(f"{now / then:.2f}" for now, then in zip(peaks[way], peaks["plain"], strict=True))
        peak, added = peaks[way]
        print(
            f"  {way:<8}{median(taken[way]):8.2f} s, {times:.2f} times as fast as plain   "
            f"peak {peak / 1e6:7,.0f} MB, {added / 1e6:7,.0f} of it the step's: {shares} of plain"
        )
    ratios = [twice / once for twice, once in zip(taken["twice"], taken["once"], strict=True)]
    bar = f" (bar: {section.bar})" if section.bar else ""
    print(f"  towers once: {median(ratios):.2f} times faster than twice{bar}, {min(ratios):.2f} to {max(ratios):.2f}")
    if name == "released":
        print_computed(section)


def print_computed(section: Section) -> None:
    """The same ratio by counting operations: at the depth that was run, and of the whole model as its recipe runs."""
    negatives = section.pairs * (1 + section.negatives)
    load = Load(999, 40, section.pairs, (section.pairs, 0), (0, negatives))
    run = replace(section.recipe, chunks=section.chunks, run=replace(section.recipe.run, checkpointing=False))
    for text, config, recipe in (
        (f"at {LAYERS} layers and {BLOCKS} blocks, as run", shape(), run),
        ("at 28 layers and 32 blocks", released(), run),
        ("the same with checkpointing, as the recipe has it", released(), replace(section.recipe, chunks=run.chunks)),
    ):
        figures = estimate(config, recipe, load)
        ratio = (figures.flops + figures.tower_flops) / figures.flops
        print(f"  {text}: {ratio:.2f} times fewer operations (computed)")


class Way:
    """A process that takes steps of one kind when it is told to."""

    def __init__(self, section: str, way: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, section, way, threads), daemon=True)
        self.process.start()
        self.pipe.recv()

    def step(self) -> float:
        """Seconds of one step."""
        self.pipe.send(True)
        return float(self.pipe.recv())

    def close(self) -> tuple[int, int]:
        """Ends the process; gives its peak memory and how much of that the steps added, bytes."""
        self.pipe.send(False)
        peak, added = self.pipe.recv()
        self.process.join()
        return peak, added


def serve(pipe: Connection, name: str, way: str, threads: int) -> None:
    """What the process of a way does: a step each time it is told."""
    torch.set_num_threads(threads)
    step = Step(SECTIONS[name], way)
    before = peak_memory()
    pipe.send(True)
    while pipe.recv():
        began = clock()
        step()
        pipe.send(clock() - began)
    pipe.send((peak_memory(), peak_memory() - before))


class Step:
    """A step of training, the same each time: model, batch, and how it is taken."""

    def __init__(self, section: Section, way: str) -> None:
        self.section, self.way = section, way
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.processor = make_model(section)
        self.model.to(self.device).train()
        pairs = ScenePairs(section.pairs, size=section.size)
        collator = PairCollator(self.processor, hard_negatives=section.negatives)
        self.batch = collator([pairs[row] for row in range(section.pairs)])

    def __call__(self) -> None:
        """Gradients of the whole batch."""
        self.model.zero_grad()
        limit = 0 if self.way == "twice" else None
        towers = Towers(self.model, self.batch.images, group=self.section.chunks.pictures, limit=limit)
        rows = StepRows(self.model, self.processor, self.batch, towers)
        half = self.section.recipe.run.bf16 and has_half(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            if self.way == "plain":
                self.loss([rows.embed(side, range(len(rows.sides[side]))) for side in range(len(SIDES))]).backward()
            else:
                chunks = [self.section.chunks.chunks(name, rows.lengths(side)) for side, name in enumerate(SIDES)]
                grad_cache(rows.embed, self.loss, chunks)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def loss(self, sides: Sequence[Tensor]) -> Tensor:
        """The batch's loss."""
        return info_nce(sides[0], sides[1], self.section.recipe.loss.temperature, positives=self.batch.positives)


def make_model(section: Section) -> tuple[VirtueModel, VirtueProcessor]:
    """A section's model with random weights, prepared as its recipe says, and its processor."""
    tokenizer = nano_tokenizer(iter(WORDS))
    if section.recipe.model.start == "nano":
        model, processor = nano_model(0), nano_processor(tokenizer)
    else:
        torch.manual_seed(0)
        model = VirtueModel(shape())
        pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 1280 * 28 * 28}
        processor = VirtueProcessor(Qwen2VLImageProcessorPil(size=pixels), tokenizer, model.config)
    if section.recipe.run.bf16 and has_half(torch.device("cuda" if torch.cuda.is_available() else "cpu")):
        model.to(torch.bfloat16)
    prepare(model, section.recipe.model.part, section.recipe.adapter)
    return model, processor


def shape() -> VirtueConfig:
    """The configuration of the section `released`; its vocabulary is the bundled one's, which no ratio depends on."""
    return released(layers=LAYERS, blocks=BLOCKS, vocabulary=VOCABULARY)


def clock() -> float:
    """Seconds: of this process on the CPU, or by the clock if a GPU computes."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def peak_memory() -> int:
    """Most memory this process has had, bytes: of the card if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
