"""`ImageView`: one picture, read and encoded once, of which any number of things are asked.

What one more visual prompt or text costs is the prompt encoder, the mask decoder's transformer, the connector and the
language model; the image towers do not run again.

Letters: N things asked, H and W the picture's height and width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from virtue.embedder.batching import halving
from virtue.items import Item
from virtue.prompts import AnyPrompt, as_visual_prompt

if TYPE_CHECKING:
    from virtue.embedder.embedder import Embedder

BATCH_SIZE = 32
PREVIEW_BUDGET = 2**26  # pixels of mask logits that are enlarged at once, 256 MB


class ImageView:
    """An open picture, made by `Embedder.open`.

    Args:
        embedder: The model that has read it.
        image: The picture: RGB, after the EXIF turn.
    """

    def __init__(self, embedder: Embedder, image: Image.Image) -> None:
        self.image = image
        self._embedder = embedder
        self._rows = embedder.rows
        with torch.inference_mode():
            inputs = self._rows.processor.image_inputs([image])
            self._features = self._rows.features([inputs], previews=embedder.model.sam is not None)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in source pixels."""
        width, height = self.image.size
        return width, height

    @property
    def nbytes(self) -> int:
        """Memory that the view holds, bytes: features and picture."""
        return self._features.nbytes + self.image.width * self.image.height * len(self.image.getbands())

    def encode(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        instruction: str | None = None,
    ) -> NDArray[np.float32]:
        """Embed things about this picture: one text for many visual prompts, many texts for one, or pairs of both.

        Args:
            prompts: A visual prompt, None for the whole picture, or a list of such.
            text: Words about the picture, None for none, or a list of such.
            instruction: What the embeddings are for.

        Returns:
            Unit embeddings, (N, D) float32; (D,) if neither argument is a list.

        Raises:
            ValueError: If the two lists differ in length, or a visual prompt does not fit the picture.
        """
        asked = _broadcast(prompts, text)
        items = [Item(text=words, image=self.image, prompt=prompt, instruction=instruction) for prompt, words in asked]
        if not items:
            return np.empty((0, self._embedder.dimension), dtype=np.float32)
        out = np.empty((len(items), self._embedder.width), dtype=np.float32)
        with torch.inference_mode():
            rows = self._rows.image_rows(
                list(enumerate(items)), 0, self.size, len(self._features.visual[0]), numbered=len(items) > 1
            )
            self._rows.embed(rows, self._features, out, BATCH_SIZE)
        embeddings = self._embedder.truncated(out)
        return embeddings if _is_list(prompts) or _is_list(text) else embeddings[0]

    def mask(self, prompt: AnyPrompt) -> NDArray[np.bool_]:
        """What the model sees at a visual prompt, as pixels of the picture, bool (H, W).

        Raises:
            ValueError: If the prompt does not fit the picture, or the model has no segmentation stream.
        """
        masks, _ = self.masks([prompt])
        only: NDArray[np.bool_] = masks[0]
        return only

    def masks(
        self, prompts: Sequence[AnyPrompt], longest: int | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """What the model sees at each visual prompt.

        Args:
            prompts: N visual prompts, in source pixels.
            longest: Pixels of the masks' longer side at most; None for the picture's own size. SAM-2's masks are
                coarse, and to enlarge them to a large photograph takes longer than to compute them.

        Returns:
            Masks bool (N, H, W), H and W reduced to fit `longest`, and how good SAM-2 takes each to be, predicted IoU
            in [0, 1], (N,).

        Raises:
            ValueError: If a prompt does not fit the picture, or the model has no segmentation stream.
        """
        if self._embedder.model.sam is None:
            raise ValueError("This model has no segmentation stream, so it draws no masks.")
        width, height = self.size
        checked = [as_visual_prompt(prompt, width, height) for prompt in prompts]
        scale = 1.0 if longest is None else min(1.0, longest / max(width, height))
        columns, rows = max(1, round(scale * width)), max(1, round(scale * height))
        masks = np.empty((len(checked), rows, columns), dtype=np.bool_)
        quality = np.empty(len(checked), dtype=np.float32)

        def compute(numbers: Sequence[int]) -> None:
            sam = self._rows.sam_prompts([checked[number] for number in numbers], [self.size] * len(numbers))
            index = torch.zeros(len(numbers), dtype=torch.long, device=self._rows.model.device)
            logits, iou = self._rows.model.masks(self._features, index, sam)
            square = logits.float().unsqueeze(1)  # (N, 1, 4h, 4w) over SAM-2's frame
            full = torch.nn.functional.interpolate(square, size=(rows, columns), mode="bilinear", align_corners=False)
            masks[list(numbers)] = (full[:, 0] > 0).cpu().numpy()
            quality[list(numbers)] = iou.float().cpu().numpy()

        most = max(1, min(BATCH_SIZE, PREVIEW_BUDGET // (rows * columns)))
        with torch.inference_mode():
            for start in range(0, len(checked), most):
                halving(compute, range(start, min(start + most, len(checked))))
        return masks, quality


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _broadcast(prompts: Any, text: Any) -> list[tuple[AnyPrompt | None, str | None]]:
    """Pairs of visual prompt and text; what stands alone goes with each of the others."""
    many = {len(value) for value in (prompts, text) if _is_list(value)}
    if len(many) > 1:
        raise ValueError(
            f"Got {len(prompts)} visual prompts and {len(text)} texts: give as many of both, or one of either."
        )
    count = many.pop() if many else 1
    left = prompts if _is_list(prompts) else [prompts] * count
    right = text if _is_list(text) else [text] * count
    return list(zip(left, right, strict=True))
