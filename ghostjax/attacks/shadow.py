"""Query-free: a shadow of the edge, trained to please the cloud, is attacked instead.

The cloud knows its own half and has labelled images, but neither the edge's variables
nor a way to query it. It puts a network of its own, the shadow, before its frozen half
and trains that to classify the images: minimise CE(cloud(shadow(x)), label). Then it
attacks the true features as if the shadow had sent them, by an attack that knows the
shadow (rMLE, or a decoder trained on queries of it).

Source: He, Zhang, Lee, IoT-J 2020, Section IV.C, and their code. We deviate: shadows of
another architecture are derived from the shapes (`other`), for every cut.

Guarantees:
  The cloud's variables are read, never changed.
  The inner attack's knowledge is the shadow's variables, queries of the shadow, and the
  public images and labels: nothing of the true edge.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import jax
import optax
from jax import Array
from jax.tree_util import Partial

from ghostjax import registry
from ghostjax.attacks.decoder import growths
from ghostjax.attacks.pairs import pixels, starter
from ghostjax.attacks.records import Inverse, Rmle, Shadow
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    Labels,
    Params,
    limit,
    needed,
)
from ghostjax.fields import Hyper, narrowed, traced_half
from ghostjax.models.chain import (
    Chain,
    Layers,
    Variables,
    apply,
    apply_train,
    is_opaque,
    join,
    split,
)
from ghostjax.models.layers import (
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Normalize,
    Pad,
    Relu,
    Sigmoid,
)
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = ["other", "shadow"]


class _Shared(NamedTuple):
    """What steps read; on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array  # int32 [N]
    cloud: Any  # variables of the frozen half


@dataclass(frozen=True)
class _Query:
    """The shadow as the edge that is queried; equal for the same layers."""

    layers: Chain

    def __call__(self, variables: Variables, key: Key, images: Images) -> Features:
        return apply(self.layers, variables, images)


def shadow(cut: Cut, record: Shadow, context: Context) -> Attack:
    """rMLE, or a decoder, on a shadow of the edge.

    Args:
      cut: the cloud, which is known, and the edge, whose layers alone may be.
      record: the search's and the shadow's rates are traced.
      context: `public_count`, the images of an epoch.

    Returns:
      An Attack that needs `cloud_variables`, `public_images` and `public_labels`.
      Params are {"shadow", "inner"}; its training, before the inner attack's, is
      "shadow", with the accuracy in [0, 1]. Inversions are the inner attack's.

    Raises:
      ValueError: the layers of an edge that has none to know.
    """
    layers = cut.edge
    if record.architecture == "same" and is_opaque(layers):
        raise ValueError(
            "attack.architecture = 'same': the edge is of the user's own, and its "
            "layers are not known; give 'other'"
        )
    if record.architecture == "other":
        layers = other(cut.image_shape, cut.feature_shape, _never_negative(cut.edge))
    inner_record = Inverse() if record.decoder else narrowed(record, Rmle)
    shadow_cut = Cut(layers, cut.cloud, cut.image_shape)
    inner = registry.build(inner_record, shadow_cut, context)
    start = starter(layers, cut.image_shape)
    loss, draw = _loss(layers, cut.cloud), _draw(record.batch_size)
    steps = -(-record.epochs * context.public_count // record.batch_size)
    recipe = Recipe(steps, record.train_optimizer, record.train_schedule)

    def inner_hyper(hyper: Hyper) -> Hyper:
        if record.decoder:
            return traced_half(inner_record)
        return {name: hyper[name] for name in hyper if name != "train_rate"}

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        init_key, train_key, inner_key = jax.random.split(key, 3)
        images = needed(knowledge.public_images)
        labels = needed(knowledge.public_labels)
        params, model_state = start(init_key)
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=_Shared(images, labels, knowledge.cloud_variables),
            hyper={"learning_rate": hyper["train_rate"]},
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="shadow",
            rate="train_rate",
        )
        learned = join(state.params, state.model_state)
        known = Knowledge(
            edge_variables=learned,
            query=Partial(_Query(layers), learned),
            public_images=images,
            public_labels=labels,
        )
        known = limit(known, inner.needs)
        inner_params = yield from inner.fit(inner_key, inner_hyper(hyper), known)
        return {"shadow": learned, "inner": inner_params}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        return inner.invert(params["inner"], key, features, inner_hyper(hyper))

    return Attack(
        f"shadow({inner.name})",
        record.needs,
        fit,
        invert,
        combine=inner.combine,
        keyless=inner.keyless,
    )


