"""GHOST+: hide the sensitive image, perturb the stego, leave the network alone.

A generator G on the edge makes a small perturbation of the stego C~ such that the
frozen network f = cloud(edge(.)) answers with the hidden image's label:

  x = clip(G(C~) + C~, 0, 1)
  L_adv = CE(f(x), label of the secret)                                       Eq. (4)
  L_pert = ||G(C~)||_2                                                        Eq. (5)
  L = lambda L_adv + L_pert, lambda = 1/2 where L_pert > L_adv, else 2   Eqs. (6), (7)

G is AdvGAN's (generator.py), its output `max_perturbation` times a tanh. lambda is
chosen per sample, as Algorithm 2 reads, under a stopped gradient.

What G must find out is which secret is hidden: with one sensitive label it need not,
and a universal perturbation scores 100 %. The shuffled-secret and the cover-only
control (G on a cover with nothing hidden) say what was read.

The paper's G sees the stego alone. `sees` = "revealed" shows it the same stego twice,
as it is and as the stego method's own `reveal` reads it: what is hidden in grey levels
that a convolution with instance norm can hardly tell apart is then in plain sight. The
edge has more: `sees` hands G the secret itself beside the stego ("secret"), or its
label ("label": a fixed pattern in the label's own channel); `generators` = "label"
trains one for each sensitive label, the paper's alternative. An edge that trains G has
all of f, and so the label at inference is f's own answer for the secret: it has no need
of a cloud then, and what such a G reaches says how strong perturbations are, not how
well stegos are read.

Source: GHOST Section VI, Algorithm 2. We deviate: 1e-12 inside the root of Eq. (5),
whose gradient has no value at 0; clipping to [0, 1], which the paper does not mention.
Options: the margin of Carlini and Wagner instead of the cross-entropy (AdvGAN); Eq. (7)
per batch, and warm-up steps at lambda = 2, as GangSweep, where Eq. (7) comes from.

Guarantees:
  Edge and cloud variables are returned bit-identical.
  `send` and `answer` are those of the undefended network.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ghostjax.base import (
    Bytes,
    Context,
    Cut,
    Defense,
    Images,
    Key,
    Labels,
    Logits,
    Params,
    Stego,
    Task,
    require_stego,
)
from ghostjax.defenses import plain
from ghostjax.defenses.generator import generator, perturbation
from ghostjax.defenses.hide import in_covers
from ghostjax.defenses.records import GhostPlus
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply, fits, init
from ghostjax.pixels import as_float
from ghostjax.stego.pairs import Pool, choose_covers, draw_pairs, pool
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training

__all__ = ["balance", "ghost_plus"]

_SAFE = 1e-12  # inside the root of Eq. (5)
_MORE = (
    "The generator was told more than the stego shows, the secret or its label: the "
    "accuracy says how strong its perturbations are, not how well stegos are read."
)


class _Shared(NamedTuple):
    """What steps read that is not this member's alone; on the device."""

    images: Bytes  # [N, H, W, C]
    labels: Labels  # [N]
    edge: Any  # variables of the frozen halves
    cloud: Any


class _Own(NamedTuple):
    """And what is."""

    pool: Pool  # its `secrets` are [n_s, N] for one generator a label
    stego: Any  # what the stego method learned


class _Pairs(NamedTuple):
    """Stegos and what belongs to them; [n_s, B, ...] for one generator a label."""

    stegos: Images  # [B, H, W, C]
    beside: Array  # float32 [B, H, W, c], what G sees besides; c may be 0
    labels: Labels  # [B], of the secrets


class _Batch(NamedTuple):
    """What one step learns from."""

    pairs: _Pairs
    step: Array  # int32 scalar, from 0


class _Sight(NamedTuple):
    """What G sees beside the stego."""

    channels: int
    show: Callable[[Any, Images, Images, Labels | None], Array]
    """`show(what the stego method learned, stegos, secrets, their labels)`, float32
    [B, H, W, channels]."""


