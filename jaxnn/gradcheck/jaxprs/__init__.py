"""Programs of JAX as data: their equations, primitives, and how NumPy runs them."""
