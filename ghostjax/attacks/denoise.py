"""A convolutional denoising autoencoder (CDA) over another attack's reconstructions.

The attacker sends images of his own through the edge, attacks the features himself,
and trains the autoencoder to turn what he got into what he had sent. Or he has pairs
from a generator that perturbs images, after and before (`pairs = "generator"`).

Source: Masci et al. 2011 in the form that Wang et al. (ARDEN, KDD 2018) used: three
3x3 convolutions of 32, 32 and 16 filters, each followed by a 2x2 max pool, and the way
back; sigmoid output; binary cross-entropy for grey images. We deviate: squared error
for colour, and inputs are reconstructions where ARDEN's are its own noised images.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax.attacks.chunks import CHUNK, in_chunks
from ghostjax.attacks.pairs import fit_network, pixels, squared_error, traceable
from ghostjax.base import Attack, Bytes, Features, Key, Knowledge, limit
from ghostjax.chain import Chain, apply
from ghostjax.layers import Conv, MaxPool, Pad, Relu, Upsample
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Later, Recipe


class Settings(NamedTuple):
    """Static choices of the autoencoder's training."""

    recipe: Recipe
    batch_size: int = 100
    images: int = 10_000  # public images attacked for pairs, at most all
    pairs: str = "own"  # or "generator"


class _Data(NamedTuple):
    """What a step reads; on the device."""

    before: Array  # uint8 [N, H, W, C], what the autoencoder is to repair
    after: Array  # uint8 [N, H, W, C], what it should be


def denoise(
    inner: Attack,
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
) -> Attack:
    """`inner`, then an autoencoder.

    Args:
      inner: any attack that gives images.
      image_shape: [H, W, C].
      settings: static choices.
      learning_rate: traced.

    Returns:
      An Attack that needs what `inner` needs and `query` and `public_images`, or
      `perturbed_pairs` for pairs of a generator. Params are {"inner", "cda"}, metrics
      the inner attack's and {"cda": ...}; trace {"images": the inner attack's
      [B, H, W, C], "trace": its trace}.

    Raises:
      ValueError: `settings.pairs` is neither "own" nor "generator".
    """
    wanted = {"own": ("query", "public_images"), "generator": ("perturbed_pairs",)}
    if settings.pairs not in wanted:
        raise ValueError(f"pairs is {settings.pairs!r}: choose 'own' or 'generator'")
    network = autoencoder(image_shape)
    measure = _cross_entropy if image_shape[-1] == 1 else _squared_error

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        inner_key, pairs_key, train_key = jax.random.split(key, 3)
        learned, metrics = inner.fit(inner_key, limit(knowledge, inner.needs), train)
        if settings.pairs == "generator":
            data = _Data(*knowledge.perturbed_pairs)
        else:
            own = inner, learned, knowledge, pairs_key
            images = knowledge.public_images
            count = min(settings.images, len(images))
            shape = jax.ShapeDtypeStruct((count, *images.shape[1:]), images.dtype)
            data = Later(_Data(shape, shape), lambda: _attacked(*own, count))
        cda, more = fit_network(
            train_key,
            network,
            data,
            learning_rate,
            draw=_draw(settings.batch_size),
            recipe=settings.recipe,
            train=train,
            part="cda",
            measure=measure,
        )
        return {"inner": learned, "cda": cda}, {**metrics, **more}

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, Any]:
        images, trace = inner.invert(params["inner"], key, features)
        repaired = jax.nn.sigmoid(apply(network, params["cda"], images))
        return repaired, {"images": images, "trace": trace}

    needs = tuple(dict.fromkeys((*inner.needs, *wanted[settings.pairs])))
    return Attack(f"denoise({inner.name})", needs, fit, invert)


def autoencoder(image_shape: tuple[int, int, int]) -> Chain:
    """The layers, from images [B, H, W, C] to logits of the same shape.

    Sizes are halved upwards, 28, 14, 7, 4; on the way back a map is doubled and cropped
    to the size it had.
    """
    sizes, layers = [image_shape[:2]], []
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


def _convolution(name: str, filters: int) -> list:
    return [(name, Conv(filters, 3, "SAME")), (f"{name}_act", Relu())]


def _attacked(
    inner: Attack, learned: Any, knowledge: Knowledge, key: Key, count: int
) -> _Data:
    """Random public images and what the inner attack makes of their features."""
    order_key, query_key, invert_key = jax.random.split(key, 3)
    images = knowledge.public_images
    chosen = epoch_indices(order_key, 0, count, len(images))
    query, invert = jax.jit(traceable(knowledge.query)), in_chunks(inner).invert
    found = []
    for start in range(0, count, CHUNK):
        shown = pixels(images, chosen[start : start + CHUNK])
        features = query(jax.random.fold_in(query_key, start), shown)
        own_key = jax.random.fold_in(invert_key, start)
        found.append(_bytes(invert(learned, own_key, features)[0]))
    return _Data(jnp.concatenate(found), images[chosen])


def _bytes(images: Array) -> Bytes:
    return jnp.round(255 * images).astype(jnp.uint8)


def _cross_entropy(logits: Array, target: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits, target).mean()


def _squared_error(logits: Array, target: Array) -> Array:
    return squared_error(jax.nn.sigmoid(logits), target)


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        chosen = epoch_indices(key, index, batch_size, len(data.before))
        return pixels(data.before, chosen), pixels(data.after, chosen)

    return draw
