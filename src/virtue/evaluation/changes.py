"""A change of items that has a name: how a model without visual prompts is shown a region, or how one is disturbed.

Changes are applied to an item only when it is about to be embedded, a few at a time, because many make a picture of it
in memory; embeddings on disk are kept by the names of the changes and the item as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from virtue.items import Item


@dataclass(frozen=True)
class Change:
    """Something done to items, the same to the same item every time.

    Attributes:
        name: Says what is done, with every amount that matters: two changes of one name do the same.
        apply: What is done; gives back the item itself where there is nothing to change.
    """

    name: str
    apply: Callable[[Item], Item]


def changed(item: Item, changes: Sequence[Change]) -> Item:
    """The item after all changes, in their order."""
    for change in changes:
        item = change.apply(item)
    return item
