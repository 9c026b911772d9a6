"""Layer 1: arrays in, arrays out; no settings, no files, no state.

A compiled function here calls only compiled functions of its own file, besides the fixed
`intrinsics`: Numba's on-disk cache notices a change in a function's own file and in no other.
"""

from pinsage.kernels.cooccurrence import weighted_cooccurrence
from pinsage.kernels.csr import build_csr, transpose
from pinsage.kernels.gather import gather_rows
from pinsage.kernels.packing import PackedAdjacency, pack
from pinsage.kernels.pooling import gram, pool_rows, rotate, symmetric_eigen
from pinsage.kernels.reindex import Scratch, layers_from_table, unique_ids
from pinsage.kernels.topk import rank_bounds, top_k
from pinsage.kernels.visits import add_visits, importance_weights, top_visited
from pinsage.kernels.walks import random_walks, walk_neighborhoods, walk_new_items

__all__ = [
    "PackedAdjacency",
    "Scratch",
    "add_visits",
    "build_csr",
    "gather_rows",
    "gram",
    "importance_weights",
    "layers_from_table",
    "pack",
    "pool_rows",
    "random_walks",
    "rank_bounds",
    "rotate",
    "symmetric_eigen",
    "top_k",
    "top_visited",
    "transpose",
    "unique_ids",
    "walk_neighborhoods",
    "walk_new_items",
    "weighted_cooccurrence",
]
