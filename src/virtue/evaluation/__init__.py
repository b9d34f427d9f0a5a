"""Floor 3: `scenes` measures a model on held-out scenes of the drawn world, `metrics` counts what it got right."""
