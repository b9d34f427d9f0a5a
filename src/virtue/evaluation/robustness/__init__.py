"""How figures fall when visual prompts and pictures are disturbed, and where points of whole pictures come from."""
