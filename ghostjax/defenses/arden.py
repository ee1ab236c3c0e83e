"""ARDEN: the edge nullifies and adds Laplace noise, the cloud is trained to bear it.

Before an image's features cross the cut the edge sets a random share mu of its values
to 0, runs its layers up to the noise layer, bounds what comes out, adds noise and runs
the rest:

  x_l <- x_l / max(1, ||x_l||_inf / B),   x_l <- x_l + Lap(b),   b = B / sigma

Mask and noise are drawn afresh for every image. The edge is frozen; the cloud learns

  L = lambda L1(clean) + (1 - lambda) [L2(noisy) + L3(noisy + r)],  r = eta g / ||g||_2

g being the gradient of L2 with respect to the noisy features, under a stopped gradient.

Two prices are computed, and they are not alike. `epsilon_published` is the paper's
ln[(1 - mu) e^(2 sigma / Lambda) + mu]. It counts one feature value that moves by 2 B,
and even one pixel moves many: it is no guarantee, for a picture or for a pixel.
`epsilon_l1_vector` is what the whole noisy vector of d values costs as Laplace's
mechanism counts it, for any two pictures: 2 B d / b. Rows give both at the noise layer,
with Lambda = 1; layers behind it compute on noisy values alone and add nothing.

Source: Wang et al., "Not Just Privacy" (ARDEN), KDD 2018. Readings: the clean features
of L1 are neither nullified nor bounded; B, where it is not given, is the median of
||x_l||_inf over training images that are nullified like all others; "zero" is a black
pixel. The released code has no bound, one mask and one noise tensor for all images of
an epoch, and pixels in 0..255; we follow the paper.
"""

from functools import lru_cache
from math import ceil, exp, inf, log1p, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.base import Defense, Task
from ghostjax.chain import Chain, apply, apply_train, describe, join, split
from ghostjax.defenses.uncovered import uncovered
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Loss, Recipe

_BOUND_IMAGES = 2048  # training images whose median is the bound
_DRAWS = 10  # of mask and noise, over which accuracies are averaged, as the paper does
_SAFE = 1e-12  # inside the root of ||g||_2


class Settings(NamedTuple):
    """Static choices of noisy training."""

    recipe: Recipe
    batch_size: int = 128
    noise_layer: str = ""  # of the edge, behind which noise is added; "": its last


class _Data(NamedTuple):
    """What a step reads; on the device."""

    task: Task
    params: Any  # of the defense, the cloud's apart
    weight: Array  # lambda, of the clean loss
    step: Array  # eta, length of the adversarial move


class _Batch(NamedTuple):
    clean: Array  # [B, ...], features
    noisy: Array  # [B, ...], features
    labels: Array  # int32 [B]
    weight: Array
    step: Array


