"""Query-free: a shadow of the edge, trained to please the cloud, is attacked instead.

The cloud knows its own half and has labelled images, but neither the edge's variables
nor a way to query it. It puts a network of its own, the shadow, before its frozen half
and trains that to classify the images: minimise CE(cloud(shadow(x)), label). Then it
attacks the true features as if the shadow had sent them, by an attack that knows the
shadow (rMLE, or a decoder trained on queries of it).

Source: He, Zhang, Lee, IoT-J 2020, Section IV.C, and their code. We deviate: shadows of
another architecture are derived from the shapes (`other`), for every cut.

Guarantees:
  The cloud's variables are read, never changed.
  The inner attack's knowledge is the shadow's variables, queries of the shadow, and the
  public images and labels: nothing of the true edge.
"""

from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.decoder import growths
from ghostjax.attacks.pairs import pixels
from ghostjax.base import Attack, Features, Key, Knowledge, limit
from ghostjax.chain import Chain, apply, apply_train, init, join, split
from ghostjax.layers import Conv, Dense, MaxPool, Normalize, Pad, Relu
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Loss, Recipe


class Settings(NamedTuple):
    """Static choices of the shadow's training."""

    recipe: Recipe
    batch_size: int = 32


class _Data(NamedTuple):
    """What a step reads; on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]
    cloud: Any  # variables of the frozen half


def shadow(
    layers: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    inner: Attack,
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
) -> Attack:
    """`inner` on a shadow of the edge.

    Args:
      layers: the shadow, from images to features as the cloud takes them: `other`, or
        the edge's own layers.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      inner: an attack on features of `layers` that needs no more than the edge's
        variables, queries, and public images and labels.
      settings: static choices.
      learning_rate: of the shadow's training; traced.

    Returns:
      An Attack that needs `cloud_variables`, `public_images` and `public_labels`.
      Params are {"shadow", "inner"}, metrics {"shadow": loss and accuracy} and the
      inner attack's; trace as the inner attack's.
    """

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        init_key, train_key, inner_key = jax.random.split(key, 3)
        images, labels = knowledge.public_images, knowledge.public_labels
        state, metrics = train(
            train_key,
            *split(init(layers, init_key, jnp.zeros((1, *image_shape)))),
            _Data(images, labels, knowledge.cloud_variables),
            learning_rate,
            loss=_loss(layers, cloud),
            draw=_draw(settings.batch_size),
            recipe=settings.recipe,
            part="shadow",
        )
        own = join(state.params, state.model_state)
        query = Partial(_query(layers), own)
        known = Knowledge(own, None, query, images, labels)
        learned, more = inner.fit(inner_key, limit(known, inner.needs), train)
        return {"shadow": own, "inner": learned}, {"shadow": metrics, **more}

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, Any]:
        return inner.invert(params["inner"], key, features)

    needs = ("cloud_variables", "public_images", "public_labels")
    return Attack(f"shadow({inner.name})", needs, fit, invert)


def other(
    image_shape: tuple[int, int, int], feature_shape: tuple[int, ...], positive: bool
) -> Chain:
    """An architecture that an attacker would try who knows the two shapes alone.

    At each resolution two 3x3 convolutions or more, without activation, valid as far as
    the sizes ask for it; a max pool where the size halves; one ReLU at the very end if
    the features are never negative. For features of a dense layer: so to a quarter of
    the size and 16 channels, then one dense layer.

    Source: "Archi2" of He et al.'s code, which this rule gives again for LeNet's conv1
    and ReLU2 (reference/he_attacks.md, section 1).

    Args:
      image_shape: [H, W, C].
      feature_shape: [h, w, c] or [values].
      positive: whether the features are never negative, as can be seen from them.

    Raises:
      ValueError: a feature map larger than the image.
    """
    end = (("ReLU", Relu()),) if positive else ()
    if len(feature_shape) == 1:
        small = ceil(image_shape[0] / 4), ceil(image_shape[1] / 4), 16
        dense = ("dense", Dense(feature_shape[0], "torch"))
        return (*other(image_shape, small, False), dense, *end)
    channels, layers = feature_shape[2], [("normalize", Normalize((0.5,), (0.5,)))]
    levels = growths(feature_shape, image_shape)[::-1]
    for level, shrinkage in enumerate(levels):
        if level:
            layers.append((f"pool{level}", MaxPool()))
        layers += _shrink(level, shrinkage, channels)
    return (*layers, *end)


def _shrink(level: int, shrinkage: tuple[int, int], channels: int) -> list:
    """The convolutions of one resolution; the network's first has fewer filters.

    A border cropped behind padded convolutions is what valid ones do not give.
    """
    layers = []
    for place in range(max(2, ceil(max(shrinkage) / 2))):
        filters = channels if level or place else max(8, channels // 4)
        name = f"conv{level}_{place}"
        layers.append((name, Conv(filters, 3, "SAME", "torch")))
    if any(shrinkage):
        borders = [(-(g // 2), -(g - g // 2)) for g in shrinkage]
        layers.append((f"crop{level}", Pad(*borders)))
    return layers


@lru_cache(maxsize=16)
def _query(layers: Chain) -> Any:
    def query(variables, key, images):
        return apply(layers, variables, images)

    return query


@lru_cache(maxsize=16)
def _loss(layers: Chain, cloud: Chain) -> Loss:
    def loss(params, model_state, key, batch):
        images, labels, frozen = batch
        variables = join(params, model_state)
        features, moved = apply_train(layers, variables, images, key)
        logits = apply(cloud, frozen, features)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = (logits.argmax(-1) == labels).mean()
        return losses.mean(), (split(moved)[1], {"accuracy": accuracy})

    return loss


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        chosen = epoch_indices(key, index, batch_size, len(data.images))
        return pixels(data.images, chosen), data.labels[chosen], data.cloud

    return draw
