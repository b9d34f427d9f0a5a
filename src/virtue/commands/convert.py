"""`virtue convert`: a checkpoint from the authors' layout to this project's, and back.

The target appears whole or not at all: everything is written into a folder beside it, which takes its name at the end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from virtue.model import VirtueModel, VirtueProcessor

EXAMPLES = (
    "virtue convert Sony/VIRTUE-2B-SCaR virtue-2b",
    "virtue convert released/ ours/ --sam sam2.1_hiera_base_plus.pt --dtype bfloat16",
    "virtue convert released/ ours/ --adapter checkpoint-2000/",
    "virtue convert ours/ released/ --to released",
)


class Layout(StrEnum):
    """Which layout to write."""

    VIRTUE = "virtue"
    RELEASED = "released"


class Precision(StrEnum):
    """Number format of the weights."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint: nano, a folder or a Hub id, in either layout.")],
    target: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    to: Annotated[Layout, typer.Option(help="The layout to write: this project's or the authors'.")] = Layout.VIRTUE,
    sam: Annotated[
        str | None,
        typer.Option(help="SAM-2 weights of SOURCE: Meta's .pt, a folder or a Hub id.", show_default="by SOURCE"),
    ] = None,
    sam_config: Annotated[
        Path | None, typer.Option(help="Meta's YAML or JSON of a .pt that is no public size.", show_default=False)
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="A PEFT folder or Hub id to merge into the weights.", show_default=False)
    ] = None,
    dtype: Annotated[
        Precision | None, typer.Option(help="Number format of the weights.", show_default="as SOURCE")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of SOURCE on the Hub.", show_default=False)
    ] = None,
) -> None:
    """Convert a checkpoint between the released layout and ours."""
    if target.exists():
        raise FileExistsError(f"{target} is there already: remove it or name another folder.")
    kind = None if dtype is None else dtype.value
    model, processor = _load(source, sam, sam_config, revision, "float32" if kind and adapter else kind)
    if adapter is not None:
        from virtue.model.checkpoints import merge_adapter

        stored = model.dtype
        model = merge_adapter(model.float(), adapter, kind or stored)  # for the sum every digit counts
    with _whole(target) as folder:
        _save(model, processor, to, folder)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    count = sum(parameter.numel() for parameter in model.parameters())
    typer.echo(
        f"Wrote {target} in the {to} layout: {count / 1e6:,.1f} M parameters in "
        f"{str(model.dtype).removeprefix('torch.')}, {size / 1e6:,.1f} MB."
    )


def _load(
    source: str, sam: str | None, sam_config: Path | None, revision: str | None, dtype: str | None
) -> tuple[VirtueModel, VirtueProcessor]:
    """Model and processor of a checkpoint in either layout."""
    from virtue.embedder.loading import bundled
    from virtue.model.checkpoints import is_released, load_released, load_saved
    from virtue.model.released import RELEASED_PATTERNS
    from virtue.model.weight_files import CheckpointError, find_folder

    folder = bundled(source) or find_folder(source, RELEASED_PATTERNS, revision)
    if is_released(folder):
        return load_released(folder, sam=sam, sam_config=sam_config, dtype=dtype)
    if sam is not None or sam_config is not None:
        raise CheckpointError(f"{source} holds its own SAM-2: leave out --sam and --sam-config.")
    return load_saved(folder, dtype)


def _save(model: VirtueModel, processor: VirtueProcessor, to: Layout, folder: Path) -> None:
    if to is Layout.RELEASED:
        from virtue.model.checkpoints import save_released

        save_released(model, processor, folder)
    else:
        processor.save_pretrained(folder)
        model.save_pretrained(folder)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` when all went well and vanishes when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        yield folder
        shutil.move(folder, target)
