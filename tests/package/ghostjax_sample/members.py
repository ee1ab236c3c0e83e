"""The factories."""

import jax.numpy as jnp

from ghostjax.base import Attack, Column, Defense, Inversion
from ghostjax.defenses import plain
from ghostjax.models.chain import apply
from ghostjax.pixels import as_float


def quantise(cut, record, context):
    """Features rounded to multiples of `step`."""

    def fit(key, hyper, task):
        yield from ()
        return {**plain.halves(task), "step": hyper["step"]}

    def send(params, key, images):
        features = apply(cut.edge, params["edge"], images)
        return params["step"] * jnp.round(features / params["step"])

    def columns(params, hyper):
        step = float(params["step"])
        return [Column("quantiser_step", step, "step of the quantiser")]

    return Defense("quantise", fit, send, plain.Answer(cut.cloud), columns=columns)


def mean(cut, record, context):
    """The mean of the attacker's own images, whatever was sent."""

    def fit(key, hyper, knowledge):
        yield from ()
        return as_float(knowledge.public_images[: record.images]).mean(0)

    def invert(params, key, features, hyper):
        shape = (len(features), *cut.image_shape)
        return Inversion(images=jnp.broadcast_to(params[None], shape))

    return Attack("mean", record.needs, fit, invert)


def blur(cut, record, context):
    """Pictures of the inner attack, mixed with their means."""
    inner = context.inner

    def fit(key, hyper, knowledge):
        return (yield from inner.fit(key, hyper["attack"], knowledge))

    def invert(params, key, features, hyper):
        before = inner.invert(params, key, features, hyper["attack"]).images
        share = hyper["denoise"]["share"].reshape(-1, 1, 1, 1)
        after = (1 - share) * before + share * before.mean((1, 2, 3), keepdims=True)
        return Inversion(images=after, before_denoising=before)

    return inner._replace(name=f"blur({inner.name})", fit=fit, invert=invert)
