"""A Flax network of one's own: its edge is attacked, then the whole of it defended."""

import flax.linen as nn
import jax

import ghostjax
from ghostjax import base, fields, own, registry
from ghostjax.attacks.records import Rmle

encoder = nn.Sequential([nn.Conv(8, (5, 5), padding="VALID"), nn.relu])
classifier = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(10)])


def main(config="digits", output="runs"):
    key, *keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(key, (2, 28, 28, 1))
    features, variables = encoder.init_with_output(keys[0], images)  # yours: trained
    edge, record = own.Half(encoder.apply, variables), Rmle(steps=5)
    cut = own.cut(edge, image_shape=(28, 28, 1))
    attack = registry.build(record, cut, base.Context())
    seen = attack.invert(variables, key, features, fields.traced_half(record)).images
    train = lambda v, x, key: (classifier.apply(v, x), v)  # noqa: E731
    cloud = own.Half(classifier.apply, classifier.init(keys[1], features), train)
    network = own.network("mine", edge, cloud, image_shape=(28, 28, 1))
    return seen, ghostjax.run(config, output, network=network)