def arden(
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    nullified: float = 0.1,
    scale: float = 5.0,
    bound: float = 0.0,
    clean_weight: float = 0.2,
    adversarial_step: Array | float = 5.0,
    learning_rate: Array | float = 1.5e-3,
) -> Defense:
    """Nullification, bounded Laplace noise, noisy training of the cloud.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      settings: static choices.
      nullified: mu in [0, 1); ceil(mu H W C) values of an image are set to 0.
      scale: b of the noise, 0 or more; an array to every compiled program.
      bound: B; 0: the median of ||x_l||_inf over training images; infinite: none.
      clean_weight: lambda in [0, 1]; 1 trains on clean features alone.
      adversarial_step: eta; traced.
      learning_rate: traced.

    Returns:
      A Defense with params {"edge", "cloud", "bound", "scale"}.

    Raises:
      ValueError: the noise layer is not in the edge; mu, b, B or lambda out of range.
    """
    _require(0 <= nullified < 1, "nullified", nullified, "a share in [0, 1)")
    _require(scale >= 0, "scale", scale, "0 or more")
    _require(bound >= 0, "bound", bound, "above 0, or 0 for the training median")
    _require(0 <= clean_weight <= 1, "clean_weight", clean_weight, "in [0, 1]")
    place = _noise_place(edge, settings.noise_layer)
    count = ceil(nullified * prod(image_shape))
    values = prod(describe(edge[:place], image_shape)[-1].shape)
    functions = uncovered(_encode(edge, place, count), cloud)

    def fit(key: Array, task: Task, train: Any) -> tuple[dict[str, Any], Any]:
        bound_key, train_key = jax.random.split(key)
        own = jnp.float32(bound)
        if bound == 0:
            own = _median_norm(edge[:place], count, bound_key, task)
        scaled = jnp.float32(scale)
        params = {"edge": task.edge_variables, "bound": own, "scale": scaled}
        state, metrics = train(
            train_key,
            *split(task.cloud_variables),
            _Data(
                task, params, jnp.float32(clean_weight), jnp.float32(adversarial_step)
            ),
            learning_rate,
            loss=_loss(cloud),
            draw=_draw(edge, functions.encode_public, settings.batch_size),
            recipe=settings.recipe,
        )
        return {**params, "cloud": join(state.params, state.model_state)}, metrics

    def columns(params: Any) -> dict[str, float]:
        own, noise = float(params["bound"]), float(params["scale"])
        return {
            "bound": own,
            "epsilon_published": epsilon_published(nullified, noise, own),
            "epsilon_l1_vector": epsilon_l1_vector(noise, own, values),
        }

    return Defense("arden", fit, *functions, draws=_DRAWS, columns=columns)


def epsilon_published(
    nullified: float, scale: float, bound: float, gradient: float = 1.0
) -> float:
    """ARDEN's epsilon, in nats: ln[(1 - mu) e^(2 sigma / Lambda) + mu], sigma = B / b.

    What one value costs; no guarantee of differential privacy for a picture.

    Args:
      nullified: mu in [0, 1).
      scale: b of the noise; 0 costs infinitely much.
      bound: B.
      gradient: Lambda, infinity norm of the gradient of the edge behind the noise; 1
        where nothing is behind it.

    Raises:
      ValueError: mu, b, B or Lambda out of range.
    """
    _require(0 <= nullified < 1, "nullified", nullified, "a share in [0, 1)")
    _require(scale >= 0, "scale", scale, "0 or more")
    _require(bound > 0, "bound", bound, "above 0")
    _require(gradient > 0, "gradient", gradient, "above 0")
    if scale == 0 or bound == inf:
        return inf
    kept, spent = log1p(-nullified), 2 * bound / scale / gradient
    # ln(e^(kept + spent) + mu) without an overflow
    return kept + spent + log1p(nullified * exp(-kept - spent))


def epsilon_l1_vector(scale: float, bound: float, values: int) -> float:
    """What a vector of `values` entries in [-B, B] with Laplace noise b costs, in nats.

    2 B d / b: any two pictures differ by at most 2 B in each of d entries. Nullifying
    is not counted, since two pictures may differ in every value.

    Raises:
      ValueError: b, B or d out of range.
    """
    _require(scale >= 0, "scale", scale, "0 or more")
    _require(bound > 0, "bound", bound, "above 0")
    _require(values >= 1, "values", values, "at least 1")
    return inf if scale == 0 else 2 * bound * values / scale


def nullify(key: Array, images: Array, count: int) -> Array:
    """`count` values of each image, drawn afresh for each, set to 0."""
    if count == 0:
        return images
    flat = images.reshape(len(images), -1)
    chosen = jnp.argsort(jax.random.uniform(key, flat.shape), -1)[:, :count]
    shown = flat.at[jnp.arange(len(flat))[:, None], chosen].set(0.0)
    return shown.reshape(images.shape)


def bounded(values: Array, bound: Array) -> Array:
    """Each entry of the batch divided by max(1, its infinity norm / bound)."""
    norms = jnp.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
    return values / jnp.maximum(1.0, norms / bound)


