"""Layer 1: the view of a sweep in a tracker. The store is the truth; a tracker can be down, slow, or rebuilt."""

KEPT = "results are in the store, and the same command completes the view"
