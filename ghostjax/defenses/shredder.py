"""SHREDDER: noise learned for a frozen network is added to what crosses the cut.

One noise tensor n has the shape of one image's features and is the same for all of
them; it is all that is learned. A bank of m tensors is trained side by side, each from
its own start Lap(s):

  L = CE(cloud(a + n), label) - lambda mean |n|

so that the noise grows as long as the network bears it. A member's lambda is multiplied
by `decay` at every step at which the member is loud enough:

  1 / SNR = Var(n) / E[a^2]

(variance over the tensor's values, E over training images and values). At inference
every image gets noise of its own: one member of the bank, or a draw from the
element-wise Laplace distribution with the bank's mean and standard deviation.

Source: Mireshghallah et al., "Shredder", ASPLOS 2020, Sections 2 and 3; 1 / SNR is
their in vivo privacy. Readings (reference sheet, section 5): mean in place of their sum
of |n|, so that lambda means the same at every cut; no public code has this loss as they
print it (one stops plain cross-entropy early, one grows the noise by negative weight
decay, and one re-implementation's term shrinks it). Nobody may take it for a guarantee:
the noise is fixed after training, and who has the bank can take it off again.

Guarantees:
  Edge and cloud variables are returned bit-identical.
  A member's training does not depend on how many others there are.
"""

from functools import lru_cache
from math import sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.base import Defense, Task
from ghostjax.chain import Chain, apply, describe
from ghostjax.defenses.uncovered import uncovered
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Loss, Recipe

_SIGNAL_IMAGES = 2048  # training images behind E[a^2]
_DRAWS = 10  # of noise, over which accuracies are averaged


class Settings(NamedTuple):
    """Static choices of the noise's training and use."""

    recipe: Recipe
    batch_size: int = 32
    members: int = 20  # m, noise tensors of the bank
    sampling: str = "member"  # what an image gets: one of the bank; or "fitted"


class _Data(NamedTuple):
    """What a step reads; on the device."""

    task: Task
    signal: Array  # E[a^2]
    wanted: Array  # 1 / SNR from which lambda decays
    decay: Array


class _Batch(NamedTuple):
    features: Array  # [B, ...]
    labels: Array  # int32 [B]
    cloud: Any  # the cloud's variables
    signal: Array
    wanted: Array
    decay: Array


def shredder(
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    initial_scale: float = 0.1,
    noise_weight: float = 1.0,
    inverse_snr: float = 10.0,
    decay: float = 0.9,
    learning_rate: Array | float = 5e-2,
) -> Defense:
    """A bank of learned noise, one draw of it for every image.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      settings: static choices.
      initial_scale: s of the Laplace distribution that noise starts from, above 0.
      noise_weight: lambda at first, 0 or more.
      inverse_snr: 1 / SNR of a member from which its lambda decays, above 0.
      decay: of lambda for each such step, in [0, 1]. These four are numbers, and arrays
        to every compiled program.
      learning_rate: traced.

    Returns:
      A Defense with params {"edge", "cloud", "noise" [m, ...], "signal", "start"}; the
      last is 1 / SNR of the bank before training.

    Raises:
      ValueError: a number out of range; an unknown sampling; no members; in `fit`,
        features that are all 0.
    """
    _require_known(settings)
    for name, value, good, wanted in (
        ("initial_scale", initial_scale, initial_scale > 0, "above 0"),
        ("noise_weight", noise_weight, noise_weight >= 0, "0 or more"),
        ("inverse_snr", inverse_snr, inverse_snr > 0, "above 0"),
        ("decay", decay, 0 <= decay <= 1, "in [0, 1]"),
    ):
        if not good:
            raise ValueError(f"{name} = {value}: must be {wanted}")
    shape = describe(edge, image_shape)[-1].shape

    def fit(key: Array, task: Task, train: Any) -> tuple[dict[str, Any], Any]:
        start_key, train_key = jax.random.split(key)
        signal = _signal(edge, task)
        keys = [jax.random.fold_in(start_key, i) for i in range(settings.members)]
        noise = initial_scale * jnp.stack(
            [jax.random.laplace(own, shape) for own in keys]
        )
        state, metrics = train(
            train_key,
            noise,
            jnp.full(settings.members, noise_weight, jnp.float32),
            _Data(task, signal, jnp.float32(inverse_snr), jnp.float32(decay)),
            learning_rate,
            loss=_loss(cloud),
            draw=_draw(edge, settings.batch_size),
            recipe=settings.recipe,
        )
        return {
            "edge": task.edge_variables,
            "cloud": task.cloud_variables,
            "noise": state.params,
            "signal": signal,
            "start": noise.var() / signal,
        }, metrics

    def columns(params: Any) -> dict[str, float]:
        return {
            "inverse_snr": float(params["noise"].var() / params["signal"]),
            "inverse_snr_start": float(params["start"]),
        }

    functions = uncovered(_encode(edge, settings.sampling), cloud)
    return Defense("shredder", fit, *functions, draws=_DRAWS, columns=columns)


def sample(key: Array, noise: Array, count: int, sampling: str) -> Array:
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


@lru_cache(maxsize=64)
def _encode(edge: Chain, sampling: str) -> Any:
    def encode_public(params, key, images):
        features = apply(edge, params["edge"], images)
        return features + sample(key, params["noise"], len(images), sampling)

    return encode_public


def _signal(edge: Chain, task: Task) -> Array:
    """E[a^2] over the first training images' features.

    Raises:
      ValueError: it is 0, so that no noise has a ratio to it.
    """
    images = task.images[:_SIGNAL_IMAGES].astype(jnp.float32) / 255
    signal = (apply(edge, task.edge_variables, images) ** 2).mean()
    if not signal > 0:
        raise ValueError(
            "the features at the cut are all 0: noise has no ratio to them; choose "
            "another cut, or train the target longer"
        )
    return signal


@lru_cache(maxsize=16)
def _loss(cloud: Chain) -> Loss:
    def loss(params, model_state, key, batch):
        def member(noise, weight):
            logits = apply(cloud, batch.cloud, batch.features + noise[None])
            wrong = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch.labels
            ).mean()
            right = (logits.argmax(-1) == batch.labels).mean()
            return wrong - weight * jnp.abs(noise).mean(), right

        values, right = jax.vmap(member)(params, model_state)
        axes = tuple(range(1, params.ndim))
        ratios = jax.lax.stop_gradient(params.var(axes) / batch.signal)
        decay = jnp.where(ratios >= batch.wanted, batch.decay, 1.0)
        metrics = {
            "accuracy": right.mean(),
            "inverse_snr": ratios.mean(),
            "lambda": model_state.mean(),
        }
        return values.sum(), (decay * model_state, metrics)

    return loss


@lru_cache(maxsize=16)
def _draw(edge: Chain, batch_size: int) -> Draw:
    def draw(key, index, data):
        task = data.task
        chosen = epoch_indices(key, index, batch_size, len(task.images))
        images = task.images[chosen].astype(jnp.float32) / 255
        features = apply(edge, task.edge_variables, images)
        own = task.cloud_variables, data.signal, data.wanted, data.decay
        return _Batch(features, task.labels[chosen], *own)

    return draw


def _require_known(settings: Settings) -> None:
    if settings.sampling not in ("member", "fitted"):
        raise ValueError(
            f"sampling is {settings.sampling!r}: choose 'member' or 'fitted'"
        )
    if settings.members < 1:
        raise ValueError(f"members = {settings.members}: must be at least 1")
