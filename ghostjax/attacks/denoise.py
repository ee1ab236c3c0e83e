"""A convolutional denoising autoencoder (CDA) over another attack's reconstructions.

The attacker sends images of its own through the edge, attacks the features itself, and
trains the autoencoder to turn what it got into what it had sent. Or it has pairs from a
generator that perturbs images, after and before (`pairs = "generator"`). Or it repairs
secrets instead of reconstructions (`pairs = "extracted"`): it hides images of its own
in others, sends them as the user does, attacks, and learns what they were from all that
a rebuilt stego shows of them (`Stego.clues`).

Source: Masci et al. 2011 in the form that Wang et al. (ARDEN, KDD 2018) used: three
3x3 convolutions of 32, 32 and 16 filters, each followed by a 2x2 max pool, and the way
back; sigmoid output; binary cross-entropy for grey images. We deviate: squared error
for colour, and inputs are reconstructions where ARDEN's are its own noised images.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.chunks import CHUNK, in_chunks
from ghostjax.attacks.extract import extract
from ghostjax.attacks.nothing import beneath
from ghostjax.attacks.pairs import learner, pixels, recipe_of, squared_error, traceable
from ghostjax.attacks.records import Denoise
from ghostjax.base import (
    Attack,
    Bytes,
    Context,
    Cut,
    Features,
    Images,
    Indices,
    Inversion,
    Key,
    Knowledge,
    Params,
    limit,
    needed,
    require_stego,
)
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, Layers, apply
from ghostjax.models.layers import Conv, MaxPool, Pad, Relu, Upsample
from ghostjax.pixels import as_bytes
from ghostjax.training.fit import Draw, Fit, Later
from ghostjax.training.sampling import epoch_indices

__all__ = ["autoencoder", "denoise"]


class _Pairs(NamedTuple):
    """What a step draws from; on the device."""

    before: Array  # uint8 [N, H, W, K C], what the autoencoder is to repair
    after: Array  # uint8 [N, H, W, C], what it should be


def denoise(cut: Cut, record: Denoise, context: Context) -> Attack | None:
    """The attack `context.inner`, then an autoencoder.

    Args:
      cut: only the images' shape counts.
      record: the learning rate is traced.
      context: `inner`, any attack that gives images, or None where the cloud does not
        try; `public_count`, the most pairs there can be; for extracted pairs `stego`
        and `reading`.

    Returns:
      An Attack that needs what the inner one and the record need; None without an inner
      attack. Its `hyper` is {"attack": the inner attack's, "denoise": the record's}.
      Params are {"inner", "cda"}; its training, after the inner attack's, is "cda".
      Inversions hold the inner attack's images as `before_denoising`, and its trace;
      with extracted pairs they hold the inner attack's images as they are, the repaired
      `secrets`, and these as they were as `secrets_before`.

    Raises:
      ValueError: extracted pairs where nothing is hidden, or of an attack that gives
        the secrets itself.
    """
    if context.inner is None:
        return None
    secrets = record.pairs == "extracted"
    repaired = _of_secrets(context) if secrets else _of_images(context.inner)
    inner = repaired.inner
    network = autoencoder(cut.image_shape)
    count = min(record.images, context.public_count)
    shape = (*cut.image_shape[:-1], repaired.channels * cut.image_shape[-1])
    repairer = learner(
        network,
        shape,
        draw=_draw(record.batch_size),
        recipe=recipe_of(record, count),
        part="cda",
        measure=_cross_entropy if cut.image_shape[-1] == 1 else _squared_error,
    )
    attacked = partial(repaired.attacked, in_chunks(inner), count)
    like: Any = [
        jax.ShapeDtypeStruct((count, *size), np.uint8)
        for size in (shape, cut.image_shape)
    ]

    @jax.jit
    def repair(variables: Any, images: Images) -> Images:
        return jax.nn.sigmoid(apply(network, variables, images))

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        inner_key, pairs_key, train_key = jax.random.split(key, 3)
        known = limit(knowledge, inner.needs)
        learned = yield from inner.fit(inner_key, hyper["attack"], known)
        if record.pairs == "generator":
            pairs: Any = _Pairs(*needed(knowledge.perturbed_pairs))
        else:
            arguments = pairs_key, learned, hyper["attack"], knowledge
            pairs = Later(_Pairs(*like), partial(attacked, *arguments))
        cda = yield from repairer.fit(train_key, hyper["denoise"], (), pairs)
        return {"inner": learned, "cda": cda}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        noisy = inner.invert(params["inner"], key, features, hyper["attack"])
        shown = repaired.see(params["inner"], noisy)
        return repaired.put(noisy, repair(params["cda"], shown))

    return inner._replace(
        name=f"denoise({inner.name})",
        needs=tuple(dict.fromkeys((*inner.needs, *record.needs))),
        fit=fit,
        invert=invert,
        probe=beneath(inner.probe),
    )


class _Repaired(NamedTuple):
    """What of an attack's inversions is repaired."""

    inner: Attack
    channels: int  # that the autoencoder is shown, times those of the images
    attacked: Callable[..., _Pairs]
    """`attacked(inner, count, key, learned, hyper, knowledge)`: what it learns from."""
    see: Callable[[Any, Inversion], Images]
    """`see(params of the inner attack, inversion)`: what it is shown."""
    put: Callable[[Inversion, Images], Inversion]
    """`put(inversion, repaired)`."""


def _of_images(inner: Attack) -> _Repaired:
    return _Repaired(
        inner=inner,
        channels=1,
        attacked=_attacked,
        see=lambda params, noisy: noisy.images,
        put=lambda noisy, images: noisy._replace(
            images=images, before_denoising=noisy.images
        ),
    )


