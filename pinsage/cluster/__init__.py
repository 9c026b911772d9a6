"""Layer 6: the only layer that imports Ray; each class here is thin."""
