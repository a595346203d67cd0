"""Layer 3: evaluate one pair to a profile; plan the pairs; barriers from stored profiles."""
