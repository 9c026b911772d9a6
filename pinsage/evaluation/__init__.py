"""Layer 5: how good the recommendations are (paper, section 4.2)."""
