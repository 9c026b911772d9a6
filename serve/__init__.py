"""Layer 7: recommendations over HTTP."""
