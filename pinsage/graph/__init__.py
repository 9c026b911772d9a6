"""Layer 2: what is stored, and where."""
