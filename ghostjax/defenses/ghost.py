"""GHOST: hide the sensitive image in a public one, retrain the cloud to answer for it.

The edge stays frozen. The cloud learns on features of ordinary training images with
their labels (D_p) and of stego images with the labels of their secrets (D_g):

  L = CE(cloud(edge(x)), label of x) + weight * CE(cloud(edge(stego)), label of secret)

Source: GHOST Section V, Algorithm 1, Eq. (3). Readings where the paper leaves it open:
D_p holds all classes; each step takes equally large batches of both, averaged apart;
stegos are paired afresh on the device, `covers_per_secret` covers a secret and epoch,
where Algorithm 1 nests the full product; what enters D_g is the stego (line 5).

Two deviations, off by default, are what makes LSB work behind a frozen edge. The cloud
may keep its own weights and learn a covert branch beside them (`covert_filters`, see
covert.py). The edge may choose the cover that the secret overlaps least out of several
random ones (`cover_candidates`); who encodes must then choose alike.

Guarantees:
  Edge variables are returned bit-identical.
  `encode` gives what leaves the edge for stego images, `encode_public` for public ones.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.base import Defense, Stego, Task
from ghostjax.chain import Chain, apply, apply_train, describe, join, split
from ghostjax.defenses import covert
from ghostjax.sampling import epoch_indices
from ghostjax.stego import choose_covers, draw_pairs
from ghostjax.train import Draw, Loss, Recipe

_SHOW = 10.0  # weight of the covert reader's squared error in the loss
_SCALE_PAIRS = 2048  # that the covert branch's scales are measured on


class Settings(NamedTuple):
    """Static choices of covert retraining."""

    recipe: Recipe
    batch_size: int = 256  # of D_g
    public_batch_size: int = 256  # of D_p
    covers_per_secret: int = 1  # 0: the full product
    cover_candidates: int = 1  # random covers the edge chooses from, see least_overlap
    covert_filters: int = 0  # of the covert branch; 0: the paper's literal cloud


class _Data(NamedTuple):
    """What a step reads; on the device."""

    task: Task
    weight: Array  # lambda of Eq. (3)
    scales: Any  # of the covert branch; () without one


class _Batch(NamedTuple):
    """One step's features, first those of the stegos."""

    features: Array  # [B, ...]; magnified where a covert branch learns
    labels: Array  # int32 [B], of the secrets and of the public images
    weight: Array  # lambda of Eq. (3)
    logits: Any = None  # for a covert branch: of the frozen cloud [B, classes]
    secrets: Any = None  # and the secrets at the features' resolution [B, h, w, C]


def ghost(
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
    weight: Array | float = 1.0,
) -> Defense:
    """Covert retraining and covert inference.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut; the last one is dense, one unit a class.
      image_shape: [H, W, C].
      stego: how secrets are hidden; what it learned is the task's.
      settings: static choices.
      learning_rate: traced.
      weight: lambda of Eq. (3); traced.

    Returns:
      A Defense with params {"edge", "cloud", "branch", "scales", "stego"}; branch and
      scales are {} and () without a covert branch.
    """
    branch = None
    if settings.covert_filters:
        shape = describe(edge, image_shape)[-1].shape
        branch = covert.branch(
            shape, settings.covert_filters, cloud[-1][1].features, image_shape[-1]
        )

    def fit(key: Array, task: Task, train: Any) -> tuple[dict[str, Any], Any]:
        scale_key, init_key, train_key = jax.random.split(key, 3)
        learned, scales = task.cloud_variables, ()
        if branch:
            scales, features = _scales(edge, stego, scale_key, task)
            learned = covert.init_branch(init_key, branch, features)
        state, metrics = train(
            train_key,
            *split(learned),
            _Data(task, jnp.float32(weight), scales),
            learning_rate,
            loss=_loss(cloud, branch, settings),
            draw=_draw(edge, cloud, branch, stego, settings),
            recipe=settings.recipe,
        )
        learned = join(state.params, state.model_state)
        return {
            "edge": task.edge_variables,
            "cloud": task.cloud_variables if branch else learned,
            "branch": learned if branch else {},
            "scales": scales,
            "stego": task.stego,
        }, metrics

    def encode_public(params: Any, key: Array, images: Array) -> Array:
        return apply(edge, params["edge"], images)

    def encode(params: Any, key: Array, images: Array, covers: Array) -> Array:
        return apply(edge, params["edge"], stego.hide(params["stego"], covers, images))

    def answer(params: Any, features: Array) -> Array:
        logits = apply(cloud, params["cloud"], features)
        if branch:
            magnified = covert.magnify(params["scales"], features)
            logits = logits + covert.look(branch, params["branch"], magnified)[0]
        return logits

    return Defense("ghost", fit, encode, encode_public, answer, hides=True, bare=True)


