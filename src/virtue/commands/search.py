"""`virtue search`: finds images, and objects in them, by words, by an image, or by a thing in one."""

from __future__ import annotations

import json
import os
import tempfile
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from virtue.index import Hit
    from virtue.items import Item
    from virtue.prompts import AnyPrompt

EXAMPLES = (
    'virtue search "a dog on a beach" --in ~/Pictures --top-k 5',
    "virtue search --image street.jpg --point 120,80 --exclude 300,40 --open",
    'virtue search "in the snow" --image dog.jpg --box 40,60,210,330',
    'virtue search "a dog" --filter "kind = \'region\' AND width >= 800" --json',
)


def search(
    text: Annotated[str | None, typer.Argument(help="Words, alone or about the image.")] = None,
    place: Annotated[Path, typer.Option("--in", help="The indexed folder, or the index.")] = Path(),
    image: Annotated[Path | None, typer.Option(help="Search by this image.")] = None,
    point: Annotated[list[str] | None, typer.Option(help="x,y on the thing that is meant; repeat for more.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="x,y on what is not meant; repeat for more.")] = None,
    box: Annotated[str | None, typer.Option(help="x1,y1,x2,y2 around the thing, in pixels of the image.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A PNG as large as the image, the thing in white.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many hits.")] = 10,
    filter: Annotated[str | None, typer.Option(help="A condition on the columns, in SQL: width >= 800.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show a page of the results in the browser.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page of results to this file.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the index's model lies now.", show_default="as the index remembers")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Find images by words, by an image, or by a thing in one.

    Points, a box and a mask say together which thing in the image is meant; words can be added to it.
    """
    item = query_item(text, image, visual_prompt(point or [], exclude or [], box, mask))
    hits = _search(item, place, model, device, top_k, filter)
    if as_json:
        typer.echo(json.dumps([_as_dict(hit) for hit in hits], indent=1))
    else:
        Console().print(hit_table(hits))
    if show or html is not None:
        _write_page(item, hits, html, show)


def visual_prompt(point: list[str], exclude: list[str], box: str | None, mask: Path | None) -> AnyPrompt | None:
    """What the options say together; None if they say nothing.

    Args:
        point: `x,y` each, on the thing.
        exclude: `x,y` each, beside it.
        box: `x1,y1,x2,y2` around it.
        mask: An image file with the thing in white.

    Raises:
        ValueError: If one of them is malformed.
    """
    from virtue.prompts import Box, Mask, Point

    parts: list[AnyPrompt] = [Point.parse(text) for text in point]
    for text in exclude:
        beside = Point.parse(text)
        parts.append(Point(beside.x, beside.y, include=False))
    if box is not None:
        parts.append(Box.parse(box))
    if mask is not None:
        parts.append(Mask.open(mask))
    if not parts:
        return None
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def query_item(text: str | None, image: Path | None, prompt: AnyPrompt | None) -> Item:
    """What is searched for.

    Raises:
        ValueError: If nothing is given, or a visual prompt without an image.
    """
    from virtue.items import Item

    if image is None and prompt is not None:
        raise ValueError("--point, --exclude, --box and --mask need the image they point into; give it with --image.")
    if text is None and image is None:
        raise ValueError('Give words, as in virtue search "a dog", or an image with --image.')
    return Item(text=text, image=image, prompt=prompt)


def hit_table(hits: list[Hit]) -> Table:
    """The hits as a table for a terminal, the best first."""
    table = Table("", "similarity", "image", "size", "region x1,y1,x2,y2")
    for column in table.columns[:2]:
        column.justify = "right"
    table.columns[2].overflow = "fold"
    for rank, hit in enumerate(hits, start=1):
        box = "" if hit.box is None else ",".join(f"{edge:g}" for edge in hit.box)
        size = f"{hit.width} x {hit.height}"
        table.add_row(str(rank), f"{hit.similarity:.3f}", Text(hit.path), size, box)  # a name is no markup
    return table


def _search(
    item: Item, place: Path, model: str | None, device: str | None, top_k: int, filter: str | None
) -> list[Hit]:
    from virtue.embedder import Embedder
    from virtue.index import find_index

    index = find_index(place)
    embedder = Embedder.from_pretrained(model or index.settings.model, device=device)
    return index.search(item, embedder, top_k=top_k, filter=filter)


def _as_dict(hit: Hit) -> dict[str, object]:
    return {**asdict(hit), "file": str(hit.file)}


def _write_page(item: Item, hits: list[Hit], html: Path | None, show: bool) -> None:
    from virtue.commands.results_page import results_page

    if html is None:
        handle, name = tempfile.mkstemp(prefix="virtue-", suffix=".html")
        os.close(handle)
        html = Path(name)
    html.write_text(results_page(item, hits), encoding="utf-8")
    typer.echo(f"The page of results is {html}.", err=True)
    if show:
        webbrowser.open(html.resolve().as_uri())
