"""`PairCollator`: pairs to the tensors of one training step. It runs where the data is loaded, in worker processes.

A batch holds every distinct picture once, however many rows are about it, and its rows unpadded: how they are cut into
chunks is decided later. Which positive and which visual prompt a pair shows follows from the pair's own `draw`, not
from what else was drawn before, so a resumed training sees the same.

Letters: B pairs, Q queries, M targets, N pictures, R rows with a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from virtue.data.pairs import Pair
from virtue.data.prompting import Kind, redraw
from virtue.images import image_key, open_image
from virtue.items import Item
from virtue.prompts import VisualPrompt, as_visual_prompt

if TYPE_CHECKING:
    from virtue.model.processing_virtue import VirtueProcessor
    from virtue.model.segmentation import SamPrompts


@dataclass(frozen=True)
class Skipped:
    """A row that gives no pair.

    Attributes:
        reason: What is wrong with it, with file and row.
        fatal: Whether the data does not follow its format, so that going on makes no sense.
    """

    reason: str
    fatal: bool = False


@dataclass(frozen=True)
class Side:
    """One side of a batch.

    Attributes:
        ids: Token ids of each row, without padding.
        image: Which of the batch's pictures is the row's own, -1 for none.
        prompts: Visual prompts of the R rows with a picture, in row order; None without a segmentation stream.
        keys: A number for each row, equal for rows of equal words, picture and region, (rows,) int64.
        where: File and row of each.
    """

    ids: list[list[int]]
    image: list[int]
    prompts: SamPrompts | None
    keys: Tensor
    where: list[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pictures:
    """What `VirtueModel.encode_images` takes of N pictures, in few tensors: each costs a loading process a descriptor.

    Attributes:
        tensors: `pixel_values` and `image_grid_thw`, and `sam_pixel_values` with a segmentation stream; none for N = 0.
    """

    tensors: dict[str, Tensor]

    @classmethod
    def join(cls, pictures: Sequence[dict[str, Tensor]]) -> Pictures:
        """Several pictures, each given alone."""
        return cls({name: torch.cat([each[name] for each in pictures]) for name in pictures[0]} if pictures else {})

    def __len__(self) -> int:
        return len(self.tensors["image_grid_thw"]) if self.tensors else 0

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """One picture alone.

        Raises:
            IndexError: If there are not so many.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"There are {len(self)} pictures, so none with number {number}.")
        patches = self.tensors["image_grid_thw"].prod(1)
        start = int(patches[:number].sum())
        own = {name: tensor[number : number + 1] for name, tensor in self.tensors.items() if name != "pixel_values"}
        return own | {"pixel_values": self.tensors["pixel_values"][start : start + int(patches[number])]}


@dataclass(frozen=True)
class PairBatch:
    """One step's data.

    Attributes:
        images: The N distinct pictures, as the towers take them.
        queries: The B queries, then hard negatives of the other direction.
        targets: Every query's positive, then all hard negatives.
        positives: Each query's positive among the targets, (B,) int64.
        owners: The pair that each target belongs to, (M,) int64.
        skipped: What could not be read and is not in the batch.
    """

    images: Pictures
    queries: Side
    targets: Side
    positives: Tensor
    owners: Tensor
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.positives)


