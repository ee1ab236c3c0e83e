"""The vocabulary: what a task, a stego method, a defense and an attack are.

Each algorithm is a value: a factory closes over its static choices and returns one of
the NamedTuples below, whose functions are pure and keep all that they learn in an
explicit pytree `params`. No algorithm lives here.

Ranges and layouts, everywhere: images outside a model are float32 [0, 1] in NHWC, data
sets are uint8 [N, H, W, C], labels int32, features whatever shape crosses the cut.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from ghostjax.names import unknown

Images = Array  # float32 [B, H, W, C] in [0, 1]
Bytes = Array  # uint8 [N, H, W, C]
Features = Array  # float32 [B, ...], what crosses the cut
Logits = Array  # float32 [B, classes], before the softmax
Labels = Array  # int32 [B]
Indices = Array  # int32 [n], rows of a data set
Params = Any  # a pytree of arrays; () where nothing is learned
Key = Array  # a typed key, jax.random.key; consumed by the function it is handed to


class Stego(NamedTuple):
    """A way of hiding one picture, the secret, in another, the cover.

    `cover`, `secret` and `stego` are images of one shape.
    """

    name: str
    init: Callable[[Key, Images, Images], Params]
    """`init(key, cover, secret) -> params`; the images count for their shape only."""
    fit: Callable[[Key, Bytes, Any], tuple[Params, Any]]
    """`fit(key, images uint8 [N, H, W, C], train) -> (params, metrics)`. `train` is
    `train.fit` or another function with its signature; a method that learns nothing
    ignores it and gives ((), {})."""
    hide: Callable[[Params, Images, Images], Images]
    """`hide(params, cover, secret) -> stego`."""
    reveal: Callable[[Params, Images], Images]
    """`reveal(params, stego) -> secret`, as far as it survived the hiding."""


class Task(NamedTuple):
    """What a defense is given: a trained target network and one split of the data.

    Labels fall into sensitive and public ones. Images with a sensitive label are
    secrets; only images with a public label serve as covers.
    """

    edge_variables: Params  # of the layers before the cut; frozen
    cloud_variables: Params  # of the layers behind it
    images: Bytes  # uint8 [N, H, W, C]
    labels: Labels  # int32 [N]
    covers: Indices  # int32 [n], the images with a public label
    secrets: Indices  # int32 [m], the images with a sensitive label
    stego: Params = ()  # what the stego method learned, where the defense hides


class Defense(NamedTuple):
    """What the user does so that features of a sensitive image do not show it."""

    name: str
    fit: Callable[[Key, Task, Any], tuple[Params, Any]]
    """`fit(key, task, train) -> (params, metrics)`. `train` is `train.fit` or another
    function with its signature, which may keep checkpoints; a defense without training
    ignores it and gives metrics {}."""
    encode: Callable[[Params, Key, Images, Images], Features]
    """`encode(params, key, images, covers) -> features [B, ...]`: exactly what leaves
    the edge for sensitive images. `covers`, one per image and of its shape, are public
    images; a defense that hides nothing ignores them."""
    encode_public: Callable[[Params, Key, Images], Features]
    """`encode_public(params, key, images) -> features [B, ...]`, for public images."""
    answer: Callable[[Params, Features], Logits]
    """`answer(params, features) -> logits [B, classes]`: the cloud half."""
    hides: bool = False
    """Whether sensitive images are hidden in covers."""
    perturb: Callable[[Params, Images, Images], Images] | None = None
    """`perturb(params, stegos, secrets) -> images`: what enters the edge in a stego's
    place, of a defense that changes it; None: the stego itself."""
    draws: int = 1
    """Draws of the edge's noise that accuracies are averaged over."""
    bare: bool = False
    """Whether public images cross the cut as the plain edge sends them."""
    columns: Callable[[Params], dict[str, float]] | None = None
    """`columns(params) -> {name: number}`: what a row says of the defense itself."""


class Knowledge(NamedTuple):
    """What an attacker may have besides the features themselves; None: he has it not.

    Not a value to trace: two fields are functions. The architecture of a half and the
    stego method are static choices of the attack that needs them.
    """

    edge_variables: Params = None  # of the layers before the cut
    cloud_variables: Params = None  # of the layers behind it
    query: Callable[[Key, Images], Features] | None = None  # any image, as it is sent
    public_images: Bytes | None = None  # uint8 [N, H, W, C]
    public_labels: Labels | None = None  # int32 [N], theirs
    perturbed_pairs: tuple[Bytes, Bytes] | None = None  # a generator's (after, before)
    stego_params: Params = None  # what the stego method learned; () where nothing
    encode: Callable[[Key, Images, Images], Features] | None = None
    """`encode(key, secrets, covers)`: the user's own edge, with all that it does to
    sensitive images; whoever is a user himself has it."""


class Attack(NamedTuple):
    """What the cloud does to see the picture behind the features.

    Guarantees:
      `fit` sees no field of the knowledge that is not in `needs`, if it is called with
      `limit(knowledge, attack.needs)`.
    """

    name: str
    needs: tuple[str, ...]
    """Names of the fields of `Knowledge` that it uses."""
    fit: Callable[[Key, Knowledge, Any], tuple[Params, Any]]
    """`fit(key, knowledge, train) -> (params, metrics)`. `train` as for a defense; an
    attack that trains several things names them by `train(..., part=name)`. Metrics are
    {part: {name: [steps]}}, {} for an attack without training."""
    invert: Callable[[Params, Key, Features], tuple[Images, Any]]
    """`invert(params, key, features [B, ...]) -> (images [B, H, W, C], trace)`, each
    target independent of the others. The trace, a pytree of arrays [B, ...] or (),
    shows how the search went; its meaning is the attack's."""


def limit(knowledge: Knowledge, needs: tuple[str, ...]) -> Knowledge:
    """Blanks every field that an attack has not declared.

    Args:
      knowledge: all that could be known in this threat model.
      needs: names of fields; `attack.needs`.

    Returns:
      The knowledge with the fields in `needs` as they are and None in all others.

    Raises:
      ValueError: a name is no field of `Knowledge`, or the field is None.
    """
    for name in needs:
        if name not in Knowledge._fields:
            raise ValueError(unknown("knowledge", name, Knowledge._fields))
        if getattr(knowledge, name) is None:
            raise ValueError(
                f"the attack needs {name!r}, which this threat model does not give: "
                f"set Knowledge({name}=...) or choose an attack without it"
            )
    return Knowledge(**{name: getattr(knowledge, name) for name in needs})
