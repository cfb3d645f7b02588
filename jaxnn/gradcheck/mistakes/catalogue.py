"""What every mistake is, in a few words, and the equation it breaks."""

from typing import NamedTuple


class Mistake(NamedTuple):
    """What a mistake is, in a few words, and the equation it breaks."""

    words: str
    equation: str


MISTAKES = {
    "missing-mean": Mistake("the 1/N of the mean is forgotten", "J = −(1/N) Σᵢ Σₖ …, so dZ[L] = (Ŷ − Y)/N"),
    "mean-over-outputs": Mistake(
        "divided by N·n_L instead of N",
        "J = −(1/N) Σᵢ Σₖ …: the mean is over the N examples, not over N·n_L entries",
    ),
    "mean-twice": Mistake(
        "1/N is applied twice", "dZ[L] = (Ŷ − Y)/N; below it dW[l] = dZ[l]ᵀ A[l-1] without another 1/N"
    ),
    "n-minus-one": Mistake("divided by N − 1", "J = −(1/N) Σᵢ …: N, not N − 1"),
    "mean-over-features": Mistake(
        "divided by the number of features instead of N", "J = −(1/N) Σᵢ …: N examples, not n_x features"
    ),
    "factor-two": Mistake("a stray 2 or ½", "dJ/dZ has the constant that J has, no other"),
    "bias-not-averaged": Mistake(
        "1/N stands at the weights only", "db[l] = dZ[l]ᵀ 1 with the same dZ[l] = (…)/N as in dW[l]"
    ),
    "learning-rate-folded-in": Mistake(
        "the update −α dW is returned, not the gradient", "the gradient is dW; the update is W := W − α dW"
    ),
    "clipped-norm": Mistake(
        "clipping to a norm is left on", "the gradient is dW; clipping dW · c/‖dW‖ belongs to the update"
    ),
    "sign": Mistake("Y − Ŷ for Ŷ − Y", "dZ[L] = (Ŷ − Y)/N"),
    "layer-sign": Mistake(
        "the sign is flipped in one layer", "dA[l-1] = dZ[l] W[l]; dZ[l] = dA[l] ⊙ g′(Z[l])"
    ),
    "missing-activation-derivative": Mistake("g′(Z) is forgotten", "dZ[l] = dA[l] ⊙ g′(Z[l])"),
    "derivative-at-output": Mistake(
        "g′ is taken at A instead of Z", "dZ[l] = dA[l] ⊙ g′(Z[l]): at Z[l], not at A[l]"
    ),
    "output-for-derivative": Mistake(
        "A stands where g′(Z) belongs", "g′(Z), not A: σ′(Z) = A ⊙ (1 − A), relu′(Z) = 1 where Z > 0"
    ),
    "wrong-activation-derivative": Mistake(
        "another function's derivative", "dZ[l] = dA[l] ⊙ g′(Z[l]) with the g of this layer"
    ),
    "derivative-at-wrong-layer": Mistake(
        "g′ is taken at another layer's Z", "dZ[l] = dA[l] ⊙ g′(Z[l]) at this layer's Z[l]"
    ),
    "derivative-twice": Mistake("g′(Z) is multiplied in twice", "dZ[l] = dA[l] ⊙ g′(Z[l]), once"),
    "extra-output-derivative": Mistake(
        "the output's derivative again, after Ŷ − Y",
        "dZ[L] = (Ŷ − Y)/N: the σ′ of the output is in it already",
    ),
    "missing-output-derivative": Mistake("dJ/dŶ is used as dZ[L]", "dZ[L] = dJ/dŶ ⊙ σ′(Z[L])"),
    "not-propagated": Mistake("lower layers get nothing", "dA[l-1] = dZ[l] W[l]"),
    "transposed": Mistake("dW is transposed", "dW[l] = dZ[l]ᵀ A[l-1], of the shape (n_l, n_{l-1}) of W[l]"),
    "reshaped": Mistake(
        "a reshape where a transpose belongs",
        "dW[l] = dZ[l]ᵀ A[l-1]: a transpose moves entries, a reshape only renames them",
    ),
    "weights-not-transposed": Mistake("dZ Wᵀ for dZ W", "dA[l-1] = dZ[l] W[l]"),
    "own-activation": Mistake(
        "dW is made with its own layer's A", "dW[l] = dZ[l]ᵀ A[l-1], the activation of the layer before"
    ),
    "pre-activation": Mistake("dW is made with Z[l-1] for A[l-1]", "dW[l] = dZ[l]ᵀ A[l-1], not Z[l-1]"),
    "input-for-activation": Mistake("dW is made with X for A[l-1]", "dW[l] = dZ[l]ᵀ A[l-1], not X"),
    "updated-weights": Mistake(
        "W is updated before it is used to go down", "dA[l-1] = dZ[l] W[l] with the W[l] of the forward pass"
    ),
    "wrong-layer-weights": Mistake(
        "another layer's W is used to go down", "dA[l-1] = dZ[l] W[l] with this layer's W[l]"
    ),
    "gradient-for-weights": Mistake("dW is used to go down, for W", "dA[l-1] = dZ[l] W[l], not dZ[l] dW[l]"),
    "bias-mean": Mistake(
        "db is a mean over the examples, not a sum",
        "db[l] = dZ[l]ᵀ 1: a sum over the examples (1/N is in dZ[l] already)",
    ),
    "bias-missing": Mistake("db is never computed", "db[l] = dZ[l]ᵀ 1"),
    "bias-summed-over-all": Mistake("one number for all of db", "db[l] = dZ[l]ᵀ 1: a sum for each neuron"),
    "bias-one-example": Mistake(
        "db is made of one example only", "db[l] = dZ[l]ᵀ 1: a sum over all N examples"
    ),
    "regularisation-missing": Mistake("the λ term is forgotten", "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W"),
    "regularisation-doubled": Mistake(
        "the λ term is there twice", "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W, once"
    ),
    "regularisation-unscaled": Mistake(
        "the λ term without its 1/N", "the λ term of dW has a 1/N where that of J has one, and only there"
    ),
    "regularisation-on-bias": Mistake(
        "the λ term is applied to b too", "J = … + (λ/2N) Σ W²: no b in it, so db has no λ"
    ),
    "l1-for-l2": Mistake("λ sign(W) for λ W", "d(W²/2) = W, not sign(W)"),
    "labels-shifted": Mistake(
        "the rows of Y are off by one", "dZ[L] = (Ŷ − Y)/N, row i of Ŷ with row i of Y"
    ),
    "classes-shifted": Mistake("the classes of Y are off by one", "Y is one-hot: class k in column k"),
    "broadcast-labels": Mistake(
        "(N,) is broadcast against (N, 1)", "dZ[L] = (Ŷ − Y)/N with Y of the shape (N, n_L) of Ŷ"
    ),
    "negatives-ignored": Mistake(
        "the (1 − Y) term is not differentiated", "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms"
    ),
    "truncated-inputs": Mistake(
        "integers where floats belong", "Z[1] = X W[1]ᵀ + b[1]ᵀ with the X that was given"
    ),
    "examples-ignored": Mistake(
        "a part of the batch is left out", "dW[l] = dZ[l]ᵀ A[l-1]: a sum over all N examples"
    ),
    "entries-unwritten": Mistake(
        "a row, a column or an entry is never written", "dW[l] has an entry for every entry of W[l]"
    ),
    "clipped-log": Mistake("an ε in the logarithm", "dZ[L] = (Ŷ − Y)/N has no ε in it"),
    "saturated-nan": Mistake(
        "0 · ∞ where the output saturates", "dZ[L] = (Ŷ − Y)/N is finite where 1 − Ŷ = 0; dJ/dŶ is not"
    ),
    "low-precision": Mistake(
        "something is rounded to a narrower type on the way",
        "every step of the backward pass in the precision of its inputs",
    ),
    "accumulated": Mistake(
        "it adds to what earlier calls left", "dW is of this call alone: nothing is kept between two calls"
    ),
    "stale": Mistake("it uses values of the call before", "dW is taken at the W and X of this call"),
    "mask-forgotten": Mistake(
        "dropout's mask is missing on the way back", "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z)"
    ),
    "mask-resampled": Mistake(
        "dropout's mask is drawn again on the way back",
        "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z) with the M of the forward pass",
    ),
    "cotangent-ignored": Mistake(
        "a rule does not multiply by its cotangent", "vjp(c) is linear in c: every term has the factor c"
    ),
    "missing-psum": Mistake(
        "a sum over the devices is missing", "dW = Σ over the devices of each one's dZᵀ A"
    ),
    "extra-psum": Mistake(
        "a sum over the devices too many", "dW = Σ over the devices of each one's dZᵀ A, once"
    ),
    "unknown": Mistake(
        "none of these",
        "dZ[l] = dA[l] ⊙ g′(Z[l]); dW[l] = dZ[l]ᵀ A[l-1]; db[l] = dZ[l]ᵀ 1; dA[l-1] = dZ[l] W[l]",
    ),
}
