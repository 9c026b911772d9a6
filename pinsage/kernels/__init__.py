"""Layer 1: arrays in, arrays out; no settings, no files, no state."""
