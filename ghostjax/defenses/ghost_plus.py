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
  `encode_public` and `answer` are those of the undefended network.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ghostjax.base import Defense, Stego, Task
from ghostjax.chain import Chain, Variables, apply, fits, init
from ghostjax.defenses.generator import generator, perturbation
from ghostjax.defenses.plain import plain
from ghostjax.stego import choose_covers, draw_pairs
from ghostjax.train import Draw, Loss, Recipe

_SAFE = 1e-12  # inside the root of Eq. (5)


class Settings(NamedTuple):
    """Static choices of the generator's training."""

    recipe: Recipe
    batch_size: int = 128
    width: int = 8  # filters of the generator's first layer
    adversarial: str = "cross_entropy"  # L_adv; or "margin"
    balance: str = "sample"  # Eq. (7) for each sample; or "batch"
    warm_up: int = 0  # first steps, with lambda = 2
    sees: str = "stego"  # what G sees; "revealed", "secret", "label": that beside it
    generators: str = "one"  # or "label": one for each sensitive label
    cover_candidates: int = 1  # random covers the edge chooses from, see least_overlap


class _Data(NamedTuple):
    """What a step reads; on the device."""

    task: Task
    bound: Array  # of the perturbation, in pixels
    sensitive: Array  # int32 [n_s], the sensitive labels


class _Batch(NamedTuple):
    """One step's stegos; of one generator for each label with a leading axis [n_s]."""

    stegos: Array  # [B, H, W, C]
    beside: Array  # [B, H, W, c], what G sees besides; c may be 0
    labels: Array  # int32 [B], of the secrets
    edge: Variables
    cloud: Variables
    bound: Array
    warm: Array  # bool scalar: lambda = 2


def ghost_plus(
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-4,
    max_perturbation: Array | float = 1.0,
) -> Defense:
    """Adversarial perturbation training and adversarial inference.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      stego: how secrets are hidden; what it learned is the task's.
      settings: static choices.
      learning_rate: peak rate; traced.
      max_perturbation: largest change of a pixel in [0, 1]; traced. 1: the paper's.

    Returns:
      A Defense with params {"edge", "cloud", "stego", "generator", "bound",
      "sensitive"}; leaves of several generators have a leading axis, one a label.

    Raises:
      ValueError: an image size that the generator does not fit; an unknown choice; when
        called, images of another shape; in `fit`, a network made for other images.
    """
    classes = cloud[-1][1].features
    channels = image_shape[-1] + _require_known(settings, image_shape[-1], classes)
    layers = generator(image_shape, channels, settings.width)
    bare = plain(edge, cloud)

    def fit(key: Array, task: Task, train: Any) -> tuple[dict[str, Any], Any]:
        _require_shape(image_shape, task.images)
        _require_network(edge + cloud, image_shape, task)
        init_key, train_key = jax.random.split(key)
        image = jnp.zeros((1, *image_shape[:2], channels))
        bound = jnp.float32(max_perturbation)
        sensitive = jnp.asarray(np.unique(np.asarray(task.labels)[task.secrets]))
        if settings.generators == "one":
            first = init(layers, init_key, image)
        else:
            keys = jax.random.split(init_key, len(sensitive))
            first = jax.vmap(lambda own: init(layers, own, image))(keys)
        state, metrics = train(
            train_key,
            first,
            {},
            _Data(task, bound, sensitive),
            learning_rate,
            loss=_loss(edge, cloud, layers, settings),
            draw=_draw(stego, settings, classes),
            recipe=settings.recipe,
        )
        return {
            "edge": task.edge_variables,
            "cloud": task.cloud_variables,
            "stego": task.stego,
            "generator": state.params,
            "bound": bound,
            "sensitive": sensitive,
        }, metrics

    def perturb(params: Any, stegos: Array, secrets: Array) -> Array:
        _require_shape(image_shape, stegos)
        guess = None  # the place of each secret's label among the sensitive ones
        if settings.sees == "label" or settings.generators == "label":
            logits = bare.answer(params, bare.encode_public(params, None, secrets))
            guess = logits[:, params["sensitive"]].argmax(-1)
        known = None if guess is None else params["sensitive"][guess]
        beside = _beside(
            settings.sees, stego, params["stego"], stegos, secrets, known, classes
        )
        return _perturbed(layers, settings.generators, params, stegos, beside, guess)

    def encode(params: Any, key: Array, images: Array, covers: Array) -> Array:
        stegos = stego.hide(params["stego"], covers, images)
        return apply(edge, params["edge"], perturb(params, stegos, images))

    own = fit, encode, bare.encode_public, bare.answer
    return Defense("ghost_plus", *own, hides=True, perturb=perturb, bare=True)


def _require_known(settings: Settings, channels: int, classes: int) -> int:
    """Channels that G sees beside the stego; ValueError for an unknown choice."""
    beside = {"stego": 0, "revealed": channels, "secret": channels, "label": classes}
    for name, known in (
        ("adversarial", _ADVERSARIAL),
        ("balance", ("sample", "batch")),
        ("sees", beside),
        ("generators", ("one", "label")),
    ):
        if (value := getattr(settings, name)) not in known:
            raise ValueError(f"{name} is {value!r}: choose {', '.join(known)}")
    return beside[settings.sees]


def _require_shape(wanted: tuple[int, ...], images: Array) -> None:
    if images.shape[1:] != tuple(wanted):
        raise ValueError(
            f"the generator takes images {tuple(wanted)} and was given "
            f"{images.shape[1:]}: train one on the data set at hand"
        )


