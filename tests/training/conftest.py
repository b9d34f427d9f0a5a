import pytest

from tests.tiny import tiny_config, tiny_processor
from virtue.model import VirtueProcessor


@pytest.fixture(scope="session")
def processor() -> VirtueProcessor:
    """Of the tiny model, one token per byte, with room for whole captions."""
    processor = tiny_processor(tiny_config())
    processor.tokenizer.model_max_length = 512
    return processor