def _of_secrets(context: Context) -> _Repaired:
    """Of those that are read out, shown as the stego method's clues."""
    inner = needed(context.inner)
    if inner.gives_secrets:
        raise ValueError(
            f"denoise.pairs = 'extracted': attack {inner.name!r} gives the secrets "
            "itself, and none are read out: choose 'own'"
        )
    stego = require_stego(context)
    clues = stego.clues or stego.reveal

    def attacked(inner: Attack, count: int, *arguments: Any) -> _Pairs:
        return _extracted((inner, clues), count, *arguments)

    return _Repaired(
        inner=extract(inner, stego, context.reading),
        channels=stego.clue_channels,
        attacked=attacked,
        see=lambda params, noisy: _shown(clues, params["stego"], noisy.images),
        put=lambda noisy, secrets: noisy._replace(
            secrets=secrets, secrets_before=noisy.secrets
        ),
    )


def autoencoder(image_shape: tuple[int, int, int]) -> Chain:
    """The layers, from images [B, H, W, C] to logits of the same shape.

    Sizes are halved upwards, 28, 14, 7, 4; on the way back a map is doubled and cropped
    to the size it had.
    """
    sizes: list[tuple[int, ...]] = [image_shape[:2]]
    layers: Layers = []
    for place, filters in enumerate((32, 32, 16)):
        odd = [size % 2 for size in sizes[-1]]
        layers += _convolution(f"down{place}", filters)
        if any(odd):  # zeros, which no ReLU is below
            layers.append((f"even{place}", Pad(*[(0, more) for more in odd])))
        layers.append((f"pool{place}", MaxPool()))
        sizes.append(tuple((size + 1) // 2 for size in sizes[-1]))
    for place, filters in enumerate((16, 32, 32)):
        small, large = sizes[-1 - place], sizes[-2 - place]
        layers.append((f"double{place}", Upsample()))
        over = [2 * s - size for s, size in zip(small, large, strict=True)]
        if any(over):
            layers.append((f"crop{place}", Pad(*[(0, -more) for more in over])))
        layers += _convolution(f"up{place}", filters)
    return (*layers, ("image", Conv(image_shape[-1], 3, "SAME")))


def _convolution(name: str, filters: int) -> Layers:
    return [(name, Conv(filters, 3, "SAME")), (f"{name}_act", Relu())]


def _attacked(
    inner: Attack,
    count: int,
    key: Key,
    learned: Any,
    hyper: Hyper,
    knowledge: Knowledge,
) -> _Pairs:
    """Random public images and what the inner attack makes of their features."""
    order_key, query_key, invert_key = jax.random.split(key, 3)
    query = traceable(needed(knowledge.query))
    images = needed(knowledge.public_images)
    chosen = np.asarray(epoch_indices(order_key, 0, count, len(images)))
    before = []
    for start in range(0, count, CHUNK):
        rows = chosen[start : start + CHUNK]
        features = _sent(query, jax.random.fold_in(query_key, start), images, rows)
        chunk_key = jax.random.fold_in(invert_key, start)
        rebuilt = inner.invert(learned, chunk_key, features, hyper).images
        before.append(np.asarray(_as_bytes(rebuilt)))
    return _Pairs(jax.device_put(np.concatenate(before)), _gathered(images, chosen))


Clues = Callable[[Params, Images], Images]


@partial(jax.jit, static_argnums=0)
def _shown(clues: Clues, params: Params, images: Images) -> Images:
    return clues(params, images)


def _extracted(
    sight: tuple[Attack, Clues],
    count: int,
    key: Key,
    learned: Any,
    hyper: Hyper,
    knowledge: Knowledge,
) -> _Pairs:
    """Random public images, hidden in others of them, and what is seen of them in what
    the inner attack makes of the features."""
    inner, clues = sight
    secret_key, cover_key, send_key, invert_key = jax.random.split(key, 4)
    encode = traceable(needed(knowledge.encode))
    images = needed(knowledge.public_images)
    secrets, covers = (
        np.asarray(epoch_indices(k, 0, count, len(images)))
        for k in (secret_key, cover_key)
    )
    before = []
    for start in range(0, count, CHUNK):
        rows = secrets[start : start + CHUNK], covers[start : start + CHUNK]
        features = _hidden(encode, jax.random.fold_in(send_key, start), images, rows)
        chunk_key = jax.random.fold_in(invert_key, start)
        rebuilt = inner.invert(learned, chunk_key, features, hyper).images
        shown = _shown(clues, needed(knowledge.stego_params), rebuilt)
        before.append(np.asarray(_as_bytes(shown)))
    return _Pairs(jax.device_put(np.concatenate(before)), _gathered(images, secrets))


@jax.jit
def _hidden(
    encode: Partial, key: Key, images: Bytes, rows: tuple[Indices, Indices]
) -> Features:
    secrets, covers = (pixels(images, chosen) for chosen in rows)
    return encode(key, secrets, covers)


@jax.jit
def _sent(query: Partial, key: Key, images: Bytes, rows: Indices) -> Features:
    return query(key, pixels(images, rows))


_as_bytes = jax.jit(as_bytes)


@jax.jit
def _gathered(images: Bytes, rows: Indices) -> Bytes:
    return images[rows]


def _cross_entropy(logits: Array, target: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits, target).mean()


def _squared_error(logits: Array, target: Array) -> Array:
    return squared_error(jax.nn.sigmoid(logits), target)


def _draw(batch_size: int) -> Draw:
    def draw(key: Key, index: Array, shared: Any, own: _Pairs) -> tuple[Images, Images]:
        chosen = epoch_indices(key, index, batch_size, len(own.before))
        return pixels(own.before, chosen), pixels(own.after, chosen)

    return draw
