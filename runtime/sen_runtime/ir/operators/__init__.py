"""Weight operators: stored forms of the matrix of a layer; one file each."""

from sen_runtime.ir.operators.base import WeightOperator
from sen_runtime.ir.operators.coordinates import Coordinates
from sen_runtime.ir.operators.dense import Dense
from sen_runtime.ir.operators.int4 import Int4
from sen_runtime.ir.operators.low_rank import LowRank
from sen_runtime.ir.operators.sparse import Sparse
from sen_runtime.ir.operators.sum import Sum, leaves, map_leaves

__all__ = ["Coordinates", "Dense", "Int4", "LowRank", "Sparse", "Sum", "WeightOperator", "leaves", "map_leaves"]
