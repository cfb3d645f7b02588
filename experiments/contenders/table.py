"""The contenders by name. None of what they import is imported before one is asked for."""

from experiments.contenders import (
    by_equinox,
    by_flax,
    by_jax,
    by_numpy,
    by_scikit_learn,
    by_torch,
    ours,
    per_example,
    products,
)

CONTENDERS = {
    "jaxnn, manual": ours.manual,
    "jaxnn, autodiff": ours.autodiff,
    "jax.grad in lax.scan": by_jax.scan,
    "jax.grad in a loop": by_jax.loop,
    "NumPy": by_numpy.loop,
    "Equinox": by_equinox.loop,
    "Flax NNX": by_flax.loop,
    "PyTorch, eager": by_torch.eager,
    "PyTorch, compiled": by_torch.compiled,
    "scikit-learn": by_scikit_learn.classifier,
}
REFERENCES = {"matrix products alone": products.of_an_epoch, "one batch, ready": ours.one_batch}
FAMILY = {"one network": ours.manual, "all at once": ours.family, "large product": products.large}
EXAMPLES = {
    "plain gradient": per_example.gradient,
    "norms": per_example.norms,
    "norms, vmap(grad)": per_example.norms_by_autodiff,
    "clipped gradient": per_example.clipped,
    "clipped gradient, vmap(grad)": per_example.clipped_by_autodiff,
}
