"""Layer 4: the network; the first layer that may import Torch."""
