"""Layer 0: settings, errors, randomness, published directories, logs; knows nothing of graphs."""