def _require_network(network: Chain, image_shape: tuple[int, ...], task: Task) -> None:
    if not fits(network, image_shape, {**task.edge_variables, **task.cloud_variables}):
        raise ValueError(
            f"the task's network is not for the generator's images {image_shape}: "
            "train it on images of this shape"
        )


def _perturbed(
    layers: Chain,
    generators: str,
    params: Any,
    stegos: Array,
    beside: Array,
    guess: Array | None,
) -> Array:
    own = params["bound"], jnp.concatenate([stegos, beside], -1)
    if generators == "one":
        added = perturbation(layers, params["generator"], *own)
    else:
        every = jax.vmap(lambda g: perturbation(layers, g, *own))(params["generator"])
        added = every[guess, jnp.arange(len(stegos))]
    return jnp.clip(stegos + added, 0.0, 1.0)


def _beside(
    sees: str,
    stego: Stego,
    learned: Any,
    stegos: Array,
    secrets: Array,
    labels: Array | None,
    classes: int,
) -> Array:
    """What G sees beside the stego [B, H, W, c]."""
    if sees == "stego":
        return stegos[..., :0]
    if sees == "revealed":
        return stego.reveal(learned, stegos)
    if sees == "secret":
        return secrets
    # Not a constant: G's first instance norm takes away what is the same everywhere.
    pattern = jax.random.uniform(jax.random.key(0), (1, *stegos.shape[1:3], 1))
    return pattern * jax.nn.one_hot(labels, classes)[:, None, None]


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _margin(logits: Array, labels: Array) -> Array:
    """How far the largest other logit lies above the wanted one, at least 0."""
    wanted = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.where(wanted, logits, -jnp.inf).max(-1)
    other = jnp.where(wanted, -jnp.inf, logits).max(-1)
    return jnp.maximum(other - own, 0.0)


_ADVERSARIAL = {"cross_entropy": _cross_entropy, "margin": _margin}


@lru_cache(maxsize=16)
def _loss(edge: Chain, cloud: Chain, layers: Chain, settings: Settings) -> Loss:
    adversarial = _ADVERSARIAL[settings.adversarial]

    def one(params, batch):
        seen = jnp.concatenate([batch.stegos, batch.beside], -1)
        added = perturbation(layers, params, batch.bound, seen)
        shown = jnp.clip(batch.stegos + added, 0.0, 1.0)
        logits = apply(cloud, batch.cloud, apply(edge, batch.edge, shown))
        wrong = adversarial(logits, batch.labels)  # Eq. (4)
        size = jnp.sqrt((added**2).sum((1, 2, 3)) + _SAFE)  # Eq. (5)
        weight = balance(wrong, size, settings.balance)
        weight = jnp.where(batch.warm, 2.0, weight)
        metrics = {
            "accuracy_secret": (logits.argmax(-1) == batch.labels).mean(),
            "adversarial": wrong.mean(),
            "perturbation": size.mean(),
            "lambda": weight.mean(),
        }
        return (weight * wrong + size).mean(), metrics  # Eq. (6)

    def loss(params, model_state, key, batch):
        if settings.generators == "one":
            value, metrics = one(params, batch)
        else:
            every = _Batch(0, 0, 0, None, None, None, None)
            values, metrics = jax.vmap(one, (0, every))(params, batch)
            value, metrics = values.sum(), jax.tree.map(jnp.mean, metrics)
        return value, (model_state, metrics)

    return loss


def balance(wrong: Array, size: Array, kind: str) -> Array:
    """lambda of Eq. (7) from L_adv and L_pert [B]: 1/2 where L_pert is larger, else 2.

    `kind` is "sample" or "batch", which compares the means. No gradient passes.
    """
    if kind == "batch":
        wrong, size = wrong.mean(), size.mean()
    return jax.lax.stop_gradient(jnp.where(size > wrong, 0.5, 2.0))


@lru_cache(maxsize=16)
def _draw(stego: Stego, settings: Settings, classes: int) -> Draw:
    def one(pair_key, candidate_key, index, data, secrets):
        task = data.task
        size = settings.batch_size
        cover, secret = draw_pairs(pair_key, index, size, task.covers, secrets)
        cover = choose_covers(
            jax.random.fold_in(candidate_key, index),
            task.images,
            cover,
            secret,
            task.covers,
            settings.cover_candidates,
        )
        pixels = (task.images[x].astype(jnp.float32) / 255 for x in (cover, secret))
        covers, shown = pixels
        stegos, labels = stego.hide(task.stego, covers, shown), task.labels[secret]
        own = stego, task.stego, stegos, shown, labels, classes
        return stegos, _beside(settings.sees, *own), labels

    def draw(key, index, data):
        pair_key, candidate_key = jax.random.split(key)
        if settings.generators == "one":
            own = one(pair_key, candidate_key, index, data, data.task.secrets)
        else:
            pair_keys, candidate_keys = (
                jax.random.split(k, len(data.sensitive))
                for k in (pair_key, candidate_key)
            )
            drawn = [
                one(*keys, index, data, _of_label(data, place))
                for place, keys in enumerate(
                    zip(pair_keys, candidate_keys, strict=True)
                )
            ]
            own = [jnp.stack(part) for part in zip(*drawn, strict=True)]
        halves = data.task.edge_variables, data.task.cloud_variables
        return _Batch(*own, *halves, data.bound, index < settings.warm_up)

    return draw


def _of_label(data: _Data, place: int) -> Array:
    """int32 [m]: secrets of one sensitive label, in a circle as many as there are of
    all labels."""
    secrets = data.task.secrets
    own = data.task.labels[secrets] == data.sensitive[place]
    order = jnp.argsort(~own, stable=True)
    return secrets[order[jnp.arange(len(secrets)) % own.sum()]]