@lru_cache(maxsize=16)
def _loss(cloud: Chain, branch: covert.Branch | None, settings: Settings) -> Loss:
    stegos = settings.batch_size

    def loss(params, model_state, key, batch):
        variables, shown = join(params, model_state), None
        if branch:
            added, shown = covert.look(branch, variables, batch.features)
            logits, moved = batch.logits + added, variables
        else:
            logits, moved = apply_train(cloud, variables, batch.features, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        value = (
            losses[stegos:].mean() + batch.weight * losses[:stegos].mean()
        )  # Eq. (3)
        right = logits.argmax(-1) == batch.labels
        metrics = {
            "accuracy_secret": right[:stegos].mean(),
            "accuracy_public": right[stegos:].mean(),
        }
        if shown is not None:
            metrics["reader_error"] = ((shown - batch.secrets) ** 2).mean()
            value += _SHOW * metrics["reader_error"]
        return value, (split(moved)[1], metrics)

    return loss


@lru_cache(maxsize=16)
def _draw(
    edge: Chain,
    cloud: Chain,
    branch: covert.Branch | None,
    stego: Stego,
    settings: Settings,
) -> Draw:
    def draw(key, index, data):
        task = data.task
        pair_key, candidate_key, public_key = jax.random.split(key, 3)
        cover, secret = draw_pairs(
            pair_key,
            index,
            settings.batch_size,
            task.covers,
            task.secrets,
            settings.covers_per_secret or 1,
            full_product=not settings.covers_per_secret,
        )
        cover = choose_covers(
            jax.random.fold_in(candidate_key, index),
            task.images,
            cover,
            secret,
            task.covers,
            settings.cover_candidates,
        )
        count = task.labels.shape[0]
        public = epoch_indices(public_key, index, settings.public_batch_size, count)
        images = jnp.concatenate(
            [_stegos(stego, task, cover, secret), _pixels(task, public)]
        )
        features = apply(edge, task.edge_variables, images)
        labels = task.labels[jnp.concatenate([secret, public])]
        if not branch:
            return _Batch(features, labels, data.weight)
        secrets = None
        if branch.show:
            hidden = covert.coarse(_pixels(task, secret), features.shape[1:])
            nothing = jnp.zeros((len(public), *hidden.shape[1:]))
            secrets = jnp.concatenate([hidden, nothing])
        return _Batch(
            covert.magnify(data.scales, features),
            labels,
            data.weight,
            apply(cloud, task.cloud_variables, features),
            secrets,
        )

    return draw


def _scales(
    edge: Chain, stego: Stego, key: Array, task: Task
) -> tuple[covert.Scales, Array]:
    """The covert branch's scales, and one magnified feature map [1, ...]."""
    cover_key, secret_key = jax.random.split(key)
    cover = jax.random.choice(cover_key, task.covers, (_SCALE_PAIRS,))
    secret = jax.random.choice(secret_key, task.secrets, (_SCALE_PAIRS,))
    covers = apply(edge, task.edge_variables, _pixels(task, cover))
    stegos = apply(edge, task.edge_variables, _stegos(stego, task, cover, secret))
    black = jnp.zeros((1, *task.images.shape[1:]))
    origin = apply(edge, task.edge_variables, black)
    scales = covert.measure_scales(origin[0], covers, stegos)
    return scales, covert.magnify(scales, origin)


def _stegos(stego: Stego, task: Task, cover: Array, secret: Array) -> Array:
    return stego.hide(task.stego, _pixels(task, cover), _pixels(task, secret))


def _pixels(task: Task, chosen: Array) -> Array:
    return task.images[chosen].astype(jnp.float32) / 255
