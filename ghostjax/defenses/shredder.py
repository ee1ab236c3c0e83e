"""SHREDDER: noise learned for a frozen network is added to what crosses the cut.

One noise tensor n has the shape of one image's features and is the same for all of
them; it is all that is learned. A bank of m tensors is trained side by side, each from
its own start Lap(s):

  L = CE(cloud(a + n), label) - lambda mean |n|

so that the noise grows as long as the network bears it. A tensor's lambda is multiplied
by `decay` at every step at which the tensor is loud enough:

  1 / SNR = Var(n) / E[a^2]

(variance over the tensor's values, E over training images and values). At inference
every image gets noise of its own: one tensor of the bank, or a draw from the
element-wise Laplace distribution with the bank's mean and standard deviation.

Source: Mireshghallah et al., "Shredder", ASPLOS 2020, Sections 2 and 3; 1 / SNR is
their in vivo privacy. Readings (reference sheet, section 5): mean in place of their sum
of |n|, so that lambda means the same at every cut; no public code has this loss as they
print it (one stops plain cross-entropy early, one grows the noise by negative weight
decay, and one re-implementation's term shrinks it). Nobody may take it for a guarantee:
the noise is fixed after training, and who has the bank can take it off again.

Guarantees:
  Edge and cloud variables are returned bit-identical.
  A tensor's start and training do not depend on how many others there are.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.base import (
    Bytes,
    Column,
    Context,
    Cut,
    Defense,
    Features,
    Images,
    Key,
    Params,
    Task,
)
from ghostjax.defenses import plain
from ghostjax.defenses.records import Shredder
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply
from ghostjax.pixels import as_float
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = ["sample", "shredder"]

_SIGNAL_IMAGES = 2048  # training images behind E[a^2]


class _Start(NamedTuple):
    """What training starts from."""

    noise: Array  # [m, ...], the bank
    weights: Array  # [m], each tensor's lambda
    signal: Array  # E[a^2]
    inverse_snr: Array  # of the bank


class _Shared(NamedTuple):
    """What steps read: none of it is this member's alone; on the device."""

    images: Bytes  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]
    edge: Any  # variables of the frozen halves
    cloud: Any
    signal: Array  # E[a^2], of these images behind this edge


class _Batch(NamedTuple):
    """One step's features."""

    features: Features  # [B, ...]
    labels: Array  # int32 [B]


def shredder(cut: Cut, record: Shredder, context: Context) -> Defense:
    """A bank of learned noise, one draw of it for every image.

    Args:
      cut: the network.
      record: the ratio, lambda, its decay, the scale and the rate are traced.
      context: not used.

    Returns:
      A Defense with params {"edge", "cloud", "noise" [m, ...], "signal", "start"}; the
      last is 1 / SNR of the bank before training.

    Raises:
      ValueError: in `fit`, features that are all 0.
    """
    begin = _begin(cut, record.members)
    loss, draw = _loss(cut.cloud), _draw(cut.edge, record.batch_size)
    recipe = Recipe(record.steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        start_key, train_key = jax.random.split(key)
        start = begin(start_key, hyper, task.edge_variables, task.images)
        _require_signal(start.signal)
        state = yield Training(
            key=train_key,
            params=start.noise,
            model_state=start.weights,
            shared=_Shared(
                images=task.images,
                labels=task.labels,
                edge=task.edge_variables,
                cloud=task.cloud_variables,
                signal=start.signal,
            ),
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="shredder",
        )
        learned = {"noise": state.params, "signal": start.signal}
        return {**plain.halves(task), **learned, "start": start.inverse_snr}

    def columns(params: Params, hyper: Hyper) -> list[Column]:
        reached = float(_inverse_snr(params["noise"], params["signal"]))
        started = float(params["start"])
        return [
            Column("inverse_snr", reached, "1/SNR of the learned noise", budget=True),
            Column("inverse_snr_start", started, "1/SNR before training"),
        ]

    return Defense(
        "shredder",
        fit,
        _send(cut.edge, record.sampling),
        plain.Answer(cut.cloud),
        draws=record.draws,
        columns=columns,
    )


def sample(key: Key, noise: Array, count: int, sampling: str) -> Array:
    """Noise for `count` images [count, ...] from a bank [m, ...].

    "member" draws one of the bank for each, "fitted" each value from the Laplace
    distribution with the bank's mean and (population) standard deviation there. Either
    has the bank's variance.
    """
    if sampling == "member":
        return noise[jax.random.randint(key, (count,), 0, len(noise))]
    scale = noise.std(0) / sqrt(2)  # a Laplace distribution's deviation is sqrt(2) b
    drawn = jax.random.laplace(key, (count, *noise.shape[1:]), noise.dtype)
    return noise.mean(0)[None] + scale[None] * drawn


def _send(edge: Chain, sampling: str) -> Callable[[Params, Key, Images], Features]:
    def send(params: Params, key: Key, images: Images) -> Features:
        features = apply(edge, params["edge"], images)
        return features + sample(key, params["noise"], len(images), sampling)

    return send


def _begin(cut: Cut, tensors: int) -> Callable[[Key, Hyper, Any, Bytes], _Start]:
    """Draws a bank and measures the first training images' features; one program."""
    shape = cut.feature_shape

    def tensor(key: Key, place: Array) -> Array:
        return jax.random.laplace(jax.random.fold_in(key, place), shape)

    @jax.jit
    def begin(key: Key, hyper: Hyper, variables: Params, images: Bytes) -> _Start:
        drawn = jax.vmap(tensor, (None, 0))(key, jnp.arange(tensors))
        noise = hyper["initial_scale"] * drawn
        features = apply(cut.edge, variables, as_float(images[:_SIGNAL_IMAGES]))
        signal = (features**2).mean()
        return _Start(
            noise=noise,
            weights=jnp.full(tensors, hyper["noise_weight"]),
            signal=signal,
            inverse_snr=_inverse_snr(noise, signal),
        )

    return begin


@jax.jit
def _inverse_snr(noise: Array, signal: Array) -> Array:
    return noise.var() / signal


def _require_signal(signal: Array) -> None:
    if not signal > 0:
        raise ValueError(
            "the features at the cut are all 0: noise has no ratio to them; choose "
            "another cut, or train the target longer"
        )


def _loss(cloud: Chain) -> Loss:
    def loss(
        params: Array,
        model_state: Array,
        key: Key,
        batch: _Batch,
        hyper: Hyper,
        shared: _Shared,
    ) -> LossValue:
        def alone(noise: Array, weight: Array) -> tuple[Array, Array]:
            logits = apply(cloud, shared.cloud, batch.features + noise[None])
            wrong = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch.labels
            ).mean()
            right = (logits.argmax(-1) == batch.labels).mean()
            return wrong - weight * jnp.abs(noise).mean(), right

        values, right = jax.vmap(alone)(params, model_state)
        axes = tuple(range(1, params.ndim))
        ratios = jax.lax.stop_gradient(params.var(axes) / shared.signal)
        decay = jnp.where(ratios >= hyper["inverse_snr"], hyper["decay"], 1.0)
        metrics = {
            "accuracy": right.mean(),
            "inverse_snr": ratios.mean(),
            "lambda": model_state.mean(),
        }
        return values.sum(), (decay * model_state, metrics)

    return loss


def _draw(edge: Chain, batch_size: int) -> Draw:
    def draw(key: Key, index: Array, shared: _Shared, own: Any) -> _Batch:
        chosen = epoch_indices(key, index, batch_size, shared.labels.shape[0])
        features = apply(edge, shared.edge, as_float(shared.images[chosen]))
        return _Batch(features, shared.labels[chosen])

    return draw
