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
reader.py). The edge may choose the cover that the secret overlaps least out of several
random ones (`cover_candidates`); who encodes must then choose alike.

Guarantees:
  Edge variables are returned bit-identical.
  `send` is that of the undefended network: only what enters it is hidden.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from ghostjax.base import (
    Bytes,
    Context,
    Cut,
    Defense,
    Features,
    Key,
    Logits,
    Params,
    Stego,
    Task,
    require_batch,
    require_stego,
)
from ghostjax.defenses import plain
from ghostjax.defenses.hide import in_covers
from ghostjax.defenses.records import Ghost
from ghostjax.fields import Hyper
from ghostjax.models import reader
from ghostjax.models.chain import (
    apply,
    apply_train,
    join,
    require_training,
    split,
)
from ghostjax.pixels import as_float
from ghostjax.stego.pairs import Pool, choose_covers, draw_pairs, pool
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = ["ghost"]

_SHOW = 10.0  # weight of the covert reader's squared error in the loss
_SCALE_PAIRS = 2048  # that the covert branch's scales are measured on


class _Shared(NamedTuple):
    """What steps read that is not this member's alone; on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]
    edge: Any  # variables of the frozen halves
    cloud: Any


class _Own(NamedTuple):
    """And what is."""

    pool: Pool
    stego: Any  # what the stego method learned
    scales: Any  # of the covert branch; () without one


class _Batch(NamedTuple):
    """One step's features, first those of the stegos."""

    features: Array  # [B, ...]; magnified where a covert branch learns
    labels: Array  # int32 [B], of the secrets and of the public images
    logits: Any = None  # for a covert branch: of the frozen cloud [B, classes]
    secrets: Any = None  # and the secrets at the features' resolution [B, h, w, C]


def ghost(cut: Cut, record: Ghost, context: Context) -> Defense:
    """Covert retraining and covert inference.

    Args:
      cut: the network.
      record: its learning rate and weight are traced.
      context: `stego`, how secrets are hidden; what it learned is the task's.

    Returns:
      A Defense with params {"edge", "cloud", "branch", "scales", "stego"}; branch and
      scales are {} and () without a covert branch.

    Raises:
      ValueError: a batch larger than the data, no stego method, or a cloud of one's own
        that cannot be trained.
    """
    require_batch("defense.batch_size", record.batch_size, context)
    stego, branch = require_stego(context), _branch(cut, record)
    start = _start(cut, stego, branch) if branch else None
    retrained = () if branch else cut.cloud
    require_training(retrained)
    loss = _loss(cut, branch, record.batch_size)
    draw = _draw(cut, branch, stego, record)
    recipe = Recipe(record.steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        *start_keys, train_key = jax.random.split(key, 3)
        pairs = pool(
            task.covers, task.secrets, record.batch_size, record.covers_per_secret
        )
        learned: Any = task.cloud_variables
        scales: Any = ()
        if start:
            learned, scales = start(
                start_keys, task.edge_variables, task.images, task.stego, pairs
            )
        params, model_state = split(learned, retrained)
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=_Shared(
                images=task.images,
                labels=task.labels,
                edge=task.edge_variables,
                cloud=task.cloud_variables,
            ),
            own=_Own(pool=pairs, stego=task.stego, scales=scales),
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="ghost",
        )
        learned = join(state.params, state.model_state, retrained)
        return {
            "edge": task.edge_variables,
            "cloud": task.cloud_variables if branch else learned,
            "branch": learned if branch else {},
            "scales": scales,
            "stego": task.stego,
        }

    return Defense(
        "ghost",
        fit,
        plain.Send(cut.edge),
        _answer(cut, branch),
        hide=in_covers(stego),
        cover_candidates=record.cover_candidates,
    )


def _branch(cut: Cut, record: Ghost) -> reader.Branch | None:
    if not record.covert_filters:
        return None
    shape, colours = cut.feature_shape, cut.image_shape[-1]
    return reader.branch(shape, record.covert_filters, cut.classes, colours)


