"""Operations of a loss, as a student would call them."""

WORDS = {
    "abs": "an absolute value",
    "add": "an addition",
    "add_any": "an addition",
    "argmax": "an argmax",
    "broadcast_in_dim": "a broadcast",
    "cholesky": "a Cholesky factorisation",
    "clamp": "a clipping",
    "concatenate": "a concatenation",
    "cond": "a branch",
    "conv_general_dilated": "a convolution",
    "convert_element_type": "a change of type",
    "cumprod": "a running product",
    "cumsum": "a running sum",
    "div": "a division",
    "dot_general": "a matrix product",
    "dynamic_slice": "a slice",
    "dynamic_update_slice": "an assignment to a slice",
    "exp2": "a power of 2",
    "expm1": "exp(x) − 1",
    "gather": "an indexing",
    "integer_pow": "a power",
    "log1p": "log(1 + x)",
    "logistic": "a sigmoid",
    "max": "a maximum",
    "min": "a minimum",
    "mul": "a multiplication",
    "neg": "a minus",
    "pad": "a padding",
    "pow": "a power",
    "reduce_max": "a maximum",
    "reduce_min": "a minimum",
    "reduce_precision": "a rounding",
    "reduce_prod": "a product of all",
    "reduce_sum": "a sum",
    "reduce_window_max": "a pooling",
    "reduce_window_sum": "a pooling",
    "reshape": "a reshape",
    "rev": "a reversal",
    "rsqrt": "1/√x",
    "scan": "a loop",
    "scatter": "an assignment to entries",
    "scatter-add": "an addition to entries",
    "select_n": "a where",
    "slice": "a slice",
    "sort": "a sort",
    "sqrt": "a square root",
    "square": "a square",
    "squeeze": "a squeeze",
    "sub": "a subtraction",
    "transpose": "a transpose",
    "while": "a loop",
}


def called(name: str) -> str:
    """What to call a primitive of JAX; by its own name where that is as good.

    >>> called("reduce_sum"), called("tanh")
    ('a sum', 'tanh')
    """
    return WORDS.get(name, name)
