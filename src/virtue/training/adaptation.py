"""What a training starts from and what of it learns.

The paper's choice: SAM-2, the vision tower and the language model frozen, DoRA on the language model, the connector in
full. SAM-2 stays frozen in every training here: it runs without a graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from virtue.embedder.loading import load
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.adapters import add_adapter, merge_layers, save_adapter
from virtue.model.checkpoints import compose
from virtue.model.quiet import no_progress_bars
from virtue.training.settings import AdapterSettings, ModelSettings, TrainedPart

PARTS = ("adapter", "connector", "full")


def start(settings: ModelSettings, seed: int = 0) -> tuple[VirtueModel, VirtueProcessor]:
    """The model that a training starts from, on the CPU, and its processor.

    Args:
        settings: Which.
        seed: Draws the connector of a new model.

    Raises:
        ValueError: If something cannot be loaded; the message says what.
    """
    dtype = getattr(torch, settings.dtype)
    if settings.fresh:
        torch.manual_seed(seed)
        return compose(settings.start, settings.sam, dtype=dtype, template=settings.template)
    return load(settings.start, device="cpu", dtype=dtype)


def prepare(model: VirtueModel, part: TrainedPart = "adapter", adapter: AdapterSettings | None = None) -> None:
    """Freeze what does not learn, put an adapter in where one does; what learns becomes float32.

    Args:
        model: Prepared in place.
        part: "adapter" (and the connector), "connector" or "full".
        adapter: Of which kind.

    Raises:
        ValueError: If there is no such part, or the model has no connector to train.
    """
    if part not in PARTS:
        raise ValueError(f"What learns is one of {', '.join(PARTS)}, not {part!r}.")
    if part == "connector" and model.connector is None:
        raise ValueError("This model has no segmentation stream, so it has no connector to train: train an adapter.")
    model.requires_grad_(False)
    if part == "adapter":
        settings = adapter or AdapterSettings()
        add_adapter(
            model,
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            dora=settings.dora,
            targets=settings.targets,
        )
    if part == "full":
        model.vlm.float().requires_grad_(True)
    if model.connector is not None:
        model.connector.float().requires_grad_(True)


def compute_again(model: PreTrainedModel, **options: Any) -> None:
    """Let a model's layers compute their activations again in the backward pass rather than keep them.

    Args:
        model: Of transformers.
        options: Of `torch.utils.checkpoint.checkpoint`.
    """
    settings = {"use_reentrant": False} | options
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(settings)
    else:  # the name that newer releases of transformers warn of
        model.gradient_checkpointing_enable(settings)


def parameter_counts(model: VirtueModel) -> dict[str, tuple[int, int]]:
    """Parameters of each part of a model: all of them, and those that learn."""
    parts = {"SAM-2": model.sam, "connector": model.connector, "vision tower": model.vlm.visual}
    parts["language model"] = model.vlm.language_model
    counts = {}
    for name, module in parts.items():
        if module is not None:
            sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
            counts[name] = (sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))
    return counts


def export(model: VirtueModel, processor: VirtueProcessor, folder: Path, base: str | None, dtype: torch.dtype) -> None:
    """Write what was trained: the whole model into `model`, and an adapter, if there is one, into `adapter` as well.

    Args:
        model: After training; its adapter is merged.
        processor: The model's.
        folder: Of the run.
        base: Name of the model that training started from; None for a new one, which is nowhere to be had without its
            connector, so that an adapter alone would be of no use.
        dtype: Of the whole model's weights.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        if base is not None:
            save_adapter(model, folder / "adapter", base)
        merge_layers(model)
    with no_progress_bars():
        model.to(dtype).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
