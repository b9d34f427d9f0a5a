"""What an arm of the ablations is asked: the figures of `virtue measure` that tell arms apart, on any scenes.

R is the number of regions asked about, N of scenes, D the length of an embedding.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from ablation_streams import Look, Vectors
from PIL import Image

from virtue.embedder import Embedder
from virtue.evaluation.metrics import first_is_best, recall_at
from virtue.evaluation.scenes import COLUMNS
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.renderer import render

WAYS = ("box", "point", "mask", "none")


def measured(
    embedder: Embedder, look: Look, first: int, count: int, sizes: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Shares in [0, 1]: "box", "point", "mask", "none" and, as "box object", four-way accuracy; and "recall".

    Args:
        embedder: The arm's model.
        look: Shows it the regions of a scene, in as many ways as the arm knows.
        first: Seed of the first test scene.
        count: How many.
        sizes: Width and height of the scenes in turn.
    """
    regions: dict[str, list[Vectors]] = {}
    asked: list[tuple[str, ...]] = []
    wholes, captions = [], []
    for number in range(count):
        scene = render(first + number, "test", *sizes[number % len(sizes)])
        samples = region_samples(scene, caption_rng(scene))
        things = [scene.objects[sample.object_index] for sample in samples]
        seen = look(embedder, Image.fromarray(scene.image), things)
        wholes.append(seen["none"][0])
        captions.append(canonical_caption(scene))
        asked += [(sample.caption, *sample.distractors) for sample in samples]
        for way, vectors in seen.items():
            regions.setdefault(way, []).append(np.broadcast_to(vectors, (len(things), vectors.shape[1])))
    texts = list(dict.fromkeys([*captions, *chain.from_iterable(asked)]))
    known = dict(zip(texts, embedder.encode(texts, batch_size=256), strict=True))
    told = np.stack([[known[text] for text in ten] for ten in asked])  # (R, 10, D)
    figures = {}
    for way, vectors in regions.items():
        scores = np.einsum("rtd,rd->rt", told, np.concatenate(vectors))
        for kind, columns in COLUMNS.items():
            figures[way if kind == "all" else f"{way} {kind}"] = float(first_is_best(scores[:, columns]).mean())
    similar = np.stack([known[caption] for caption in captions]) @ np.stack(wholes).T  # (N, N)
    return figures | {"recall": float(recall_at(similar, np.arange(count), 1).mean())}
