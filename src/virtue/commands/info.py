"""`virtue info`: what is installed, and what a model or an index is, as a small table."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import virtue

if TYPE_CHECKING:
    from virtue.embedder import Embedder
    from virtue.index import Index

EXAMPLES = (
    "virtue info",
    "virtue info nano",
    "virtue info ~/Pictures",
)

_LIBRARIES = ("torch", "transformers", "lancedb")
_UNSAID = "it does not say"
Facts = dict[str, str]


def info(
    what: Annotated[
        str | None,
        typer.Argument(help="A model (name, folder or Hub id), an index or an indexed folder.", show_default=False),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Show what is installed, and what a model or an index is."""
    from virtue.index import find_index

    if what is None:
        facts = _installed()
    elif _is_index(Path(what)):
        facts = index_facts(find_index(what))
    else:
        from virtue.embedder import Embedder

        facts = model_facts(Embedder.from_pretrained(what, device=device), licence(what))
    Console().print(_table(facts))


def model_facts(embedder: Embedder, licence: str) -> Facts:
    """What a model is, name and value of each fact."""
    config = embedder.model.config
    count = sum(parameter.numel() for parameter in embedder.model.parameters())
    segmenter = (
        f"SAM-2, {config.sam_image_size} px, {config.segmentation_side**2} tokens" if config.sam_config else "none"
    )
    return {
        "model": embedder.name,
        "parameters": f"{count / 1e6:,.1f} M, {str(embedder.model.dtype).removeprefix('torch.')}",
        "dimension": f"{embedder.dimension:,}",
        "backbone": str(config.vlm_config.model_type),
        "segmentation stream": segmenter,
        "template": config.template,
        "position rule": config.position_rule,
        "double normalization": _yes(config.double_normalization),
        "unscaled boxes": _yes(config.unscaled_boxes),
        "trained on": config.trained_on or _UNSAID,
        "licence": licence,
        "fingerprint": embedder.fingerprint[:12],
        "device": str(embedder.device),
    }


def index_facts(index: Index) -> Facts:
    """What an index is, name and value of each fact."""
    settings, images = index.settings, len(index.files())
    return {
        "index": str(index.folder),
        "images of": str(index.root),
        "images": f"{images:,}",
        "regions": f"{len(index) - images:,}" if settings.regions else "not indexed",
        "model": settings.model,
        "dimension": f"{settings.dimension:,}",
        "fingerprint": settings.fingerprint[:12],
    }


def licence(model: str) -> str:
    """Under which licence a model's weights are, as its card says it."""
    if model == "nano":
        return "Apache-2.0"
    from huggingface_hub import ModelCard, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    card = Path(model) / "README.md"
    try:
        if not Path(model).is_dir():
            card = Path(hf_hub_download(model, "README.md"))
        return str(ModelCard.load(card).data.get("license") or _UNSAID)
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):
        return _UNSAID


def _is_index(place: Path) -> bool:
    from virtue.index import FOLDER_NAME, Index

    return Index.exists(place) or Index.exists(place / FOLDER_NAME)


def _installed() -> Facts:
    import torch

    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {"virtue": virtue.__version__, "python": platform.python_version(), **versions, "cuda device": cuda}


def _yes(value: bool) -> str:
    return "yes, as released" if value else "no"


def _table(facts: Facts) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))  # a path is no markup
    return table
