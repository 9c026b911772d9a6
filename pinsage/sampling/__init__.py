"""Layer 3: from seed items to a minibatch; NumPy only."""
