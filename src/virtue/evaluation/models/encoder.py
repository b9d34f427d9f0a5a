"""What an embedding model has to be able to do to be measured, and how one is found by its name.

`Embedder`, this project's own, is such a model as it stands. `sentence_encoder` and `server_encoder` make one of any
sentence-transformers model and of any server that speaks OpenAI's embeddings protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from virtue.items import Item


class Encoder(Protocol):
    """An embedding model.

    Attributes:
        name: What a report calls it.
        fingerprint: Changes when what it computes changes: embeddings on disk are kept by it.
    """

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when what it computes changes."""
        ...

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings of what is looked for, (N, D), of any length.

        Raises:
            ValueError: If an item cannot be embedded, such as a picture by a model of text.
        """
        ...

    def encode_document(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings of what is found, (N, D), of any length.

        Raises:
            ValueError: As `encode_query`.
        """
        ...
