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

from collections.abc import Callable
from math import ceil, exp, inf, log1p, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from ghostjax.base import (
    Bytes,
    Column,
    Context,
    Cut,
    Defense,
    Features,
    Images,
    Key,
    Logits,
    Params,
    Task,
)
from ghostjax.defenses import plain
from ghostjax.defenses.records import Arden
from ghostjax.fields import Hyper
from ghostjax.models.chain import (
    Chain,
    apply,
    apply_train,
    describe,
    join,
    require_training,
    split,
)
from ghostjax.pixels import as_float
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = [
    "Send",
    "arden",
    "bounded",
    "epsilon_l1_vector",
    "epsilon_published",
    "nullify",
]

_BOUND_IMAGES = 2048  # training images whose median is the bound
_SAFE = 1e-12  # inside the root of ||g||_2

Send = Callable[[Params, Key, Images], Features]


class _Shared(NamedTuple):
    """What steps read that is not this member's alone; on the device."""

    images: Bytes  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]
    edge: Any  # variables of the frozen half


class _Batch(NamedTuple):
    """One step's features of the same images."""

    clean: Features  # [B, ...]
    noisy: Features  # [B, ...]
    labels: Array  # int32 [B]


def arden(cut: Cut, record: Arden, context: Context) -> Defense:
    """Nullification, bounded Laplace noise, noisy training of the cloud.

    Args:
      cut: the network.
      record: shares, levels, weights and rates are traced; whether a bound is given is
        not. The largest bound there is bounds nothing.
      context: not used.

    Returns:
      A Defense with params {"edge", "cloud", "count", "bound", "scale"}; `count` is
      ceil(mu H W C), the values of an image that are set to 0.

    Raises:
      ValueError: the noise layer is not in the edge, or a cloud of one's own that
        cannot be trained; in `fit`, features whose median norm is 0, where no bound is
        given.
    """
    require_training(cut.cloud)
    place = _noise_place(cut.edge, record.noise_layer)
    before = cut.edge[:place]
    noisy_values = prod(describe(before, cut.image_shape)[-1].shape)
    send, measure = _send(cut.edge, place), _median_norm(before)
    loss, draw = _loss(cut.cloud), _draw(cut.edge, send, record.batch_size)
    recipe = Recipe(record.steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        bound_key, train_key = jax.random.split(key)
        count = _count(_share(hyper), prod(cut.image_shape))
        bound = hyper["bound"]
        if not record.bound:
            bound = measure(bound_key, task.edge_variables, task.images, count)
            _require_bound(bound)
        noise = {"count": count, "bound": bound, "scale": hyper["scale"]}
        params, model_state = split(task.cloud_variables, cut.cloud)
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=_Shared(task.images, task.labels, task.edge_variables),
            own=noise,
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="arden",
        )
        cloud = join(state.params, state.model_state, cut.cloud)
        return {"edge": task.edge_variables, "cloud": cloud, **noise}

    def columns(params: Params, hyper: Hyper) -> list[Column]:
        bound, scale = float(params["bound"]), float(params["scale"])
        published = epsilon_published(_share(hyper), scale, bound)
        vector = epsilon_l1_vector(scale, bound, noisy_values)
        return [
            Column("bound", bound, "bound"),
            Column(
                name="epsilon_published",
                value=published,
                label=_PUBLISHED,
                unit="nats",
                budget=True,
            ),
            Column("epsilon_l1_vector", vector, _VECTOR, unit="nats"),
        ]

    return Defense(
        "arden",
        fit,
        send,
        plain.Answer(cut.cloud),
        draws=record.draws,
        columns=columns,
    )


_PUBLISHED = "ε as ARDEN publishes it, for one value (no guarantee)"
_VECTOR = "ε of the whole noisy vector"


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
    shown, spent = log1p(-nullified), 2 * bound / scale / gradient
    # ln(e^(shown + spent) + mu) without an overflow
    return shown + spent + log1p(nullified * exp(-shown - spent))


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


def nullify(key: Key, images: Images, count: ArrayLike) -> Images:
    """Sets `count` values of each image to 0, drawn afresh for each.

    Args:
      key: consumed.
      images: [B, H, W, C].
      count: int32 scalar in [0, H W C]; traced.
    """
    flat = images.reshape(len(images), -1)
    order = jnp.argsort(jax.random.uniform(key, flat.shape), -1)
    first = jnp.broadcast_to(jnp.arange(flat.shape[1]) < count, flat.shape)
    rows = jnp.arange(len(flat))[:, None]
    hidden = jnp.zeros(flat.shape, bool).at[rows, order].set(first, unique_indices=True)
    return jnp.where(hidden, 0.0, flat).reshape(images.shape)


