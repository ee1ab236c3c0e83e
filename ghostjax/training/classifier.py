"""The target network: the classifier that is later cut in two.

Source: GHOST Section VIII.A and Table II (Adam, cross-entropy, pixels in [0, 1]).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from ghostjax.base import Context, Images, Key, Labels, Params, require_batch
from ghostjax.config.sections import Target
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply_train, init, join, split
from ghostjax.pixels import as_float
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = ["LabelledImages", "classifier", "cross_entropy"]


class LabelledImages(NamedTuple):
    """A split of a data set on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]


def classifier(
    chain: Chain, record: Target, context: Context
) -> Callable[[Key, Hyper, LabelledImages], Fit]:
    """The fit of a network that is trained from scratch on labelled images.

    Args:
      chain: the whole network.
      record: its learning rate is traced.
      context: `train_count`, of which an epoch visits each image once, in a fresh
        random order, nothing dropped between epochs.

    Returns:
      `fit(key, hyper, data)`, which ends in the variables; its metrics are the loss and
      the accuracy, in [0, 1].

    Raises:
      ValueError: a batch larger than the data.
    """
    require_batch("target.batch_size", record.batch_size, context)
    loss, draw = cross_entropy(chain), _draw(record.batch_size)
    steps = -(-record.epochs * context.train_count // record.batch_size)
    recipe = Recipe(steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, data: LabelledImages) -> Fit:
        init_key, train_key = jax.random.split(key)
        image = np.zeros((1, *data.images.shape[1:]), np.float32)
        params, model_state = split(init(chain, init_key, image))
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=data,
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="target",
        )
        return join(state.params, state.model_state)

    return fit


def cross_entropy(chain: Chain) -> Loss:
    """The loss of a network on batches (images, labels), its metric the accuracy."""

    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: tuple[Images, Labels],
        hyper: Hyper,
        shared: LabelledImages,
    ) -> LossValue:
        pixels, labels = batch
        logits, moved = apply_train(chain, join(params, model_state), pixels, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = (logits.argmax(-1) == labels).mean()
        return losses.mean(), (split(moved)[1], {"accuracy": accuracy})

    return loss


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: LabelledImages, own: Any
    ) -> tuple[Images, Labels]:
        chosen = epoch_indices(key, index, batch_size, shared.labels.shape[0])
        return as_float(shared.images[chosen]), shared.labels[chosen]

    return draw
