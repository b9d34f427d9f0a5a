"""People look at samples: a page to decide on, a queue that deals, agreement, and the way through Label Studio."""

from virtue.curation.review.serving import serve

__all__ = ["serve"]
