"""Search over a folder of images: a LanceDB table of embeddings that remembers the model which made them.

`table` holds `Index` and `Hit`, `building` brings an index up to date with its folder, `regions` proposes the objects
of an image that get rows of their own. D is the length of an embedding, H and W the height and width of an image.
"""

from virtue.index.building import Summary, Unreadable, build
from virtue.index.regions import RegionSettings
from virtue.index.table import FOLDER_NAME, Hit, Index, IndexSettings, find_index

__all__ = [
    "FOLDER_NAME",
    "Hit",
    "Index",
    "IndexSettings",
    "RegionSettings",
    "Summary",
    "Unreadable",
    "build",
    "find_index",
]
