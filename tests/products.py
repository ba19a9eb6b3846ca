"""Perceptrons with int8 weights to the bit, as the C library computes them: inputs in eight bits, sums in integers."""

import numpy as np

from sen_runtime.network import Network, Relu
from sen_runtime.operators import Dense, LowRank, leaves


def in_eight_bits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows rounded to -127..127, and their scales, as the library rounds what int8 weights are multiplied with."""
    greatest = np.abs(x).max(axis=1, keepdims=True)
    inverse = np.divide(np.float32(127), greatest, out=np.zeros_like(greatest), where=greatest > 1e-30)
    return np.rint(x * inverse).astype(np.int64), greatest / np.float32(127)


def int8_product(w: np.ndarray, scale: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`x w^T` in integers, then in float32, operation by operation."""
    values, x_scale = in_eight_bits(x)
    return (scale * x_scale) * (values @ w.astype(np.int64).T).astype(np.float32)


def run_int8(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """What every layer of a perceptron with int8 weights gives out, to the bit."""
    activations = []
    for layer in network.layers:
        y = None if layer.bias is None else np.broadcast_to(layer.bias, (len(x), len(layer.bias)))
        for leaf in leaves(layer.weight):
            if isinstance(leaf, LowRank):
                inner = int8_product(leaf.right, leaf.right_scale, x)
                product = int8_product(leaf.left, leaf.left_scale, inner)
            else:
                stored = leaf.w if isinstance(leaf, Dense) else leaf.written_out()
                product = int8_product(stored, leaf.scale, x)
            y = product if y is None else y + product
        x = np.where(y > 0, y, np.float32(0)) if isinstance(layer.neuron, Relu) else y
        activations.append(x)
    return activations
