"""Layer 4: what the tables of a sweep mean: clusters, factors, knowledge, merging."""
