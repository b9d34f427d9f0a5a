"""What can be measured: this project's models, any sentence-transformers model, any server of embeddings."""
