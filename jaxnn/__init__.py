"""Neural networks as pure JAX functions whose gradients you can read, and trust.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.activations import sigmoid
>>> from jaxnn.layers import mlp
>>> from jaxnn.losses import binary_cross_entropy
>>> from jaxnn.objective import cost, value_and_grad
>>> net = mlp(784, 17, 10, g=sigmoid)
>>> params = net.init(jax.random.key(0))
>>> X, Y = jnp.ones((32, 784)), jnp.eye(32, 10)
>>> J, by_hand = value_and_grad(net, binary_cross_entropy)(params, X, Y)
>>> J, by_autodiff = jax.value_and_grad(cost(net, binary_cross_entropy))(params, X, Y)
>>> all(jax.tree.leaves(jax.tree.map(jnp.allclose, by_hand, by_autodiff)))
True
"""

__version__ = "0.1.0"