def _answer(
    cut: Cut, branch: reader.Branch | None
) -> Callable[[Any, Features], Logits]:
    def answer(params: Any, features: Features) -> Logits:
        logits = apply(cut.cloud, params["cloud"], features)
        if branch:
            magnified = reader.magnify(params["scales"], features)
            logits = logits + reader.look(branch, params["branch"], magnified)[0]
        return logits

    return answer


def _loss(cut: Cut, branch: reader.Branch | None, stegos: int) -> Loss:
    retrained = () if branch else cut.cloud

    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: _Batch,
        hyper: Hyper,
        shared: _Shared,
    ) -> LossValue:
        variables, shown = join(params, model_state, retrained), None
        if branch:
            added, shown = reader.look(branch, variables, batch.features)
            logits, moved = batch.logits + added, variables
        else:
            logits, moved = apply_train(cut.cloud, variables, batch.features, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        value = (
            losses[stegos:].mean() + hyper["weight"] * losses[:stegos].mean()
        )  # Eq. (3)
        right = logits.argmax(-1) == batch.labels
        metrics = {
            "accuracy_secret": right[:stegos].mean(),
            "accuracy_public": right[stegos:].mean(),
        }
        if shown is not None:
            metrics["reader_error"] = ((shown - batch.secrets) ** 2).mean()
            value += _SHOW * metrics["reader_error"]
        return value, (split(moved, retrained)[1], metrics)

    return loss


def _draw(cut: Cut, branch: reader.Branch | None, stego: Stego, record: Ghost) -> Draw:
    def draw(key: Key, index: Array, shared: _Shared, own: _Own) -> _Batch:
        pair_key, candidate_key, public_key = jax.random.split(key, 3)
        cover, secret = draw_pairs(
            pair_key, index, record.batch_size, own.pool, record.covers_per_secret
        )
        cover = choose_covers(
            jax.random.fold_in(candidate_key, index),
            shared.images,
            cover,
            secret,
            own.pool,
            record.cover_candidates,
        )
        size, count = record.public_batch_size, shared.labels.shape[0]
        public = epoch_indices(public_key, index, size, count)
        covers, secrets, others = (
            as_float(shared.images[rows]) for rows in (cover, secret, public)
        )
        images = jnp.concatenate([stego.hide(own.stego, covers, secrets), others])
        features = apply(cut.edge, shared.edge, images)
        labels = shared.labels[jnp.concatenate([secret, public])]
        if not branch:
            return _Batch(features=features, labels=labels)
        shown = None
        if branch.show:
            hidden = reader.coarse(secrets, features.shape[1:])
            nothing = jnp.zeros((len(public), *hidden.shape[1:]))
            shown = jnp.concatenate([hidden, nothing])
        return _Batch(
            features=reader.magnify(own.scales, features),
            labels=labels,
            logits=apply(cut.cloud, shared.cloud, features),
            secrets=shown,
        )

    return draw


def _start(
    cut: Cut, stego: Stego, branch: reader.Branch
) -> Callable[..., tuple[Any, reader.Scales]]:
    """`start(keys, edge variables, images, what the stego method learned, pool)`: the
    covert branch's variables and scales, as one program."""

    def pixels(key: Key, images: Array, rows: Array, count: ArrayLike) -> Array:
        chosen = jax.random.randint(key, (_SCALE_PAIRS,), 0, count)
        return as_float(images[rows[chosen]])

    @jax.jit
    def start(
        keys: tuple[Key, Key],
        edge_variables: Params,
        images: Bytes,
        learned: Params,
        pairs: Pool,
    ) -> tuple[Any, reader.Scales]:
        scale_key, init_key = keys
        cover_key, secret_key = jax.random.split(scale_key)
        cover = pixels(cover_key, images, pairs.covers, pairs.cover_count)
        secret = pixels(secret_key, images, pairs.secrets, pairs.secret_count)
        covers = apply(cut.edge, edge_variables, cover)
        stegos = apply(cut.edge, edge_variables, stego.hide(learned, cover, secret))
        black = jnp.zeros((1, *images.shape[1:]))
        origin = apply(cut.edge, edge_variables, black)
        scales = reader.measure_scales(origin[0], covers, stegos)
        magnified = reader.magnify(scales, origin)
        return reader.init_branch(init_key, branch, magnified), scales

    return start
