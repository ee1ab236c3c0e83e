"""An independent judge: a network that says what is to be seen in a picture.

Whether an attacker's pictures show the secrets is not for the target network to say: it
was trained on clean images and may be misled by their style, or may be what the attack
was made for. The judge is another network, with wide strided convolutions, no pooling
and pixels normalised per image, so that contrast and brightness do not count. It is
trained with another seed on the data set's own images, shifted, zoomed, blurred, of low
contrast, noisy and of few bits; it never sees what an attack or a defense has made.

Images are [N, H, W, C], uint8 or floats in [0, 1].
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ghostjax import registry
from ghostjax.base import Context, Images, Key, Labels, Params
from ghostjax.data import Dataset
from ghostjax.evaluation.answers import batches
from ghostjax.evaluation.records import Judge as Record
from ghostjax.fields import Hyper
from ghostjax.models import chain
from ghostjax.models.chain import Chain, Variables
from ghostjax.models.layers import Conv, Dense, InstanceNorm, Pad, Relu
from ghostjax.pixels import as_float
from ghostjax.training.classifier import LabelledImages, cross_entropy
from ghostjax.training.fit import Draw, Fit, Recipe, Training

__all__ = ["Judge", "Seen", "Subject", "TooFew", "judge", "judge_of"]

_SMALLEST = 19  # pixels a side, that the convolutions leave something of
_LOOKED_AT = 100  # images in one call


class TooFew(ValueError):
    """The data set has too few training images for a judge."""


class Subject(NamedTuple):
    """What a judge looks at."""

    image_shape: tuple[int, int, int]  # [H, W, C]
    classes: int


class Seen(NamedTuple):
    """What a judge sees in images; on the host. NaN where an image has a NaN."""

    logits: np.ndarray  # float32 [N, classes]
    features: np.ndarray  # float32 [N, D], of the layer before


class Judge(NamedTuple):
    """A judge of one data set's pictures, as pure functions of what it has learned."""

    network: Chain
    fit: Callable[[Key, Hyper, LabelledImages], Fit]
    """`fit(key, hyper, data)`, which ends in the variables."""

    def look(self, variables: Variables, images: np.ndarray | Array) -> Seen:
        """What it sees in images [N, H, W, C], in batches of a fixed number.

        Raises:
          ValueError: no images.
        """
        shown = np.asarray(images)
        if not len(shown):
            raise ValueError("the judge was shown no pictures: give at least one")
        seen = []
        for part in batches(len(shown), _LOOKED_AT):
            some = shown[part.start + part.rows - part.rows[0]]
            looked = _look(self.network, variables, _floats(some))
            seen.append([np.asarray(leaf)[: part.count] for leaf in looked])
        return Seen(*(np.concatenate(leaves) for leaves in zip(*seen, strict=True)))


def judge_of(record: Record, dataset: Dataset) -> Judge:
    """The judge of a data set; equal ones share their programs.

    Raises:
      TooFew: a class has fewer training images than `records.FEWEST`.
    """
    images, labels = dataset.train
    if refusal := record.refusal(labels, dataset.class_names):
        raise TooFew(f"data set {dataset.name!r}: {refusal}")
    subject = Subject(images.shape[1:], len(dataset.class_names))
    context = Context(train_count=len(labels))
    judging: Judge = registry.construct(judge, subject, record.training, context)
    return judging


def judge(subject: Subject, record: Record, context: Context) -> Judge:
    """A judge that is yet to learn.

    Args:
      subject: what it looks at.
      record: its learning rate is traced.
      context: `train_count`, from which follows how many steps an epoch has.
    """
    network = _network(subject)
    loss, draw = cross_entropy(network), _draw(record.batch_size)
    steps = -(-record.epochs * context.train_count // record.batch_size)
    steps = min(steps, record.most_steps)
    recipe = Recipe(steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, data: LabelledImages) -> Fit:
        init_key, train_key = jax.random.split(key)
        params, model_state = chain.split(_drawn(network, subject, init_key))
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=data,
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="judge",
        )
        return chain.join(state.params, state.model_state)

    return Judge(network, fit)