def ghost_plus(cut: Cut, record: GhostPlus, context: Context) -> Defense:
    """Adversarial perturbation training and adversarial inference.

    Args:
      cut: the network.
      record: its learning rate, bound and warm-up are traced.
      context: `stego`, how secrets are hidden; what it learned is the task's.

    Returns:
      A Defense with params {"edge", "cloud", "stego", "generator", "bound",
      "sensitive"}: the largest change of a pixel and which labels are sensitive, bool
      [classes]; leaves of several generators have a leading axis, one a sensitive
      label.

    Raises:
      ValueError: no stego method, or an image size that the generator does not fit;
        when called, images of another shape; in `fit`, a network made for other images,
        or a sensitive label without images where each has its generator.
    """
    stego = require_stego(context)
    sight = _sight(cut, record, stego)
    channels = cut.image_shape[-1] + sight.channels
    layers = generator(cut.image_shape, channels, record.width)
    loss, draw = _loss(cut, record, layers), _draw(record, stego, sight)
    recipe = Recipe(record.steps, record.optimizer, record.schedule)
    send, answer = plain.Send(cut.edge), plain.Answer(cut.cloud)
    by_label = record.generators == "label"

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        _require_shape(cut.image_shape, task.images)
        _require_network(cut, task)
        pairs = _pool(record, task)
        init_key, train_key = jax.random.split(key)
        if record.generators == "label":
            init_key = jax.random.split(init_key, task.sensitive.sum())
        state = yield Training(
            key=train_key,
            params=_start(layers, init_key, (*cut.image_shape[:2], channels)),
            shared=_Shared(
                images=task.images,
                labels=task.labels,
                edge=task.edge_variables,
                cloud=task.cloud_variables,
            ),
            own=_Own(pairs, task.stego),
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="ghost_plus",
        )
        return {
            **plain.halves(task),
            "stego": task.stego,
            "generator": state.params,
            "bound": hyper["max_perturbation"],
            "sensitive": task.sensitive,
        }

    def perturb(params: Any, stegos: Images, secrets: Images) -> Images:
        _require_shape(cut.image_shape, stegos)
        labels = place = None
        if by_label or record.sees == "label":
            logits = answer(params, send(params, None, secrets))
            labels = _likeliest(logits, params["sensitive"])
        if by_label:
            place = jnp.cumsum(params["sensitive"])[labels] - 1
        beside = sight.show(params["stego"], stegos, secrets, labels)
        seen = jnp.concatenate([stegos, beside], -1)
        return jnp.clip(stegos + _added(layers, params, seen, place), 0.0, 1.0)

    return Defense(
        name="ghost_plus",
        fit=fit,
        send=send,
        answer=answer,
        hide=in_covers(stego),
        perturb=perturb,
        cover_candidates=record.cover_candidates,
        caution=_MORE if by_label or record.sees in ("secret", "label") else "",
    )


def _sight(cut: Cut, record: GhostPlus, stego: Stego) -> _Sight:
    colours, classes = cut.image_shape[-1], cut.classes

    def nothing(learned: Any, stegos: Images, *_: Any) -> Array:
        return stegos[..., :0]

    def revealed(learned: Any, stegos: Images, *_: Any) -> Array:
        return stego.reveal(learned, stegos)

    def secret(learned: Any, stegos: Images, secrets: Images, *_: Any) -> Array:
        return secrets

    def label(
        learned: Any, stegos: Images, secrets: Images, labels: Labels | None
    ) -> Array:
        # Not a constant: G's first instance norm takes away what is alike everywhere.
        pattern = jax.random.uniform(jax.random.key(0), (1, *stegos.shape[1:3], 1))
        return pattern * jax.nn.one_hot(labels, classes)[:, None, None]

    return {
        "stego": _Sight(0, nothing),
        "revealed": _Sight(colours, revealed),
        "secret": _Sight(colours, secret),
        "label": _Sight(classes, label),
    }[record.sees]


def _require_shape(image_shape: tuple[int, int, int], images: Array) -> None:
    if images.shape[1:] != image_shape:
        raise ValueError(
            f"the generator takes images {image_shape} and was given "
            f"{images.shape[1:]}: train one on the data set at hand"
        )


def _require_network(cut: Cut, task: Task) -> None:
    if not (
        fits(cut.edge, cut.image_shape, task.edge_variables)
        and fits(cut.cloud, cut.feature_shape, task.cloud_variables)
    ):
        raise ValueError(
            "the task's network is not for the generator's images "
            f"{cut.image_shape}: train it on images of this shape"
        )


def _pool(record: GhostPlus, task: Task) -> Pool:
    """What stegos are made of: for one generator a label, with a row of secrets each.

    A label's row holds its secrets in a circle: as many as there are of all labels.
    """
    whole = pool(task.covers, task.secrets, record.batch_size, 1)
    if record.generators == "one":
        return whole
    rows = task.secrets.rows[: task.secrets.count]
    labels, circles = np.asarray(task.labels)[rows], []
    for label in np.flatnonzero(task.sensitive):
        if not (labels == label).any():
            raise ValueError(
                f"no image has the sensitive label {label}: its generator has nothing "
                "to learn from; choose other labels, or generators = 'one'"
            )
        circles.append(np.resize(rows[labels == label], len(task.secrets.rows)))
    return whole._replace(secrets=jax.device_put(np.stack(circles)))


def _start(layers: Chain, keys: Key, seen_shape: tuple[int, int, int]) -> Any:
    """Variables of one generator; of several, [n_s, ...], for an array of keys."""
    image = np.zeros((1, *seen_shape), np.float32)
    if not keys.ndim:
        return init(layers, keys, image)
    return jax.vmap(lambda key: init(layers, key, image))(keys)


