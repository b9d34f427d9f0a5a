"""What the frozen towers make of a batch's pictures: computed once per step and picture, whoever asks how often.

SAM-2's image encoder and the VLM's vision tower take most of a training step and learn nothing. Both passes of
GradCache and all rows about one picture share what they computed. Pictures are encoded in fixed groups, so what has to
be computed again, because it did not fit the limit, comes out the same to the bit.

A vision tower that learns has to run with its graph in the second pass; then only SAM-2's maps are kept.

Letters: N pictures, C channels and h x w size of SAM-2's map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from virtue.data.collator import Pictures
from virtue.model import VirtueModel
from virtue.model.features import ImageFeatures
from virtue.model.segmentation import encode_sam_map

Place = Literal["device", "host"]


class Towers:
    """The pictures of one step.

    Args:
        model: Whose towers look; its `vlm.visual` learns if any of its parameters does.
        images: What `VirtueModel.encode_images` takes, for each of the N pictures alone, on any device.
        group: Pictures that are encoded together.
        keep: Where features wait: on the model's "device", or in the memory of the "host".
        limit: Bytes of features that are kept; what is over is computed again whenever it is asked for.
    """

    def __init__(
        self,
        model: VirtueModel,
        images: Pictures | Sequence[dict[str, Tensor]],
        group: int = 8,
        keep: Place = "device",
        limit: int | None = None,
    ) -> None:
        if group < 1:
            raise ValueError(f"A group of pictures is 1 or more, not {group}.")
        self.model, self.images, self.group, self.keep, self.limit = model, images, group, keep, limit
        self.learns = any(parameter.requires_grad for parameter in model.vlm.visual.parameters())
        self.runs = 0
        self._kept: dict[int, ImageFeatures] = {}
        self._kept_bytes = 0

    def inputs(self, pictures: Sequence[int]) -> dict[str, ImageFeatures | Tensor]:
        """What `VirtueModel.forward` takes of some pictures, in the order asked for."""
        numbers = dict.fromkeys(picture // self.group for picture in pictures)
        groups = {number: self._features(number) for number in numbers}  # each once, even if none can be kept
        device = self.model.device
        own = [groups[picture // self.group].select([picture % self.group]).to(device) for picture in pictures]
        features = ImageFeatures.join(own)
        if not self.learns:
            return {"images": features}
        pixels = {
            name: torch.cat([self.images[i][name] for i in pictures]) for name in ("pixel_values", "image_grid_thw")
        }
        given: dict[str, ImageFeatures | Tensor] = {name: self._here(tensor) for name, tensor in pixels.items()}
        return given if features.segmentation is None else given | {"sam_features": features.segmentation}

    def _features(self, number: int) -> ImageFeatures:
        """A group's features, wherever they wait."""
        group = self._kept.get(number)
        if group is None:
            group = self._encode(number)
            if self.limit is None or self._kept_bytes + group.nbytes <= self.limit:
                self._kept_bytes += group.nbytes
                group = self._kept[number] = group.to(torch.device("cpu")) if self.keep == "host" else group
        return group

    @torch.no_grad()
    def _encode(self, number: int) -> ImageFeatures:
        self.runs += 1
        start = number * self.group
        members = [self.images[i] for i in range(start, min(start + self.group, len(self.images)))]
        joined = {name: self._here(torch.cat([each[name] for each in members])) for name in members[0]}
        if not self.learns:
            sam = joined.get("sam_pixel_values")
            return self.model.encode_images(joined["pixel_values"], joined["image_grid_thw"], sam)
        maps = None if self.model.sam is None else encode_sam_map(self.model.sam, joined["sam_pixel_values"])
        nothing = torch.empty(0, device=self.model.device)
        return ImageFeatures((nothing,) * len(members), ((0, 0),) * len(members), (), maps)

    def _here(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.model.device)
