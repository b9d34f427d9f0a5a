"""One training step's rows and their embeddings: what GradCache asks for, of a model, its towers and a batch.

Letters: B pairs, Q queries, M targets, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from virtue.data.collator import PairBatch, Side
from virtue.model import VirtueProcessor
from virtue.training.gathering import gather_rows, process_rank
from virtue.training.settings import ChunkSettings
from virtue.training.towers import Towers

SIDES = ("queries", "targets")


class StepRows:
    """The rows of one step and how to embed some of them.

    Args:
        module: The model, or what wraps it for several processes.
        processor: The model's.
        batch: The step's data.
        towers: Of the batch's pictures.
    """

    def __init__(self, module: nn.Module, processor: VirtueProcessor, batch: PairBatch, towers: Towers) -> None:
        self.module, self.processor, self.batch, self.towers = module, processor, batch, towers
        self.sides: tuple[Side, Side] = (batch.queries, batch.targets)
        # Visual prompts are those of the rows with a picture: which of them is whose.
        self._prompts = [
            {row: number for number, row in enumerate(row for row, image in enumerate(side.image) if image >= 0)}
            for side in self.sides
        ]

    def lengths(self, side: int) -> list[int]:
        """Tokens of each row, segmentation tokens counted."""
        segmentation = self.processor.config.segmentation_side**2
        rows = self.sides[side]
        return [len(ids) + (segmentation if image >= 0 else 0) for ids, image in zip(rows.ids, rows.image, strict=True)]

    def embed(self, side: int, numbers: Sequence[int]) -> Tensor:
        """Embeddings of some rows of a side, (rows, D) float32.

        Of no rows the model is asked all the same, in vain: what runs in all processes must run in those too that have
        nothing to embed.
        """
        if not numbers:
            return self._forward(self._padded([[0]]))[:0]
        rows, device = self.sides[side], self.towers.model.device
        inputs = self._padded([rows.ids[row] for row in numbers])
        shown = [row for row in numbers if rows.image[row] >= 0]
        if not shown:
            return self._forward(inputs)
        pictures = list(dict.fromkeys(rows.image[row] for row in shown))
        index = [pictures.index(rows.image[row]) if rows.image[row] >= 0 else -1 for row in numbers]
        more: dict[str, object] = {"image_index": torch.tensor(index, device=device)}
        if rows.prompts is not None:
            prompts = rows.prompts.rows(torch.tensor([self._prompts[side][row] for row in shown])).to(device)
            more |= {"prompt_points": prompts.points, "prompt_labels": prompts.labels}
            more |= {"prompt_masks": prompts.masks, "prompt_has_mask": prompts.has_mask}
        return self._forward(inputs | self.towers.inputs(pictures) | more)

    def embed_all(self, side: int, chunks: ChunkSettings) -> Tensor:
        """Embeddings of all rows of a side by chunks, (rows, D) float32."""
        cut = chunks.chunks(SIDES[side], self.lengths(side))
        order = torch.tensor([row for rows in cut for row in rows], dtype=torch.long)
        return torch.cat([self.embed(side, rows) for rows in cut])[order.argsort()]

    def _padded(self, ids: Sequence[Sequence[int]]) -> dict[str, object]:
        device = self.towers.model.device
        return {name: tensor.to(device) for name, tensor in self.processor.pad(ids).items()}

    def _forward(self, inputs: dict[str, object]) -> Tensor:
        embeddings: Tensor = self.module(**inputs).embeddings
        return embeddings


@dataclass(frozen=True)
class Everybody:
    """The rows of all processes as one batch.

    Attributes:
        queries: All queries, those with a positive first, (Q, D).
        targets: All targets, (M, D).
        positives: Each query's positive among the targets, (B,).
        query_keys: (Q,).
        target_keys: (M,).
    """

    queries: Tensor
    targets: Tensor
    positives: Tensor
    query_keys: Tensor
    target_keys: Tensor

    @classmethod
    def gather(cls, queries: Tensor, targets: Tensor, batch: PairBatch) -> Everybody:
        """Join this process's embeddings, (Q, D) and (M, D), with those of the others, which have no graph here."""
        device, pairs = queries.device, len(batch)
        keys = batch.queries.keys.to(device)
        joined = [gather_rows(part) for part in (queries[:pairs], queries[pairs:], keys[:pairs], keys[pairs:])]
        all_targets, target_keys = gather_rows(targets), gather_rows(batch.targets.keys.to(device))
        before = [sum(len(part) for part in all_targets[:rank]) for rank in range(len(all_targets))]
        own = batch.positives.to(device) + before[process_rank()]
        return cls(
            torch.cat([*joined[0], *joined[1]]),
            torch.cat(all_targets),
            torch.cat(gather_rows(own)),
            torch.cat([*joined[2], *joined[3]]),
            torch.cat(target_keys),
        )