def _likeliest(logits: Logits, sensitive: Array) -> Labels:
    """The sensitive label that each image is answered with, where it must be one."""
    return jnp.where(sensitive[None], logits, -jnp.inf).argmax(-1)


def _added(layers: Chain, params: Any, seen: Array, place: Array | None) -> Array:
    """Perturbations [B, H, W, C]; of several generators those of each `place` [B]."""

    def by(variables: Any) -> Array:
        return perturbation(layers, variables, params["bound"], seen)

    if place is None:
        return by(params["generator"])
    return jax.vmap(by)(params["generator"])[place, jnp.arange(len(seen))]


def _loss(cut: Cut, record: GhostPlus, layers: Chain) -> Loss:
    adversarial = _ADVERSARIAL[record.adversarial]

    def single(
        params: Params, pairs: _Pairs, warm: Array, bound: Array, shared: _Shared
    ) -> tuple[Array, dict[str, Array]]:
        seen = jnp.concatenate([pairs.stegos, pairs.beside], -1)
        added = perturbation(layers, params, bound, seen)
        shown = jnp.clip(pairs.stegos + added, 0.0, 1.0)
        logits = apply(cut.cloud, shared.cloud, apply(cut.edge, shared.edge, shown))
        wrong = adversarial(logits, pairs.labels)  # Eq. (4)
        size = jnp.sqrt((added**2).sum((1, 2, 3)) + _SAFE)  # Eq. (5)
        weight = balance(wrong, size, record.balance)
        weight = jnp.where(warm, 2.0, weight)
        metrics = {
            "accuracy_secret": (logits.argmax(-1) == pairs.labels).mean(),
            "adversarial": wrong.mean(),
            "perturbation": size.mean(),
            "lambda": weight.mean(),
        }
        return (weight * wrong + size).mean(), metrics  # Eq. (6)

    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: _Batch,
        hyper: Hyper,
        shared: _Shared,
    ) -> LossValue:
        warm, bound = batch.step < hyper["warm_up"], hyper["max_perturbation"]
        if record.generators == "one":
            value, metrics = single(params, batch.pairs, warm, bound, shared)
        else:
            every = jax.vmap(single, (0, 0, None, None, None))
            values, metrics = every(params, batch.pairs, warm, bound, shared)
            value, metrics = values.sum(), jax.tree.map(jnp.mean, metrics)
        return value, (model_state, metrics)

    return loss


def _cross_entropy(logits: Logits, labels: Labels) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _margin(logits: Logits, labels: Labels) -> Array:
    """How far the largest other logit lies above the wanted one, at least 0."""
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    wanted = jnp.where(is_label, logits, -jnp.inf).max(-1)
    other = jnp.where(is_label, -jnp.inf, logits).max(-1)
    return jnp.maximum(other - wanted, 0.0)


_ADVERSARIAL = {"cross_entropy": _cross_entropy, "margin": _margin}


def balance(wrong: Array, size: Array, kind: Literal["sample", "batch"]) -> Array:
    """lambda of Eq. (7) from L_adv and L_pert [B]: 1/2 where L_pert is larger, else 2.

    `kind` is "sample" or "batch", which compares the means. No gradient passes.
    """
    if kind == "batch":
        wrong, size = wrong.mean(), size.mean()
    return jax.lax.stop_gradient(jnp.where(size > wrong, 0.5, 2.0))


def _draw(record: GhostPlus, stego: Stego, sight: _Sight) -> Draw:
    def pairs_of(
        keys: Any, index: Array, shared: _Shared, data: Pool, learned: Params
    ) -> _Pairs:
        pair_key, candidate_key = keys
        cover, secret = draw_pairs(pair_key, index, record.batch_size, data, 1)
        cover = choose_covers(
            jax.random.fold_in(candidate_key, index),
            shared.images,
            cover,
            secret,
            data,
            record.cover_candidates,
        )
        covers, secrets = (as_float(shared.images[rows]) for rows in (cover, secret))
        stegos, labels = stego.hide(learned, covers, secrets), shared.labels[secret]
        beside = sight.show(learned, stegos, secrets, labels)
        return _Pairs(stegos, beside, labels)

    def draw(key: Key, index: Array, shared: _Shared, own: _Own) -> _Batch:
        keys = jax.random.split(key)
        if record.generators == "one":
            return _Batch(pairs_of(keys, index, shared, own.pool, own.stego), index)
        circles = own.pool.secrets
        label_keys = [jax.random.split(k, len(circles)) for k in keys]
        drawn = [
            pairs_of(both, index, shared, own.pool._replace(secrets=rows), own.stego)
            for *both, rows in zip(*label_keys, circles, strict=True)
        ]
        return _Batch(jax.tree.map(lambda *parts: jnp.stack(parts), *drawn), index)

    return draw
