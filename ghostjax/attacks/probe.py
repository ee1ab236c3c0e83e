"""A class probe: what the features tell about the secret's label.

An attacker that has no use for the picture asks for its class. It trains a classifier
on features of its own images, sent as the user sends secrets (scheme.py). It is the
receiver's own network (reader.py), reader and all, so that the cloud's retraining gives
the receiver no advantage but its data.

Our addition. A probe that fails proves nothing; one that succeeds shows a leak.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.attacks import scheme
from ghostjax.attacks.pairs import recipe_of
from ghostjax.attacks.records import Direct
from ghostjax.base import (
    Context,
    Cut,
    Features,
    Key,
    Knowledge,
    Logits,
    Params,
    Probe,
    needed,
)
from ghostjax.fields import Hyper
from ghostjax.models import reader
from ghostjax.models.chain import join, split
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Training

__all__ = ["probe"]

_SHOW = 10.0  # weight of the reader's squared error, as in GHOST's retraining


def probe(cut: Cut, record: Direct, context: Context) -> Probe:
    """The probe on features of one cut.

    Args:
      cut: only its shapes and the number of classes count.
      record: `width` is the filters of the classifier; `probe_rate` is traced.
      context: `public_count`, the images of an epoch.

    Returns:
      A Probe that needs `query`, `public_images`, `public_labels` and `encode`. Params
      are {"branch", "scales"}; its training is "probe", with the accuracy in [0, 1].
    """
    shape = cut.feature_shape
    layers = reader.branch(shape, record.width, cut.classes, cut.image_shape[-1])
    loss, draw = _loss(layers), _draw(record.batch_size)
    recipe = recipe_of(record, context.public_count)
    example = 1, *scheme.magnified_shape(shape)

    @jax.jit
    def start(key: Key) -> tuple[Any, Any]:
        return split(reader.init_branch(key, layers, jnp.zeros(example)))

    @jax.jit
    def answer(params: Any, features: Features) -> Logits:
        magnified = reader.magnify(params["scales"], features)
        return reader.look(layers, params["branch"], magnified)[0]

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        scale_key, init_key, train_key = jax.random.split(key, 3)
        public, sending = scheme.stegos(knowledge, scale_key)
        params, model_state = start(init_key)
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=public,
            own=sending,
            hyper={"learning_rate": hyper["probe_rate"]},
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="probe",
            rate="probe_rate",
        )
        learned = join(state.params, state.model_state)
        return {"branch": learned, "scales": sending.scales}

    return Probe((*record.needs, "public_labels"), fit, answer)


def _loss(layers: reader.Branch) -> Loss:
    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: scheme.Batch,
        hyper: Hyper,
        shared: Any,
    ) -> LossValue:
        variables = join(params, model_state)
        logits, shown = reader.look(layers, variables, batch.magnified)
        labels = needed(batch.labels)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        metrics = {"accuracy": (logits.argmax(-1) == labels).mean()}
        if shown is not None:
            hidden = reader.coarse(batch.secrets, shown.shape[1:])
            metrics["reader_error"] = ((shown - hidden) ** 2).mean()
            value += _SHOW * metrics["reader_error"]
        return value, (model_state, metrics)

    return loss


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: scheme.Public, own: scheme.Sending
    ) -> scheme.Batch:
        return scheme.draw(batch_size, key, index, shared, own)

    return draw
