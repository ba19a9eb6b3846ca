"""Models: configuration, torch layers, checkpoints, foreign maps, statistics."""
