"""Layer 1: pure tensors and numbers: curves, distances, barriers."""
