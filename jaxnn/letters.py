"""The slide's words for activations and losses; one that is not listed here is called by its name."""

# name: (A, dZ) with the layer in place of l
ACTIVATIONS = {
    "sigmoid": ("σ(Z[l])", "dA[l] ⊙ A[l] ⊙ (1 − A[l])"),
    "tanh": ("tanh(Z[l])", "dA[l] ⊙ (1 − A[l]²)"),
    "relu": ("max(0, Z[l])", "dA[l] ⊙ (Z[l] > 0)"),
    "identity": ("Z[l]", "dA[l]"),
    "softmax": ("softmax(Z[l])", ""),
}

# name: (the name of its output activation, J, dZ[L])
LOSSES = {
    "binary_cross_entropy": ("sigmoid", "−1/N Σ [Y log Ŷ + (1−Y) log(1−Ŷ)]", "1/N (Ŷ − Y)"),
    "cross_entropy": ("softmax", "−1/N Σ Y log Ŷ", "1/N (Ŷ − Y)"),
    "squared_error": ("identity", "1/N Σ ½ (Ŷ − Y)²", "1/N (Ŷ − Y)"),
}


def equations(l: int, L: int, activation: str, loss: str) -> dict[str, str]:
    """The equations of layer l of L, by the name of what they define.

    >>> for name, equation in equations(1, 2, "gelu", "binary_cross_entropy").items():
    ...     print(name, "=", equation)
    Z[1] = A[0] W[1]ᵀ + b[1]ᵀ
    A[1] = gelu(Z[1])
    dA[1] = dZ[2] W[2]
    dZ[1] = dA[1] ⊙ gelu′(Z[1])
    dW[1] = dZ[1]ᵀ A[0]
    db[1] = dZ[1]ᵀ 1
    >>> equations(2, 2, "gelu", "cross_entropy")["dZ[2]"]
    '1/N (Ŷ − Y)'
    """
    last = l == L
    output, _, dZ_last = LOSSES.get(loss, (f"{loss}’s g", "", f"∂J/∂Z[{l}]"))
    name = output if last else activation
    A, dZ = ACTIVATIONS.get(name, (f"{name}(Z[l])", f"dA[l] ⊙ {name}′(Z[l])"))
    found = {f"Z[{l}]": f"A[{l - 1}] W[{l}]ᵀ + b[{l}]ᵀ", f"A[{l}]": A.replace("[l]", f"[{l}]")}
    if not last:
        found[f"dA[{l}]"] = f"dZ[{l + 1}] W[{l + 1}]"
    found[f"dZ[{l}]"] = dZ_last if last else dZ.replace("[l]", f"[{l}]")
    return found | {f"dW[{l}]": f"dZ[{l}]ᵀ A[{l - 1}]", f"db[{l}]": f"dZ[{l}]ᵀ 1"}


def cost(loss: str) -> str:
    """The equation of J.

    >>> cost("squared_error")
    '1/N Σ ½ (Ŷ − Y)²'
    """
    return LOSSES.get(loss, ("", f"{loss}(Z[L], Y)", ""))[1]
