"""The vocabulary: cuts, stego methods, defenses, attacks, and trainings.

Each algorithm is a value: a factory `factory(cut, record, context)` closes over its
static choices and returns one of the NamedTuples below, whose functions are pure. What
is learned is kept in an explicit pytree `params`; what a compiled program need not know
comes in as `hyper`, the traced half of the record (`fields.traced_half`), or in params.
No algorithm lives here.

Ranges and layouts, everywhere: images outside a model are float32 [0, 1] in NHWC, data
sets are uint8 [N, H, W, C], labels int32, features whatever shape crosses the cut.

A `fit` is a generator. It yields a `Training` for everything it learns, is sent the
state that the training ended in, and returns its params:

  def fit(key, hyper, task):
      state = yield Training(key=key, params=..., loss=loss, draw=draw, ...)
      return {"cloud": state.params}

`fit.drive` runs it. A fit that learns nothing says `yield from ()`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, describe
from ghostjax.names import unknown
from ghostjax.training.fit import Fit

__all__ = [
    "Attack",
    "Bytes",
    "Column",
    "Context",
    "Cut",
    "Defense",
    "Encoder",
    "Features",
    "Images",
    "Indices",
    "Inversion",
    "Key",
    "Knowledge",
    "Labels",
    "Logits",
    "Params",
    "Probe",
    "Rows",
    "Stego",
    "Task",
    "average",
    "encode",
    "limit",
    "needed",
    "per_target",
    "require_batch",
    "require_stego",
]

Images = Array  # float32 [B, H, W, C] in [0, 1]
Bytes = Array  # uint8 [N, H, W, C]
Features = Array  # float32 [B, ...], what crosses the cut
Logits = Array  # float32 [B, classes], before the softmax
Labels = Array  # int32 [B]
Indices = Array  # int32 [n], rows of a data set
Params = Any  # a pytree of arrays; () where nothing is learned
Key = Array  # a typed key, jax.random.key; consumed by the function it is handed to
Value = TypeVar("Value")


class Cut(NamedTuple):
    """A network cut in two."""

    edge: Chain  # the layers on the device
    cloud: Chain  # the layers behind the cut
    image_shape: tuple[int, int, int]  # [H, W, C]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Of one image's features: [h, w, c] or [values]."""
        return describe(self.edge, self.image_shape)[-1].shape

    @property
    def classes(self) -> int:
        """Labels are 0 to classes - 1."""
        return describe(self.edge + self.cloud, self.image_shape)[-1].shape[-1]


class Context(NamedTuple):
    """The static rest that a factory's programs depend on."""

    stego: "Stego | None" = None  # of a defense that hides; a denoiser's too
    inner: "Attack | None" = None  # of a denoiser
    reading: str = "reveal"  # how its attacker reads secrets: see `Stego.reader`
    train_count: int = 0  # training images; 0: not known
    public_count: int = 0  # the attacker's own images


def require_batch(name: str, size: int, context: Context) -> None:
    """Refuses a batch that is larger than the training data."""
    if context.train_count and size > context.train_count:
        raise ValueError(
            f"{name} = {size}: the train split has only {context.train_count} images"
        )


def require_stego(context: Context) -> "Stego":
    """The stego method of a defense that hides.

    Raises:
      ValueError: the context has none.
    """
    if context.stego is None:
        raise ValueError(
            "the defense hides images and was given no stego method: build it with "
            "Context(stego=...)"
        )
    return context.stego


class Stego(NamedTuple):
    """A way of hiding one picture, the secret, in another, the cover.

    `cover`, `secret` and `stego` are images of one shape. Factories of stego methods
    take the images' shape [H, W, C] in the place of a cut.
    """

    name: str
    fit: Callable[[Key, Hyper, Bytes], Fit]
    """`fit(key, hyper, images uint8 [N, H, W, C])`."""
    hide: Callable[[Params, Images, Images], Images]
    """`hide(params, cover, secret) -> stego`."""
    reveal: Callable[[Params, Images], Images]
    """`reveal(params, stego) -> secret`, as far as it survived the hiding."""
    low_bits: Callable[[Params], int] = lambda params: 0
    """`low_bits(params)`: how many low bits of the stego are the secret's; 0: none."""
    guesses: tuple[tuple[str, Callable[[Params, Images], Images]], ...] = ()
    """(name, `guess(params, stego) -> secret`): better readings of a stego that was
    rebuilt, hence not exact, than `reveal`'s, which is the receiver's."""

    clues: Callable[[Params, Images], Images] | None = None
    """`clues(params, stego) -> [B, H, W, K C]` in [0, 1], of images [B, H, W, C]: what
    a network is shown that learns to read a rebuilt stego; None: what `reveal` gives.
    """
    clue_channels: int = 1
    """K."""

    def reader(self, name: str) -> Callable[[Params, Images], Images]:
        """How a secret is read: `reveal`, or the guess of that name.

        Raises:
          ValueError: the method has no such reading.
        """
        known = {"reveal": self.reveal, **dict(self.guesses)}
        if name not in known:
            raise ValueError(
                f"attacker.reading = {name!r}: stego method {self.name!r} has no such "
                f"reading; it has {', '.join(known)}"
            )
        return known[name]