def other(
    image_shape: tuple[int, int, int], feature_shape: tuple[int, ...], positive: bool
) -> Chain:
    """An architecture that is derived from the two shapes alone.

    At each resolution two 3x3 convolutions or more, without activation, valid as far as
    the sizes ask for it; a max pool where the size halves; one ReLU at the very end if
    the features are never negative. For features of a dense layer: so to a quarter of
    the size and 16 channels, then one dense layer.

    Source: "Archi2" of He et al.'s code, which this rule gives again for LeNet's conv1
    and ReLU2 (reference/he_attacks.md, section 1).

    Args:
      image_shape: [H, W, C].
      feature_shape: [h, w, c] or [values].
      positive: whether the features are never negative, as can be seen from them.

    Raises:
      ValueError: a feature map larger than the image.
    """
    end = (("ReLU", Relu()),) if positive else ()
    if len(feature_shape) == 1:
        small = ceil(image_shape[0] / 4), ceil(image_shape[1] / 4), 16
        dense = ("dense", Dense(feature_shape[0], "torch"))
        return (*other(image_shape, small, False), dense, *end)
    channels = feature_shape[2]
    layers: Layers = [("normalize", Normalize((0.5,), (0.5,)))]
    levels = growths(feature_shape, image_shape)[::-1]
    for level, shrinkage in enumerate(levels):
        if level:
            layers.append((f"pool{level}", MaxPool()))
        layers += _shrink(level, shrinkage, channels)
    return (*layers, *end)


def _shrink(level: int, shrinkage: tuple[int, int], channels: int) -> Layers:
    """The convolutions of one resolution; the network's first has fewer filters.

    A border cropped behind padded convolutions is what valid ones do not give.
    """
    layers: Layers = []
    for place in range(max(2, ceil(max(shrinkage) / 2))):
        filters = channels if level or place else max(8, channels // 4)
        name = f"conv{level}_{place}"
        layers.append((name, Conv(filters, 3, "SAME", "torch")))
    if any(shrinkage):
        borders = [(-(g // 2), -(g - g // 2)) for g in shrinkage]
        layers.append((f"crop{level}", Pad(*borders)))
    return layers


def _never_negative(edge: Chain) -> bool:
    """Whether what the edge sends is at least 0, as the cloud sees from it."""
    kinds = [type(layer) for _, layer in edge]
    while kinds and kinds[-1] in (MaxPool, Dropout):
        kinds.pop()
    return bool(kinds) and kinds[-1] in (Relu, Sigmoid)


def _loss(layers: Chain, cloud: Chain) -> Loss:
    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: tuple[Images, Labels],
        hyper: Hyper,
        shared: _Shared,
    ) -> LossValue:
        images, labels = batch
        variables = join(params, model_state)
        features, moved = apply_train(layers, variables, images, key)
        logits = apply(cloud, shared.cloud, features)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = (logits.argmax(-1) == labels).mean()
        return losses.mean(), (split(moved)[1], {"accuracy": accuracy})

    return loss


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: _Shared, own: Any
    ) -> tuple[Images, Labels]:
        chosen = epoch_indices(key, index, batch_size, len(shared.images))
        return pixels(shared.images, chosen), shared.labels[chosen]

    return draw