def _network(subject: Subject) -> Chain:
    """Three wide convolutions, two with stride 2, and a dense layer."""
    height, width, _ = subject.image_shape
    rows, columns = (max(0, _SMALLEST - side) for side in (height, width))
    layers: chain.Layers = [("contrast", InstanceNorm())]
    if rows or columns:
        border = [(more // 2, more - more // 2) for more in (rows, columns)]
        layers.append(("border", Pad(*border)))
    return (
        *layers,
        ("conv1", Conv(24, 5, stride=2)),
        ("ReLU1", Relu()),
        ("conv2", Conv(48, 4, stride=2)),
        ("ReLU2", Relu()),
        ("conv3", Conv(64, 3)),
        ("ReLU3", Relu()),
        ("answer", Dense(subject.classes)),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _drawn(network: Chain, subject: Subject, key: Key) -> Variables:
    """The first variables by He et al.'s rule; all of one draw, since to compile one
    for each layer takes as long as the training."""
    image = jax.ShapeDtypeStruct((1, *subject.image_shape), jnp.float32)
    shapes = jax.eval_shape(partial(chain.init, network), key, image)
    leaves, form = jax.tree.flatten_with_path(shapes)
    normal = jax.random.normal(key, (sum(leaf.size for _, leaf in leaves),))
    drawn, place = [], 0
    for path, leaf in leaves:
        part = normal[place : place + leaf.size].reshape(leaf.shape)
        place += leaf.size
        if len(leaf.shape) > 1:
            drawn.append(part * (2 / prod(leaf.shape[:-1])) ** 0.5)
        else:
            ones = path[-1] == jax.tree_util.DictKey("scale")  # of a normalisation
            drawn.append(jnp.full(leaf.shape, ones, jnp.float32))
    variables: Variables = jax.tree.unflatten(form, drawn)
    return variables


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: LabelledImages, own: Any
    ) -> tuple[Images, Labels]:
        """Images drawn with replacement, and changed. All numbers are one draw, which
        compiles in a fraction of the time of many."""
        count, shape = shared.labels.shape[0], shared.images.shape[1:]
        size = (batch_size, len(_Chances._fields) + 1 + 2 * prod(shape))
        numbers = jax.random.uniform(jax.random.fold_in(key, index), size)
        numbers = lax.optimization_barrier(numbers)
        rows = (numbers[:, 0] * count).astype(jnp.int32)
        chosen = jnp.minimum(rows, count - 1)
        chances = _Chances(*numbers[:, 1 : len(_Chances._fields) + 1].T)
        grain = numbers[:, len(_Chances._fields) + 1 :].reshape(batch_size, 2, *shape)
        images = as_float(shared.images[chosen])
        return _changed(images, chances, grain), shared.labels[chosen]

    return draw


class _Chances(NamedTuple):
    """Uniform numbers [B] that say how each image is changed."""

    rows: Array
    columns: Array
    zoom: Array
    blurred: Array
    blur: Array
    pale: Array
    contrast: Array
    brightness: Array
    noisy: Array
    noise: Array
    spotted: Array
    spots: Array
    coarse: Array
    bits: Array
    level: Array


def _changed(images: Images, chances: _Chances, grain: Array) -> Images:
    """Images [B, H, W, C] as they may look after an attack.

    Shifted by up to 2 pixels and zoomed by up to a tenth. Then each with a probability:
    blurred (sigma up to 1.5), of a contrast down to a quarter at any brightness, noisy
    (up to 0.25), with up to 40 % of the pixels replaced by noise, with 1 to 4 bits.

    Args:
      images: floats in [0, 1].
      chances: of each image.
      grain: uniform [B, 2, H, W, C], of each pixel.
    """
    sigma = jnp.where(chances.blurred < 0.5, 0.3 + 1.2 * chances.blur, 0.3)
    zoom = 0.9 + 0.2 * chances.zoom
    shifts = 4 * chances.rows - 2, 4 * chances.columns - 2
    rows, columns = (
        _resampled(side, zoom, shift, sigma)
        for side, shift in zip(images.shape[1:3], shifts, strict=True)
    )
    images = jnp.einsum("bwW,bHWc->bHwc", columns, images)
    images = jnp.einsum("bhH,bHwc->bhwc", rows, images)
    contrast = jnp.where(chances.pale < 0.5, 0.25 + 0.75 * chances.contrast, 1.0)
    dark = (1 - contrast) * chances.brightness
    images = images * _wide(contrast) + _wide(dark)
    noise = jnp.where(chances.noisy < 0.5, 0.25 * chances.noise, 0.0)
    images += _wide(noise * 12**0.5) * (grain[:, 0] - 0.5)
    spots = jnp.where(chances.spotted < 0.3, 0.4 * chances.spots, 0.0)
    images = jnp.where(grain[:, 1] < _wide(spots), grain[:, 0], images)
    images = jnp.clip(images, 0, 1)
    levels = _wide(2 ** jnp.floor(1 + 4 * chances.bits))
    steps = jnp.minimum(jnp.floor(images * levels), levels - 1)
    coarse = (steps + _wide(0.5 * chances.level)) / levels  # read low, or by midpoint
    return jnp.where(_wide(chances.coarse) < 0.5, coarse, images)


def _resampled(side: int, zoom: Array, shift: Array, sigma: Array) -> Array:
    """[B, side, side]: what each new pixel takes of each old one, by a Gaussian."""
    centre, pixels = (side - 1) / 2, np.arange(side, dtype=np.float32)
    zoom, shift, sigma = (x.reshape(-1, 1, 1) for x in (zoom, shift, sigma))
    places = (pixels.reshape(1, -1, 1) - centre) * zoom + centre + shift
    offsets = (places - pixels.reshape(1, 1, -1)) / sigma
    weights = jnp.exp(-0.5 * offsets**2)
    return weights / (weights.sum(-1, keepdims=True) + 1e-6)


def _wide(values: Array) -> Array:
    """[B] as [B, 1, 1, 1]."""
    return values.reshape(-1, 1, 1, 1)


def _floats(images: np.ndarray) -> Any:
    return as_float(images) if images.dtype == np.uint8 else np.float32(images)


@partial(jax.jit, static_argnums=0)
def _look(network: Chain, variables: Params, images: Images) -> tuple[Array, Array]:
    """Logits [B, classes] and features [B, D]; of an image with a NaN all are NaN."""
    features = chain.apply(network[:-1], variables, jnp.clip(images, 0, 1))
    features = features.reshape(len(features), -1)
    logits = chain.apply(network[-1:], variables, features)
    spoilt = jnp.isnan(images).any((1, 2, 3))[:, None]
    return jnp.where(spoilt, jnp.nan, logits), jnp.where(spoilt, jnp.nan, features)
