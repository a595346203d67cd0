"""Layer 1: the view of a sweep in a tracker. The store is the truth; a tracker can be down, slow, or rebuilt."""
