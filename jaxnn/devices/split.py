"""One step of gradient descent, split over the devices of a mesh: the mathematics is that of one device."""

from collections.abc import Callable

import optax
from jax.sharding import Mesh

from jaxnn import training
from jaxnn.devices.mesh import ROWS, held


def step(gradient: Callable, optimizer: optax.GradientTransformation, mesh: Mesh) -> Callable:
    """`jaxnn.training.step`, whose batch is split: each device computes the gradient of its part of the rows.

    The sum over the devices is one all-reduce of the gradient and the cost.

    >>> import jax, optax
    >>> from jaxnn.devices.mesh import mesh_of, placed
    >>> from jaxnn.training import start
    >>> mesh = mesh_of(jax.devices()[:1])
    >>> mean = jax.value_and_grad(lambda w, x: ((w - x) ** 2).mean() / 2)
    >>> state, x = placed(mesh, (start(jax.numpy.zeros(()), optax.sgd(1.0)), jax.numpy.arange(4.0)))
    >>> jax.jit(step(mean, optax.sgd(1.0), mesh))(state, x)[0].params
    Array(1.5, dtype=float32)
    """

    def split(params, *batch):
        return gradient(params, *held(mesh, batch, ROWS))

    descend = training.step(split, optimizer)

    def descend_and_hold(state, *batch):
        state, J = descend(state, *batch)
        return held(mesh, state), J

    return descend_and_hold
