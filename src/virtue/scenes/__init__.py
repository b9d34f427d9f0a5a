"""The drawn world: seeded scenes of emoji objects on painted places, with exact masks and captions that are true."""
