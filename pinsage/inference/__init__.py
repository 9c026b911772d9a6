"""Layer 5: embeddings, each layer once per item (paper, section 3.4)."""
