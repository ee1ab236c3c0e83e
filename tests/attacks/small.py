"""A small network, drawn on the host, and smooth pictures to attack it with.

Searches share a program where edge, static record and number of pictures are equal: so
the tests attack the same four pictures, mostly behind the same two layers.
"""

from functools import cache

import jax
import numpy as np
from scipy import ndimage

from ghostjax import registry, toy
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context, Cut
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu

SHAPE = (12, 12, 1)
NETWORK = (
    ("conv1", Conv(8, 3)),
    ("ReLU1", Relu()),
    ("pool1", MaxPool()),
    ("conv2", Conv(8, 3)),
    ("ReLU2", Relu()),
    ("fc1", Dense(24)),
    ("fc1act", Relu()),
    ("fc2", Dense(4)),
)
COUNT = 4
NOISE = np.random.default_rng(1).random((COUNT, 4, 4, 1))
PICTURES = np.float32(ndimage.zoom(NOISE, (1, 3, 3, 1), order=1))
apply = jax.jit(chain.apply, static_argnums=0)

SEARCHES = {
    solver: Rmle(solver=solver, steps=steps, start="dark")
    for solver, steps in {"gd": 400, "lbfgs": 40, "gauss_newton": 15}.items()
}


def at(layer):
    """The network cut after a layer."""
    return Cut(*chain.cut(NETWORK, layer), SHAPE)


def variables(layers, image_shape=SHAPE):
    """Of any layers, without a program."""
    return toy.task(Cut(layers, (), image_shape)).edge_variables


@cache
def sent(layer):
    """(variables of the edge up to a layer, its features of the pictures)."""
    edge = at(layer).edge
    edge_variables = chain.select(edge, variables(NETWORK))
    return edge_variables, np.asarray(apply(edge, edge_variables, PICTURES))


def invert(layer, record, features=None, hyper=None):
    """(images, trace) as rMLE finds them, of the pictures' features or of others."""
    edge_variables, of_pictures = sent(layer)
    features = of_pictures if features is None else features
    attack = registry.build(record, at(layer), Context())
    hyper = traced_half(record) if hyper is None else hyper
    inversion = attack.invert(edge_variables, jax.random.key(0), features, hyper)
    return np.asarray(inversion.images), np.asarray(inversion.trace)
