"""Layers: the forward pass and its hand-written backward side by side.

Shapes, as in the lecture: N examples, layer l has n[l] neurons, A[0] = X.

    W[l] (n[l], n[l-1])    b[l] (n[l], 1)    Z[l], A[l] (N, n[l])
"""

from jaxnn.layers.dense import Dense, Residuals, dense
from jaxnn.layers.layer import Layer, ShapeError
from jaxnn.layers.serial import mlp, serial

__all__ = ["Dense", "Layer", "Residuals", "ShapeError", "dense", "mlp", "serial"]
