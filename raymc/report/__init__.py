"""Layer 4: data frames, figures and progress for people."""
