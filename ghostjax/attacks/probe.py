"""A class probe: what the features tell about the secret's label.

An attacker who has no use for the picture asks for its class. He trains a classifier on
features of his own images, sent as the user sends secrets (scheme.py). It is the
receiver's own network (covert.py), reader and all, so that the cloud's retraining gives
the receiver no advantage but its data.

Our addition. A probe that fails proves nothing; one that succeeds shows a leak.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from ghostjax.attacks import scheme
from ghostjax.attacks.pairs import Settings
from ghostjax.base import Features, Key, Knowledge, Logits, Params
from ghostjax.chain import join, split
from ghostjax.defenses import covert
from ghostjax.train import Draw, Loss

_SHOW = 10.0  # weight of the reader's squared error, as in GHOST's retraining


class Probe(NamedTuple):
    """What the cloud does to learn the label of the secret behind the features."""

    name: str
    needs: tuple[str, ...]
    """Names of the fields of `Knowledge` that it uses."""
    fit: Callable[[Key, Knowledge, Any], tuple[Params, Any]]
    """`fit(key, knowledge, train) -> (params, metrics)`, as for an `Attack`."""
    answer: Callable[[Params, Features], Logits]
    """`answer(params, features) -> logits [B, classes]`."""


def probe(
    feature_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    classes: int,
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
) -> Probe:
    """The probe on features of one shape.

    Args:
      feature_shape: of one image, [h, w, c] or [values].
      image_shape: [H, W, C].
      classes: labels are 0 to classes - 1.
      settings: static choices; `width` is the filters of the classifier.
      learning_rate: peak rate; traced.

    Returns:
      A Probe that needs `query`, `public_images`, `public_labels` and `encode`.
      Params are {"branch", "scales"}, metrics {"probe": ...} with the accuracy.
    """
    layers = covert.branch(feature_shape, settings.width, classes, image_shape[-1])

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        scale_key, init_key, train_key = jax.random.split(key, 3)
        data = scheme.stegos(knowledge, scale_key)
        one = covert.magnify(data.scales, data.scales.origin[None])
        state, metrics = train(
            train_key,
            *split(covert.init_branch(init_key, layers, one)),
            data,
            learning_rate,
            loss=_loss(layers),
            draw=_draw(settings.batch_size),
            recipe=settings.recipe,
            part="probe",
        )
        learned = join(state.params, state.model_state)
        return {"branch": learned, "scales": data.scales}, {"probe": metrics}

    def answer(params: Any, features: Features) -> Logits:
        magnified = covert.magnify(params["scales"], features)
        return covert.look(layers, params["branch"], magnified)[0]

    needs = ("query", "public_images", "public_labels", "encode")
    return Probe("probe", needs, fit, answer)


@lru_cache(maxsize=16)
def _loss(layers: covert.Branch) -> Loss:
    def loss(params, model_state, key, batch):
        variables = join(params, model_state)
        logits, shown = covert.look(layers, variables, batch.magnified)
        labels = batch.labels
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        metrics = {"accuracy": (logits.argmax(-1) == labels).mean()}
        if shown is not None:
            hidden = covert.coarse(batch.secrets, shown.shape[1:])
            metrics["reader_error"] = ((shown - hidden) ** 2).mean()
            value += _SHOW * metrics["reader_error"]
        return value, (model_state, metrics)

    return loss


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        return scheme.draw(batch_size, key, index, data)

    return draw
