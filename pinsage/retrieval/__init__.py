"""Layer 5: nearest neighbors of an embedding (paper, section 3.5)."""