class PairCollator:
    """Makes a `PairBatch` of pairs.

    Args:
        processor: The model's.
        prompt_kinds: How often which kind of visual prompt is drawn from an annotated region (`data.prompting`); None
            takes regions as they are annotated.
        seed: Of the run.
        hard_negatives: Of each pair and side that are used at most, drawn at random; None for all.
        query_negatives: Use the pairs' hard negatives of the other direction too; they cost time and matter to a
            symmetric loss alone.
    """

    def __init__(
        self,
        processor: VirtueProcessor,
        prompt_kinds: Mapping[Kind, float] | None = None,
        seed: int = 0,
        hard_negatives: int | None = None,
        query_negatives: bool = True,
    ) -> None:
        self.query_negatives = query_negatives
        self.processor, self.prompt_kinds, self.seed = processor, prompt_kinds, seed
        self.hard_negatives = hard_negatives

    def __call__(self, pairs: Sequence[Pair | Skipped]) -> PairBatch:
        """The batch of some pairs; those whose pictures cannot be read are left out and named in `skipped`."""
        pictures = _Pictures()
        queries: list[_Row] = []
        targets: list[_Row] = []
        more_queries: list[_Row] = []
        more_targets: list[_Row] = []
        owners: list[int] = []
        skipped = [pair for pair in pairs if isinstance(pair, Skipped)]
        for pair in pairs:
            if isinstance(pair, Skipped):
                continue
            rng, positive = self._draw(pair)
            try:
                own = [self._row(item, pair.where, rng, pictures) for item in (pair.query, positive)]
                negatives, others = (
                    [self._row(item, pair.where, rng, pictures) for item in self._some(items, rng)]
                    for items in (pair.negatives, pair.query_negatives if self.query_negatives else ())
                )
            except ValueError as error:  # an unreadable picture, a region outside it, the image token among words
                skipped.append(Skipped(f"{pair.where}: {error}"))
                continue
            queries.append(own[0])
            targets.append(own[1])
            owners += [len(targets) - 1] * len(negatives)
            more_targets += negatives
            more_queries += others
        used = pictures.used([*queries, *more_queries, *targets, *more_targets])
        images = [self.processor.image_inputs([picture]) for picture in used.values()]
        return PairBatch(
            Pictures.join(images),
            self._rows([*queries, *more_queries], used, images),
            self._rows([*targets, *more_targets], used, images),
            torch.arange(len(targets)),
            torch.tensor([*range(len(targets)), *owners], dtype=torch.int64),
            skipped,
        )

    def shown(self, pair: Pair) -> tuple[Item, Item]:
        """The query and the positive of a pair as a batch shows them, visual prompts drawn.

        Raises:
            ValueError: If a picture cannot be read or a region lies outside it.
        """
        rng, positive = self._draw(pair)
        pictures = _Pictures()
        query, target = (self._row(item, pair.where, rng, pictures) for item in (pair.query, positive))
        return replace(query.item, prompt=query.prompt), replace(target.item, prompt=target.prompt)

    def _draw(self, pair: Pair) -> tuple[np.random.Generator, Item]:
        """The pair's own random numbers, and which positive they choose."""
        rng = np.random.default_rng([self.seed, pair.draw])
        return rng, pair.positives[int(rng.integers(len(pair.positives)))]

    def _some(self, items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
        """The hard negatives that are used, in their own order."""
        if self.hard_negatives is None or len(items) <= self.hard_negatives:
            return list(items)
        return [items[i] for i in sorted(rng.permutation(len(items))[: self.hard_negatives].tolist())]

    def _row(self, item: Item, where: str, rng: np.random.Generator, pictures: _Pictures) -> _Row:
        """An item whose picture is open and whose visual prompt is drawn."""
        if item.image is None:
            return _Row(item, self._text(item, None), where, None, None, (0, 0), _key(item, None, None))
        name, picture = pictures.open(item)
        prompt = annotated = None
        if item.prompt is not None:
            prompt = annotated = as_visual_prompt(item.prompt, *picture.size)
            if self.prompt_kinds is not None:
                prompt = as_visual_prompt(redraw(annotated, rng, self.prompt_kinds, picture.size), *picture.size)
        return _Row(item, self._text(item, prompt), where, name, prompt, picture.size, _key(item, name, annotated))

    def _text(self, item: Item, prompt: VisualPrompt | None) -> str:
        text = self.processor.render(item, prompt)
        unseen = prompt is not None and self.processor.config.sam_config is None
        if unseen and text == self.processor.render(item):
            raise ValueError("The model has no segmentation stream and cannot take such a visual prompt.")
        return text

    def _rows(self, rows: list[_Row], used: Mapping[str, Image.Image], images: list[dict[str, Tensor]]) -> Side:
        numbers = {name: number for number, name in enumerate(used)}
        image = [-1 if row.picture is None else numbers[row.picture] for row in rows]
        counts = [int(self.processor.image_token_counts(each["image_grid_thw"])[0]) for each in images]
        texts = [row.text for row in rows]
        shown = [row for row in rows if row.picture is not None]
        prompts = None
        if shown and self.processor.config.sam_config is not None:
            prompts = self.processor.prompt_inputs([row.prompt for row in shown], [row.size for row in shown])
        return Side(
            self.processor.token_ids(texts, [0 if i < 0 else counts[i] for i in image]) if rows else [],
            image,
            prompts,
            torch.tensor([row.key for row in rows], dtype=torch.int64),
            [row.where for row in rows],
        )


@dataclass(frozen=True)
class _Row:
    item: Item
    text: str
    where: str
    picture: str | None
    prompt: VisualPrompt | None
    size: tuple[int, int]
    key: int


class _Pictures:
    """The pictures of a batch, each opened once."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}
        self._open: dict[str, Image.Image] = {}

    def open(self, item: Item) -> tuple[str, Image.Image]:
        """The name and the pixels (RGB) of an item's picture.

        Raises:
            ImageError: If it cannot be opened, each time it is asked for.
        """
        assert item.image is not None
        source = image_key(item.image)
        if source not in self._names:
            picture = open_image(item.image)
            # A file is told by its path on every machine, an object in memory by its pixels.
            is_file = isinstance(source, tuple) and source[0] == "file"
            name = str(source[1]) if is_file and isinstance(source, tuple) else _content(picture).hex()
            self._names[source] = name
            self._open[name] = picture
        name = self._names[source]
        return name, self._open[name]

    def used(self, rows: Sequence[_Row]) -> dict[str, Image.Image]:
        """The pictures that rows are about: not those of pairs that were left out."""
        names = dict.fromkeys(row.picture for row in rows if row.picture is not None)
        return {name: self._open[name] for name in names}


def _content(picture: Image.Image) -> bytes:
    return _digest(repr(picture.size).encode() + picture.tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _key(item: Item, picture: str | None, region: VisualPrompt | None) -> int:
    """A number that equal items share: words, picture, and the region as annotated, not as drawn."""
    mask = b"" if region is None or region.mask is None else np.packbits(region.mask.array).tobytes()
    where = None if region is None else (region.points, region.box)
    content = repr((item.instruction, item.text, picture, where)).encode() + mask
    return int.from_bytes(_digest(content), "big", signed=True)
