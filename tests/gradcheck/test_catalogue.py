"""Every mistake of the catalogue, planted in a backward pass written by hand, is named."""

import functools

import jax
import numpy as np
import pytest

from experiments.planted.layer import plants_of
from experiments.planted.layers import LAYERS
from experiments.planted.losses import PLANTS
from experiments.planted.mistakes import NEEDS_SATURATION, STATEFUL, mutants
from experiments.planted.network import Network, data, init, loss_of
from experiments.planted.points import as_dtype
from experiments.planted.sequences import SEQUENCES
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.mistakes.catalogue import MISTAKES
from jaxnn.gradcheck.tape.scenes import views_of
from tests.gradcheck.diagnosing import diagnosed, evaluated

# pairwise different sizes, except where a mistake needs equal ones
NETS = {
    "one layer": (Network((7, 3)), 4),
    "one neuron": (Network((4, 1), cost="bce-naive"), 5),
    "two layers": (Network((5, 4, 3), "tanh", "bce-naive", penalty=0.3), 6),
    "square": (Network((4, 4, 4, 3), "sigmoid", "softmax-logits"), 5),
    "masked": (Network((6, 5, 4), "relu", "softmax-naive", penalty=0.1, masked=True), 7),
    "three layers": (Network((3, 5, 5, 2), "gelu", "squared"), 8),
}


@functools.cache
def scene_of(net, examples):
    """The loss of a network, a point, and what all candidates for its gradient share there."""
    loss = loss_of(net)
    args = (init(net, 2), *data(net, examples, 2))
    with jax.enable_x64(True):
        return loss, args, views_of(loss, args), evaluated(jax.grad(loss), args)


@functools.cache
def of_loss(loss, arguments):
    """The same of a loss that no network of layers is."""
    with jax.enable_x64(True):
        args = arguments(2)
        return args, views_of(loss, args), evaluated(jax.grad(loss), args)


def of_networks():
    """Of every id one of its mutants, drawn by a seed; measure_gradcheck walks them all."""
    seen = {}
    for name, (net, examples) in NETS.items():
        for mutant in mutants(net):
            if mutant.id not in STATEFUL | NEEDS_SATURATION:
                seen.setdefault(mutant.id, []).append((name, mutant, net, examples))
    drawn = np.random.default_rng(0)
    for id, several in seen.items():
        name, mutant, net, examples = several[drawn.integers(len(several))]
        yield pytest.param(mutant, net, examples, id=f"{id}, {name}, {mutant.where or 'all'}")


OF_NETWORKS = list(of_networks())


def named_first(loss, gradient, args, views, right, id):
    """The first cause, which is to be this id's, of a gradient that is wrong."""
    with jax.enable_x64(True):
        wrong = evaluated(gradient, args)
    pairs = zip(jax.tree.leaves(right), jax.tree.leaves(wrong), strict=True)
    assert not all(np.allclose(r, w, rtol=1e-9, atol=1e-14) for r, w in pairs), "it has no effect here"
    cause, *_ = diagnosed(loss, gradient, args, views=views)
    assert cause.id == id
    assert cause.equation == MISTAKES[id].equation
    return cause


@pytest.mark.parametrize(("mutant", "net", "examples"), OF_NETWORKS)
def test_a_catalogue_mistake_is_named(mutant, net, examples):
    loss, args, views, right = scene_of(net, examples)
    cause = named_first(loss, mutant.gradient, args, views, right, mutant.id)
    if mutant.where.startswith("layer ") and mutant.id != "few-digits":  # which tells the number's line
        l = int(mutant.where[-1])
        names = (f"[{l}]", f"layer {l}", f"[{l - 1}][0]", f"[{l - 1}][1]", f"layer {l + 1}")
        assert any(n in cause.where for n in names)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.id}, {plant.where}")
def test_a_mistake_in_a_loss_that_is_no_network_is_named(plant):
    args, views, right = of_loss(plant.loss, plant.args)
    named_first(plant.loss, plant.gradient, args, views, right, plant.id)


def ids_of(layer_plant):
    return layer_plant.id.split(" or ")


def of_layers():
    """Of every id that only layers have one, and one drawn by a seed; measure_gradcheck walks them all."""
    every = [plant for plant in plants_of(LAYERS + SEQUENCES) if plant.shown]
    seen = {plant.id for plant in PLANTS} | {p.values[0].id for p in OF_NETWORKS}
    own = {ids_of(plant)[0]: plant for plant in every if seen.isdisjoint(ids_of(plant))}
    drawn = every[np.random.default_rng(0).integers(len(every) // 2)]  # of rows and images
    return {plant.where: plant for plant in (*own.values(), drawn)}


OF_LAYERS = of_layers()


@pytest.mark.parametrize("where", OF_LAYERS)
def test_a_mistake_in_the_backward_of_a_layer_is_found_placed_and_named(where):
    plant = OF_LAYERS[where]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as people write
        args = as_dtype(plant.args(np.random.default_rng(0)), "float32")
        report = compare_gradients(plant.loss, plant.gradient, *args, steps=plant.shown)
    assert report.correct is False
    assert {error.step for error in report.steps} <= plant.own
    assert report.steps
    assert report.causes[0].id in ids_of(plant)


def test_every_mistake_is_planted():
    rules = {"cotangent-ignored", "cotangent-not-linear"}
    elsewhere = {"unknown", "extra-psum", "missing-psum"} | rules  # the two are of several devices
    planted = {p.values[0].id for p in OF_NETWORKS} | {plant.id for plant in PLANTS}
    planted |= {id for plant in OF_LAYERS.values() for id in ids_of(plant)}
    assert planted | STATEFUL | NEEDS_SATURATION == set(MISTAKES) - elsewhere