def bounded(values: Array, bound: Array | float) -> Array:
    """Each entry of the batch divided by max(1, its infinity norm / bound)."""
    norms = jnp.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
    return values / jnp.maximum(1.0, norms / bound)


def _share(hyper: Hyper) -> float:
    """mu as the shortest decimal that its float32 stands for: what a config says."""
    return float(str(np.float32(hyper["nullified"])))


def _count(share: float, values: int) -> np.int32:
    """ceil(mu values); the product's rounding never adds one.

    The float32 of 0.1 is above 0.1: of 1,000 values its ceiling would take 101.
    """
    nearest = round(share * values)
    if np.float32(nearest / values) == np.float32(share):
        return np.int32(nearest)
    return np.int32(ceil(share * values))


def _send(edge: Chain, place: int) -> Send:
    def send(params: Params, key: Key, images: Images) -> Features:
        mask_key, noise_key = jax.random.split(key)
        shown = nullify(mask_key, images, params["count"])
        values = bounded(apply(edge[:place], params["edge"], shown), params["bound"])
        drawn = jax.random.laplace(noise_key, values.shape, values.dtype)
        values += params["scale"] * drawn
        return apply(edge[place:], params["edge"], values)

    return send


def _median_norm(layers: Chain) -> Callable[[Key, Any, Bytes, ArrayLike], Array]:
    """Median infinity norm behind the layers of nullified images; one program."""

    @jax.jit
    def measure(key: Key, variables: Params, images: Bytes, count: ArrayLike) -> Array:
        mask_key, image_key = jax.random.split(key)
        chosen = jax.random.choice(image_key, len(images), (_BOUND_IMAGES,))
        shown = nullify(mask_key, as_float(images[chosen]), count)
        values = apply(layers, variables, shown)
        return jnp.median(jnp.abs(values).reshape(len(values), -1).max(-1))

    return measure


def _require_bound(median: Array) -> None:
    if not median > 0:
        raise ValueError(
            "the features at the noise layer are 0 for half of the training images: "
            "give a bound, or another noise_layer"
        )


def _loss(cloud: Chain) -> Loss:
    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: _Batch,
        hyper: Hyper,
        shared: _Shared,
    ) -> LossValue:
        variables = join(params, model_state, cloud)

        def lost(features: Features) -> tuple[Array, tuple[Logits, Any]]:
            logits, moved = apply_train(cloud, variables, features, key)
            return _cross_entropy(logits, batch.labels), (logits, moved)

        gradient = jax.grad(lambda noisy: lost(noisy)[0].sum())(batch.noisy)
        axes = tuple(range(1, gradient.ndim))
        norm = jnp.sqrt((gradient**2).sum(axes, keepdims=True) + _SAFE)
        away = jax.lax.stop_gradient(hyper["adversarial_step"] * gradient / norm)
        clean, (clean_logits, of_clean) = lost(batch.clean)
        noisy, (noisy_logits, of_noisy) = lost(batch.noisy)
        worst, _ = lost(batch.noisy + away)
        hard, weight = noisy.mean() + worst.mean(), hyper["clean_weight"]
        value = weight * clean.mean() + (1 - weight) * hard
        metrics = {
            "accuracy_clean": (clean_logits.argmax(-1) == batch.labels).mean(),
            "accuracy_noisy": (noisy_logits.argmax(-1) == batch.labels).mean(),
        }
        # Batch norm's running statistics are those of noisy features, which are what is
        # sent; of clean ones where training sees no others.
        statistics = jax.tree.map(
            lambda one, other: jnp.where(weight == 1, one, other),
            split(of_clean, cloud)[1],
            split(of_noisy, cloud)[1],
        )
        return value, (statistics, metrics)

    return loss


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def _draw(edge: Chain, send: Send, batch_size: int) -> Draw:
    def draw(key: Key, index: Array, shared: _Shared, own: Params) -> _Batch:
        order_key, noise_key = jax.random.split(key)
        size = shared.labels.shape[0]
        chosen = epoch_indices(order_key, index, batch_size, size)
        images = as_float(shared.images[chosen])
        noise_key = jax.random.fold_in(noise_key, index)
        return _Batch(
            clean=apply(edge, shared.edge, images),
            noisy=send({"edge": shared.edge, **own}, noise_key, images),
            labels=shared.labels[chosen],
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
