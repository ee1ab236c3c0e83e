"""An attack of one's own: the attacker's own image whose features are nearest."""

import ghostjax
from ghostjax import base, chain, own, pixels


def nearest(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()  # nothing is trained
        images = pixels.as_float(knowledge.public_images[:500])
        return images, chain.apply(cut.edge, knowledge.edge_variables, images)

    def invert(params, key, features, hyper):
        images, seen = (leaf.reshape(len(leaf), -1) for leaf in params)
        far = ((features.reshape(len(features), 1, -1) - seen[None]) ** 2).sum(-1)
        return base.Inversion(params[0][far.argmin(1)])

    return base.Attack("nearest", record.needs, fit, invert)


def main(config="digits", output="runs"):
    mine = own.attack("nearest", nearest, needs=("edge_variables", "public_images"))
    return ghostjax.run(config, output, attack=mine)