class Rows(NamedTuple):
    """Some rows of a data set, padded so that their number is no shape."""

    rows: np.ndarray  # int32 [N], as long as the data set; those behind `count` repeat
    count: int  # type: ignore[assignment]  # at least 1; hides tuple.count


class Task(NamedTuple):
    """What a defense is given: a trained target network and one split of the data.

    Labels fall into sensitive and public ones. Images with a sensitive label are
    secrets; only images with a public label serve as covers.
    """

    edge_variables: Params  # of the layers before the cut; frozen
    cloud_variables: Params  # of the layers behind it
    images: Bytes  # uint8 [N, H, W, C]
    labels: Labels  # int32 [N]
    covers: Rows  # the images with a public label
    secrets: Rows  # the images with a sensitive label
    sensitive: np.ndarray  # bool [classes], which labels are
    stego: Params = ()  # what the stego method learned, where the defense hides


class Column(NamedTuple):
    """A number that a defense says of itself."""

    name: str
    value: float
    label: str  # for people
    unit: str = ""
    budget: bool = False
    """Whether defenses are compared over it, each over its own (GHOST Fig. 8)."""


class Defense(NamedTuple):
    """What the user does so that features of a sensitive image do not show it.

    A sensitive image is hidden in a cover (`hide`), or not; what then enters the edge
    may be changed (`perturb`); `send` is what leaves the edge, and the cloud answers.
    """

    name: str
    fit: Callable[[Key, Hyper, Task], Fit]
    """`fit(key, hyper, task)`: params hold all that the functions below need."""
    send: Callable[[Params, Key, Images], Features]
    """`send(params, key, images) -> features [B, ...]`: what leaves the edge. Public
    images enter it as they are. Where it changes nothing it is `plain.send`."""
    answer: Callable[[Params, Features], Logits]
    """`answer(params, features) -> logits [B, classes]`: the cloud half."""
    hide: Callable[[Params, Images, Images], Images] | None = None
    """`hide(params, covers, secrets) -> stegos`; None: nothing is hidden."""
    perturb: Callable[[Params, Images, Images], Images] | None = None
    """`perturb(params, stegos, secrets) -> images`: what enters the edge in a stego's
    place; None: the stego itself."""
    draws: int = 1
    """Draws of the edge's noise that accuracies are averaged over."""
    cover_candidates: int = 1
    """Random covers of which the edge takes the one that a secret overlaps least."""
    columns: Callable[[Params, Hyper], list[Column]] = lambda params, hyper: []
    """`columns(params, hyper)`: what a row says of the defense itself."""
    caution: str = ""
    """What a reader of its numbers must know: a sentence for every report."""

    @property
    def hides(self) -> bool:
        """Whether sensitive images are hidden in covers."""
        return self.hide is not None


def encode(
    defense: Defense, params: Params, key: Key, secrets: Images, covers: Images
) -> Features:
    """Exactly what leaves the edge for sensitive images [B, H, W, C].

    Args:
      defense, params: what hides, perturbs and sends.
      key: consumed by the edge's noise.
      secrets: the sensitive images.
      covers: public images, one for each; a defense that hides nothing ignores them.
    """
    images = secrets
    if defense.hide is not None:
        images = defense.hide(params, covers, secrets)
    if defense.perturb is not None:
        images = defense.perturb(params, images, secrets)
    return defense.send(params, key, images)


