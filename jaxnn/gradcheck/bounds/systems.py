"""Error bounds of linear systems and factorisations, from what is left over: A X − B, L Lᵀ − A.

A residual, itself bounded, and an approximate inverse say how far the exact solution is; nothing is
asked of the algorithm that found it.
Source: S. M. Rump, Verification methods, Acta Numerica 19 (2010), section 10.
"""

import math

import numpy as np

from jaxnn.gradcheck.bounds.bounded import Bounded, error_of, is_float, settled
from jaxnn.gradcheck.bounds.products import multiplied
from jaxnn.gradcheck.jaxprs.by_numpy import applied


def _t(x):
    return np.swapaxes(x, -1, -2)


def _residual(a, b, c) -> np.ndarray:
    """A bound on |A B − C|."""
    rows, beside = np.concatenate([a, c], -1), -np.eye(c.shape[-1])
    columns = np.concatenate([b, np.broadcast_to(beside, (*b.shape[:-2], *beside.shape))], -2)
    value, error = multiplied(rows, columns, np.abs(rows), np.abs(columns))
    return np.abs(value) + error


def _inverse(t, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """X near T⁻¹ of a triangle T, and a bound on |I − X T|."""
    from scipy.linalg import solve_triangular  # 0.05 s that most comparisons need not wait for

    eye = np.eye(t.shape[-1])
    x = np.empty_like(t)
    for k in np.ndindex(t.shape[:-2]):
        try:
            x[k] = solve_triangular(t[k], eye, lower=lower, check_finite=False)
        except np.linalg.LinAlgError:  # singular: nothing bounds its solutions
            x[k] = np.nan
    return x, _residual(x, t, np.broadcast_to(eye, t.shape))


def _amplified(start, share) -> np.ndarray:
    """A bound on every W ≥ 0 with W ≤ start + share · W; unbounded where share is not a contraction."""
    rows = share.sum(-1, keepdims=True)
    most = rows.max((-2, -1), keepdims=True, initial=0.0)
    top = start.max(-2, keepdims=True, initial=0.0)
    return np.where(most < 1, start + rows * top / np.where(most < 1, 1 - most, 1.0), np.inf)


def _solve_error(t, e_t, x, b, e_b, lower: bool) -> np.ndarray:
    """A bound on |X − X*|, where (T + ΔT) X* = B + ΔB: X* − X = Y (B − T X + ΔB − ΔT X*) + …"""
    y, left = _inverse(t, lower)
    size = np.abs(y)
    off = _residual(t, x, b) + e_b + e_t @ np.abs(x)
    return _amplified(size @ off, left + size @ e_t)


def _triangular_solve(equation, inputs) -> list[Bounded]:
    a, b = inputs
    p = equation.params
    (x,) = applied(equation, [a.value, b.value])
    keep = np.tril if p["lower"] else np.triu
    t, e_t = keep(a.value), keep(a.errors)
    if p["unit_diagonal"]:
        eye = np.eye(t.shape[-1])
        t, e_t = np.where(eye, 1.0, t), np.where(eye, 0.0, e_t)
    lower = p["lower"] != bool(p["transpose_a"])
    if p["transpose_a"]:
        t, e_t = _t(t), _t(e_t)
    e_b = b.errors
    if p["left_side"]:
        error = _solve_error(t, e_t, x, b.value, e_b, lower)
    else:  # X A = B is Aᵀ Xᵀ = Bᵀ
        error = _t(_solve_error(_t(t), _t(e_t), _t(x), _t(b.value), _t(e_b), not lower))
    return [settled(x, error, a, b)]


def _cholesky(equation, inputs) -> list[Bounded]:
    """A + ΔA = L (I + G) Lᵀ, so L* = L (I + H) with H + Hᵀ + H Hᵀ = G."""
    (a,) = inputs
    (l,) = applied(equation, [a.value])
    if not np.isfinite(l).all():
        return [settled(l, np.full(l.shape, np.inf), a)]
    mirrored = lambda v: np.tril(v) + _t(np.tril(v, -1))  # noqa: E731
    off = _residual(l, _t(l), mirrored(a.value)) + mirrored(np.broadcast_to(error_of(a), l.shape))
    size = _inverse_size(l, True)
    g = size @ off @ _t(size)
    norm = np.linalg.norm(g, axis=(-2, -1), keepdims=True)
    h = 2 * norm / (math.sqrt(2) + np.sqrt(2 - np.minimum(4 * norm, 2)))  # of h = (‖G‖ + h²)/√2
    h = np.where(norm < 0.5, np.tril(g + h**2), np.inf)
    return [settled(l, np.tril(np.abs(l) @ h), a)]


def _inverse_size(t, lower: bool) -> np.ndarray:
    """A bound on |T⁻¹|."""
    x, left = _inverse(t, lower)
    return _amplified(np.abs(x), left)


def _lu(equation, inputs) -> list[Bounded] | None:
    """P (A + ΔA) = L (I + G) U, so L* = L (I + H), U* = (I + K) U with H + K + H K = G."""
    (a,) = inputs
    if a.value.shape[-1] != a.value.shape[-2]:
        return None
    both, pivots, order = applied(equation, [a.value])
    rows = lambda v: np.take_along_axis(v, order[..., None].astype(np.int64), -2)  # noqa: E731
    eye = np.eye(a.value.shape[-1])
    l, u = np.tril(both, -1) + eye, np.triu(both)
    off = _residual(l, u, rows(a.value)) + rows(a.errors)
    g = _inverse_size(l, True) @ off @ _inverse_size(u, False)
    norm = np.linalg.norm(g, axis=(-2, -1), keepdims=True)
    h = 2 * norm / (1 + np.sqrt(1 - np.minimum(2 * norm, 1)))  # of h = ‖G‖ + h²/2
    g = np.where(norm < 0.5, g + h**2 / 2, np.inf)
    error = np.tril(np.abs(l) @ np.tril(g, -1), -1) + np.triu(np.triu(g) @ np.abs(u))
    tied = np.abs(np.tril(both, -1)) + np.tril(error, -1) >= 1  # another row may be the pivot
    if a.error is not None:
        error = np.where(tied.any((-2, -1), keepdims=True), np.inf, error)
    return [settled(both, error, a), Bounded(pivots, None, a.active), Bounded(order, None, a.active)]


def _real(rule):
    """The rule for finite numbers; None, for a primitive without a rule, for others."""

    def guarded(equation, inputs):
        usual = all(is_float(x.value) and np.isfinite(x.value).all() and x.value.size for x in inputs)
        return rule(equation, inputs) if usual else None

    return guarded


SYSTEMS = {"triangular_solve": _real(_triangular_solve), "cholesky": _real(_cholesky), "lu": _real(_lu)}