@lru_cache(maxsize=64)
def _encode(edge: Chain, place: int, count: int) -> Any:
    def encode_public(params, key, images):
        mask_key, noise_key = jax.random.split(key)
        shown = nullify(mask_key, images, count)
        own = bounded(apply(edge[:place], params["edge"], shown), params["bound"])
        own += params["scale"] * jax.random.laplace(noise_key, own.shape, own.dtype)
        return apply(edge[place:], params["edge"], own)

    return encode_public


def _median_norm(edge: Chain, count: int, key: Array, task: Task) -> Array:
    """Median infinity norm of the features of nullified training images.

    Raises:
      ValueError: it is 0: nothing can be bounded by it.
    """
    mask_key, image_key = jax.random.split(key)
    chosen = jax.random.choice(image_key, len(task.images), (_BOUND_IMAGES,))
    images = task.images[chosen].astype(jnp.float32) / 255
    values = apply(edge, task.edge_variables, nullify(mask_key, images, count))
    median = jnp.median(jnp.abs(values).reshape(len(values), -1).max(-1))
    if not median > 0:
        raise ValueError(
            "the features at the noise layer are 0 for half of the training images: "
            "give a bound, or another noise_layer"
        )
    return median


@lru_cache(maxsize=16)
def _loss(cloud: Chain) -> Loss:
    def loss(params, model_state, key, batch):
        variables = join(params, model_state)

        def lost(features):
            logits, moved = apply_train(cloud, variables, features, key)
            return _cross_entropy(logits, batch.labels), (logits, moved)

        gradient = jax.grad(lambda noisy: lost(noisy)[0].sum())(batch.noisy)
        axes = tuple(range(1, gradient.ndim))
        norm = jnp.sqrt((gradient**2).sum(axes, keepdims=True) + _SAFE)
        moved = batch.noisy + jax.lax.stop_gradient(batch.step * gradient / norm)
        clean, (clean_logits, of_clean) = lost(batch.clean)
        noisy, (noisy_logits, of_noisy) = lost(batch.noisy)
        worst, _ = lost(moved)
        hard = noisy.mean() + worst.mean()
        value = batch.weight * clean.mean() + (1 - batch.weight) * hard
        metrics = {
            "accuracy_clean": (clean_logits.argmax(-1) == batch.labels).mean(),
            "accuracy_noisy": (noisy_logits.argmax(-1) == batch.labels).mean(),
        }
        # Batch norm's running statistics are those of noisy features, which are what is
        # sent; of clean ones where training sees no others.
        statistics = jax.tree.map(
            lambda one, other: jnp.where(batch.weight == 1, one, other),
            split(of_clean)[1],
            split(of_noisy)[1],
        )
        return value, (statistics, metrics)

    return loss


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


@lru_cache(maxsize=16)
def _draw(edge: Chain, encode_public: Any, batch_size: int) -> Draw:
    def draw(key, index, data):
        order_key, noise_key = jax.random.split(key)
        task = data.task
        chosen = epoch_indices(order_key, index, batch_size, len(task.images))
        images = task.images[chosen].astype(jnp.float32) / 255
        own_key = jax.random.fold_in(noise_key, index)
        return _Batch(
            apply(edge, task.edge_variables, images),
            encode_public(data.params, own_key, images),
            task.labels[chosen],
            data.weight,
            data.step,
        )

    return draw


def _noise_place(edge: Chain, layer: str) -> int:
    """How many layers of the edge come before the noise."""
    names = [name for name, _ in edge]
    if layer and layer not in names:
        raise ValueError(
            f"noise_layer is {layer!r}, which is not on the edge: choose one of "
            f"{', '.join(names)}"
        )
    return names.index(layer) + 1 if layer else len(names)


def _require(good: bool, name: str, value: float, wanted: str) -> None:
    if not good:
        raise ValueError(f"{name} = {value}: must be {wanted}")
