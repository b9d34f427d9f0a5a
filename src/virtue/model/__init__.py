"""Floor 1: the VIRTUE model, its configuration, its processor and its checkpoints.

Importing this package registers the three with `transformers`, so `AutoConfig`, `AutoModel` and `AutoProcessor` know
them.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor

from virtue.model.configuration_virtue import VirtueConfig
from virtue.model.modeling_virtue import VirtueModel, VirtueOutput
from virtue.model.processing_virtue import VirtueProcessor

AutoConfig.register("virtue", VirtueConfig, exist_ok=True)
AutoModel.register(VirtueConfig, VirtueModel, exist_ok=True)
AutoProcessor.register(VirtueConfig, VirtueProcessor, exist_ok=True)

__all__ = ["VirtueConfig", "VirtueModel", "VirtueOutput", "VirtueProcessor"]
