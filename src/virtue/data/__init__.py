"""Training pairs: where they come from, how sources are mixed, and how a batch is made of them."""
