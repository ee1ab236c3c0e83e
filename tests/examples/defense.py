"""A defense of one's own: features are sent as 3 bits a value."""

import jax.numpy as jnp

import ghostjax
from ghostjax import base, chain, own, plain


def quantiser(levels):
    def factory(cut, record, context):
        def send(params, key, images):
            features = chain.apply(cut.edge, params["edge"], images)
            place = jnp.searchsorted((levels[1:] + levels[:-1]) / 2, features)
            return levels[place]

        return base.Defense("quantise", plain.keep, send, plain.Answer(cut.cloud))

    return factory


def main(config="digits", output="runs", top=2.0, version="1"):
    levels = jnp.linspace(0, top, 8)
    factory = quantiser(levels)
    mine = own.defense("quantise", factory, version=version, variables=levels)
    return ghostjax.run(config, output, defense=mine)
