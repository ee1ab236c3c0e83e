"""The target network: the classifier that is later cut in two.

Source: GHOST Section VIII.A and Table II (Adam, cross-entropy, pixels in [0, 1]).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.chain import Chain, Variables, apply_train, init, join, split
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Loss, Recipe, fit


class LabelledImages(NamedTuple):
    """A split of a data set on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]


def fit_classifier(
    key: Array,
    chain: Chain,
    data: LabelledImages,
    *,
    recipe: Recipe,
    batch_size: int,
    learning_rate: Array | float,
    train: Any = fit,
) -> tuple[Variables, Any]:
    """Trains a network from scratch on labelled images.

    Args:
      key: consumed by initialisation, order and dropout.
      chain: the whole network.
      data: the train split.
      recipe: static; `recipe.steps` of `batch_size` images, visited in a fresh random
        order each epoch, nothing dropped.
      learning_rate: traced.
      train: `train.fit` or another function with its signature.

    Returns:
      The variables, and the metrics of each step: loss and accuracy in [0, 1].
    """
    init_key, train_key = jax.random.split(key)
    image = jnp.zeros((1, *data.images.shape[1:]))
    params, model_state = split(init(chain, init_key, image))
    state, metrics = train(
        train_key,
        params,
        model_state,
        data,
        learning_rate,
        loss=_loss(chain),
        draw=_draw(batch_size),
        recipe=recipe,
    )
    return join(state.params, state.model_state), metrics


@lru_cache(maxsize=16)
def _loss(chain: Chain) -> Loss:
    def loss(params, model_state, key, batch):
        pixels, labels = batch
        logits, moved = apply_train(chain, join(params, model_state), pixels, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = (logits.argmax(-1) == labels).mean()
        return losses.mean(), (split(moved)[1], {"accuracy": accuracy})

    return loss


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        chosen = epoch_indices(key, index, batch_size, data.labels.shape[0])
        return data.images[chosen].astype(jnp.float32) / 255, data.labels[chosen]

    return draw
