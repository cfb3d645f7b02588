"""One step of gradient descent, split over the devices of a mesh: the mathematics is that of one device."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxnn import training
from jaxnn.devices.layout import stored, used
from jaxnn.devices.mesh import ROWS, held


def step(gradient: Callable, optimizer: optax.GradientTransformation, mesh: Mesh) -> Callable:
    """`jaxnn.training.step`, whose batch is split: each device computes the gradient of its part of the rows.

    Their sum over the devices is one all-reduce. Where parameters are split, so is all that belongs to them.
    A key behind the batch is the same on all.

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
        batch = [x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else held(mesh, x, ROWS) for x in batch]
        J, dparams = gradient(held(mesh, params, used(mesh, params)), *batch)
        return J, held(mesh, dparams, stored(mesh, dparams, params))

    descend = training.step(split, optimizer)

    def descend_and_hold(state, *batch):
        where = stored(mesh, state, state.params)
        state, J = descend(state, *batch)
        return held(mesh, state, where), J

    return descend_and_hold


def steps_on(mesh: Mesh, step: Callable, batch_size: int, steps: int, keyed: bool = False) -> Callable:
    """`jaxnn.training.steps_from` on a mesh; each device computes the order of all rows."""
    return training.steps_from(step, batch_size, steps, keyed, hold=partial(held, mesh))
