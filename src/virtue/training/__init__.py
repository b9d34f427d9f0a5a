"""Floor 2: training. `nano` is the recipe of the bundled model, from nothing to weights."""
