"""Floor 2: `Embedder`, which turns texts, pictures and pointed-at things into vectors, and `ImageView` of a picture."""

from virtue.embedder.embedder import Embedder
from virtue.embedder.image_view import ImageView
from virtue.embedder.quantization import Precision, quantize_embeddings

__all__ = ["Embedder", "ImageView", "Precision", "quantize_embeddings"]
