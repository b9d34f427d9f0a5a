"""How fast embedding is, as ratios within one run: `python benchmarks/embed.py [SECTION ...]`.

views    eight visual prompts on one open image against eight separate calls, with and without the opening
batches  a corpus of mixed sizes in batches of like length against one by one
memory   peak memory of ever more images
nano     the bundled model on two threads: images per second, texts per second, one more visual prompt
import   the time of `import virtue`

Floating-point operations and bytes are counted beside, because seconds are this machine's and these are not. "Bytes"
are those of all tensors that operators read and write, caches ignored.
"""

import argparse
import io
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from counting import Cost, measure, timed
from PIL import Image
from shapes import WORDS, base_plus, nano, tiny

from virtue.embedder import Embedder
from virtue.index import Index, build
from virtue.items import Item
from virtue.model.checkpoints import CheckpointError
from virtue.prompts import Box


def main() -> None:
    """Runs the sections asked for, all by default."""
    parser = argparse.ArgumentParser(description="Speed of embedding.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--images", type=int, default=10_000, help="most images of the memory section")
    parser.add_argument("--corpus", type=int, default=256, help="images, and eighths of texts, of a corpus")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)  # how the memory section calls itself
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        print(peak_memory(options.peak_of))
        return
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in options.sections or SECTIONS:
        print(f"\n{name}")
        SECTIONS[name](options)


def views(options: argparse.Namespace) -> None:
    """Section `views`."""
    image = noise(1024, 768, seed=0)
    boxes = [Box(10 + 20 * number, 20, 300 + 60 * number, 400) for number in range(8)]
    for name, bar, make in (("tiny, SAM-2 at 1024 px", 4, tiny), ("SAM-2.1 base-plus", 10, base_plus)):
        embedder = make()
        view = embedder.open(image)
        separate = measure(lambda: [embedder.encode(Item(image=image, prompt=box)) for box in boxes], repeats=1)  # noqa: B023
        opening = measure(lambda: embedder.open(image), repeats=2)  # noqa: B023
        asking = measure(lambda: view.encode(boxes), repeats=2)  # noqa: B023
        whole = Cost(*(a + b for a, b in zip(vars(opening).values(), vars(asking).values(), strict=True)))
        print(f"  {name}: an open image holds {view.nbytes / 1e6:.1f} MB")
        report("eight separate calls", separate)
        report("eight prompts on an open image", asking, separate, bar)
        report("the same with the opening", whole, separate)


def batches(options: argparse.Namespace) -> None:
    """Section `batches`."""
    embedder = nano()
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(2, 40))) for _ in range(8 * options.corpus)]
    sizes = random.integers(64, 640, (options.corpus, 2))
    images = [noise(int(width), int(height), seed) for seed, (width, height) in enumerate(sizes)]
    for name, corpus in (("texts", texts), ("images", images)):
        alone = measure(lambda: [embedder.encode(one) for one in corpus], repeats=1)  # noqa: B023
        together = measure(lambda: embedder.encode(corpus), repeats=1)  # noqa: B023
        report(f"{len(corpus):,} {name} one by one", alone)
        report(f"{len(corpus):,} {name} in batches", together, alone)


def memory(options: argparse.Namespace) -> None:
    """Section `memory`: each count in a process of its own, because a peak never sinks."""
    base = None
    for count in sorted({max(1, options.images // 10), options.images}):
        command = [sys.executable, __file__, "--peak-of", str(count), "--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = float(done.stdout)
        base = base or peak
        print(f"  {count:>7,} images: peak {peak:8.1f} MB, {peak / base:.3f} times the first")


def peak_memory(count: int) -> float:
    """Peak memory of this process in MB after embedding so many images, each drawn when it is read."""
    nano().encode([Drawn(seed) for seed in range(count)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def nano_speed(options: argparse.Namespace) -> None:
    """Section `nano`."""
    try:
        embedder = Embedder.from_pretrained("nano", device="cpu")
    except CheckpointError:
        embedder = nano()
    print(f"  {embedder.name}, {torch.get_num_threads()} threads")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(3, 12))) for _ in range(8 * options.corpus)]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for seed in range(options.corpus):
            noise(512, 384, seed).save(images / f"{seed}.jpg", quality=90)
        files = sorted(images.iterdir())
        embedder.encode([files[0], texts[0]])
        rate("images embedded from files", options.corpus, timed(lambda: embedder.encode(files)))
        index = Index.create(images, embedder, to=Path(folder) / "index")
        rate("images indexed end to end", options.corpus, timed(lambda: build(index, embedder)), bar=40)
    rate("texts", len(texts), timed(lambda: embedder.encode(texts)), bar=2000)
    view = embedder.open(noise(512, 384, seed=0))
    view.encode(Box(10, 10, 100, 100))
    seconds = min(timed(lambda: view.encode(Box(10, 10, 200, 90))) for _ in range(20))
    print(f"  {'one more prompt on an open image':<34}{seconds * 1000:9.1f} ms   (bar: under 10)")


def import_time(options: argparse.Namespace) -> None:
    """Section `import`: in fresh interpreters, less their own start."""

    def start(statement: str) -> float:
        return min(timed(lambda: subprocess.run([sys.executable, "-c", statement], check=True)) for _ in range(5))

    print(f"  import virtue {start('import virtue') - start('pass'):.3f} s (bar: under 0.3)")


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "views": views,
    "batches": batches,
    "memory": memory,
    "nano": nano_speed,
    "import": import_time,
}


class Drawn:
    """An open file whose picture is drawn when it is read, so that a corpus of any size takes no room."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def seekable(self) -> bool:
        """There is nothing to seek in."""
        return False

    def read(self) -> bytes:
        """A PNG of 96 to 320 pixels a side."""
        random = np.random.default_rng(self.seed)
        width, height = (int(side) for side in random.integers(96, 320, 2))
        buffer = io.BytesIO()
        noise(width, height, self.seed).save(buffer, "PNG", compress_level=0)
        return buffer.getvalue()


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Coarse random colours, which compress about as photographs do."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def report(name: str, cost: Cost, against: Cost | None = None, bar: int | None = None) -> None:
    """One line: a cost, and how many times less it is than another in seconds, operations and bytes."""
    line = f"  {name:<34}{cost}"
    if against is not None:
        times = (against.seconds / cost.seconds, against.flops / cost.flops, against.moved / cost.moved)
        line += "   {:.1f} times faster, {:.1f} times fewer FLOP, {:.1f} times fewer bytes".format(*times)
    print(line + (f"   (bar: {bar} times)" if bar else ""))


def rate(name: str, count: int, seconds: float, bar: int | None = None) -> None:
    """One line: how many per second."""
    print(f"  {name:<34}{count / seconds:9.1f} per second" + (f"   (bar: {bar})" if bar else ""))


if __name__ == "__main__":
    main()
