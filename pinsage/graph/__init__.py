"""Layer 2: what is stored, and where."""

from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.catalog import Catalog
from pinsage.graph.features import FeatureStore
from pinsage.graph.opened import Graph, Pairs
from pinsage.graph.schema import DataConfig

__all__ = ["BipartiteAdjacency", "Catalog", "DataConfig", "FeatureStore", "Graph", "Pairs"]
