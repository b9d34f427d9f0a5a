"""Embeddings of text, images and pointed-at things.

The public names are offered lazily: `import virtue` reads nothing but this file, and `virtue.Embedder` loads torch
the moment it is asked for. All else is reached by its module path and may change.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from virtue.data.collator import PairCollator
    from virtue.data.pairs import Pair
    from virtue.embedder import Embedder
    from virtue.evaluation.run import evaluate
    from virtue.evaluation.tasks import Task
    from virtue.index import Hit, Index
    from virtue.items import Item
    from virtue.model.configuration_virtue import VirtueConfig
    from virtue.model.modeling_virtue import VirtueModel
    from virtue.model.processing_virtue import VirtueProcessor
    from virtue.prompts import Box, Mask, Point, Points
    from virtue.training.loss import info_nce
    from virtue.training.trainer import ContrastiveTrainer

__version__ = "0.1.0"

__all__ = [
    "Box",
    "ContrastiveTrainer",
    "Embedder",
    "Hit",
    "Index",
    "Item",
    "Mask",
    "Pair",
    "PairCollator",
    "Point",
    "Points",
    "Task",
    "VirtueConfig",
    "VirtueModel",
    "VirtueProcessor",
    "evaluate",
    "info_nce",
]

_HOME = {
    "Box": "virtue.prompts",
    "ContrastiveTrainer": "virtue.training.trainer",
    "Embedder": "virtue.embedder",
    "Hit": "virtue.index",
    "Index": "virtue.index",
    "Item": "virtue.items",
    "Mask": "virtue.prompts",
    "Pair": "virtue.data.pairs",
    "PairCollator": "virtue.data.collator",
    "Point": "virtue.prompts",
    "Points": "virtue.prompts",
    "Task": "virtue.evaluation.tasks",
    "VirtueConfig": "virtue.model.configuration_virtue",
    "VirtueModel": "virtue.model.modeling_virtue",
    "VirtueProcessor": "virtue.model.processing_virtue",
    "evaluate": "virtue.evaluation.run",
    "info_nce": "virtue.training.loss",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'virtue' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # the next look-up no longer comes here
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
