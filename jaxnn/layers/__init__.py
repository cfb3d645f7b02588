"""Layers: the forward pass and its hand-written backward side by side.

Shapes, as in the lecture: N examples, layer l has n[l] neurons, A[0] = X.

    W[l] (n[l], n[l-1])    b[l] (n[l], 1)    Z[l], A[l] (N, n[l])
"""

from jaxnn.layers.attention import attention
from jaxnn.layers.combinators import recomputed, repeated, residual, reversible
from jaxnn.layers.convolution import convolution
from jaxnn.layers.dense import Dense, Residuals, dense
from jaxnn.layers.dropout import dropout
from jaxnn.layers.layer import Layer, ShapeError
from jaxnn.layers.lstm import lstm
from jaxnn.layers.norms import batch_norm, layer_norm, rms_norm
from jaxnn.layers.pooling import average_pool, max_pool
from jaxnn.layers.serial import mlp, serial
from jaxnn.layers.vocabulary import Targets, embedding, head, tied, token_cross_entropy

__all__ = [
    "Dense", "Layer", "Residuals", "ShapeError", "Targets", "attention", "average_pool", "batch_norm",
    "convolution", "dense", "dropout", "embedding", "head", "layer_norm", "lstm", "max_pool", "mlp",
    "recomputed", "repeated", "residual", "reversible", "rms_norm", "serial", "tied",
    "token_cross_entropy",
]  # fmt: skip
