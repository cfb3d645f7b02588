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
    "jaxnn-manual": ours.manual,
    "jaxnn-autodiff": ours.autodiff,
    "jax-scan": by_jax.scan,
    "jax-loop": by_jax.loop,
    "numpy": by_numpy.loop,
    "equinox": by_equinox.loop,
    "flax": by_flax.loop,
    "pytorch": by_torch.eager,
    "pytorch-compiled": by_torch.compiled,
    "scikit-learn": by_scikit_learn.classifier,
}
REFERENCES = {"matrix products alone": products.of_an_epoch, "one ready batch": ours.one_batch}
FAMILY = {"one network": ours.manual, "all at once": ours.family, "large product": products.large}
EXAMPLES = {
    "plain gradient": per_example.gradient,
    "norms": per_example.norms,
    "norms by vmap(grad)": per_example.norms_by_autodiff,
    "clipped gradient": per_example.clipped,
    "clipped gradient by vmap(grad)": per_example.clipped_by_autodiff,
}
