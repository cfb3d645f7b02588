"""A student's file, with all that a student's file may have in it."""
# ruff: noqa: B007, E702, E731, F841, RUF059

import functools

import jax
import jax.numpy as jnp


def sigma(Z):
    return 1 / (1 + jnp.exp(-Z))


softly = lambda Z: jnp.log1p(jnp.exp(Z))


def loud(function):
    @functools.wraps(function)
    def called(*arguments):
        return function(*arguments)

    return called


def loss(W1, b1, W2, b2, X, Y):
    Z1 = X @ W1.T + b1.T
    A1 = sigma(Z1)
    Z2 = A1 @ W2.T + b2.T
    Y_hat = sigma(Z2)
    return -jnp.sum(Y * jnp.log(Y_hat) + (1 - Y) * jnp.log(1 - Y_hat)) / len(X)


def gradient(W1, b1, W2, b2, X, Y):
    Z1 = X @ W1.T + b1.T
    A1 = sigma(Z1)
    Z2 = A1 @ W2.T + b2.T
    Y_hat = sigma(Z2)
    dZ2 = (Y_hat - Y) / len(X)
    dW2 = dZ2.T @ A1
    db2 = dZ2.T.sum(axis=1, keepdims=True)
    dZ1 = (dZ2 @ W2) * A1 * (1 - A1)
    return dZ1.T @ X, dZ1.T.sum(axis=1, keepdims=True), dW2, db2


# fmt: off
@loud
@jax.jit
def untidy(W, X, rate=0.5):
    # what it computes makes no sense
    Z = (
        X  # (N, n)
        @ W.T
    )
    a = jnp.tanh(Z); b = jnp.cos(a)
    c = softly(b) if rate \
        else b
    for k in range(2):  # twice
        c = c + jnp.sin(
            b,
        )
    s = "#".join(["no", "comment"]) and jnp.exp(c)
    dead = jnp.log1p(
        s * s)  # never used
    dead_end = dead + 1
    return within(s)
# fmt: on


@jax.jit
def within(s):
    t = s * 2

    def deeper(t):
        return t - 1

    return deeper(t)


def looping(W, X):
    def turn(carry, x):
        return carry + jnp.sum(W @ x), carry

    total, carries = jax.lax.scan(turn, jnp.zeros(()), X)
    n = jax.lax.while_loop(lambda n: n < total, lambda n: 2 * n + 1, 1.0)
    return jax.lax.cond(n > 2, lambda t: t, lambda t: -t, total + n)


def backward_of_two_layers(W1, W2, X, dZ2):
    """As a layer that always gives dA_prev, for the first one, too."""

    def backward(W, A_prev, dZ):
        dW = dZ.T @ A_prev
        dA_prev = dZ @ W
        return dW, dA_prev

    dW2, dA1 = backward(W2, X @ W1.T, dZ2)
    dW1, nothing = backward(W1, X, dA1)
    return dW1, dW2


def arguments():
    shapes = (5, 7), (5, 1), (3, 5), (3, 1), (4, 7), (4, 3)
    return tuple(jnp.linspace(0.1, 0.9, n * m).reshape(n, m) for n, m in shapes)


by_autodiff = jax.grad(loss, argnums=(0, 1, 2, 3))


def layer(p, A):
    W, b = p
    Z = A @ W.T + b.T
    return jnp.tanh(Z)


def looped(params, A):
    for p in params:
        A = layer(p, A)
    return part_by_part(A, A * A) + 1


def part_by_part(a, b):
    c = a + b
    d = jnp.exp(c)
    return jnp.sum(d * c)


def squares():
    return (jnp.ones((3, 3)),)


def which(x):
    return jnp.argmax(x)


@jax.jit
def wasteful(x):
    wasted = jnp.exp(x)
    return jnp.sum(x * x)


def endless(x):
    for _ in range(300):
        x = jnp.sin(x) * x
    return jnp.sum(x)