@dataclass(frozen=True)
class Encoder:
    """`encode` of one defense, as a function of its arrays: equal for equal defenses,
    so that programs that were compiled for one of them serve the other."""

    defense: Defense

    def __call__(
        self, params: Params, key: Key, secrets: Images, covers: Images
    ) -> Features:
        return encode(self.defense, params, key, secrets, covers)


class Knowledge(NamedTuple):
    """What an attacker may have besides the features themselves; None: it has not.

    `query` and `encode` are pytrees: functions, with the arrays they read as leaves.
    The architecture of a half and the stego method are static choices of the attack
    that needs them.
    """

    edge_variables: Params = None  # of the layers before the cut
    cloud_variables: Params = None  # of the layers behind it
    query: Partial | None = None
    """`query(key, images [B, H, W, C]) -> features`: any image, as it is sent."""
    public_images: Bytes | None = None  # uint8 [N, H, W, C]
    public_labels: Labels | None = None  # int32 [N], theirs
    perturbed_pairs: tuple[Bytes, Bytes] | None = None  # a generator's (after, before)
    stego_params: Params = None  # what the stego method learned; () where nothing
    encode: Partial | None = None
    """`encode(key, secrets, covers)`: the user's own edge, with all that it does to
    sensitive images; an attacker who is a user has it."""


class Inversion(NamedTuple):
    """What an attack makes of features; arrays with a leading axis [B]."""

    images: Images  # [B, H, W, C], what entered the edge, or the secret: see `Attack`
    secrets: Images | None = None  # [B, H, W, C], read out of `images`
    before_denoising: Images | None = None  # [B, H, W, C], what `images` was made of
    secrets_before: Images | None = None
    """[B, H, W, C], secrets before a denoiser; read out of `before_denoising`, or what
    `secrets` was made of."""
    trace: Any = ()  # how a search went, leaves [B, ...]; its meaning is the attack's
    diverged: Array | None = None
    """bool [B], targets whose search went astray; None: those whose pictures are not
    finite."""


class Probe(NamedTuple):
    """What the cloud does to learn the label of the secret behind the features."""

    needs: tuple[str, ...]
    """Names of the fields of `Knowledge` that it uses."""
    fit: Callable[[Key, Hyper, Knowledge], Fit]
    """`fit(key, hyper, knowledge)`; `hyper` is that of its attack."""
    answer: Callable[[Params, Features], Logits]
    """`answer(params, features) -> logits [B, classes]`."""


def average(samples: Array) -> Features:
    """The mean of the features of repeated queries, [queries, B, ...] to [B, ...].

    For one query the sample itself, to the bit.
    """
    return samples.mean(0)


class Attack(NamedTuple):
    """What the cloud does to see the picture behind the features.

    Guarantees:
      `fit` sees no field of the knowledge that is not in `needs`, if it is called with
      `limit(knowledge, attack.needs)`.
    """

    name: str
    needs: tuple[str, ...]
    """Names of the fields of `Knowledge` that it uses."""
    fit: Callable[[Key, Hyper, Knowledge], Fit]
    """`fit(key, hyper, knowledge)`: an attack that trains several things names them by
    the trainings' `part`."""
    invert: Callable[[Params, Key, Features, Hyper], Inversion]
    """`invert(params, key, features [B, ...], hyper) -> Inversion`, each target
    independent of the others. Leaves of `hyper` are scalars, or [B]: each target's."""
    gives_secrets: bool = False
    """Whether its images are secrets already, not what entered the edge."""
    extracts: bool = False
    """Whether it reads the secrets out itself: its inversions have `secrets`."""
    combine: Callable[[Array], Features] = average
    """`combine(samples [queries, B, ...]) -> features`: of repeated queries."""
    probe: Probe | None = None
    """What it learns beside the picture."""
    keyless: bool = False
    """Whether `invert` reads no key: the targets of several experiments are then
    inverted in one call, each as it would be alone."""
    bitwise: bool = False
    """Whether on a CPU a target's bits are the same in every batch of 8 and more; else
    the targets of each experiment are inverted apart there."""


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


def needed(value: Value | None) -> Value:
    """A field of `Knowledge` that the attack needs.

    Raises:
      ValueError: it is None.
    """
    if value is None:
        raise ValueError(
            "the attack uses a field of Knowledge that is None: call its fit with "
            "limit(knowledge, attack.needs)"
        )
    return value


def per_target(hyper: Hyper, count: int) -> Hyper:
    """Scalars as arrays [B], one value for each of `count` targets."""
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count,)), hyper)
