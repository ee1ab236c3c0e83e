"""Who attacks: which test images, with which images of his own, knowing what.

The choices of `sections.Attacker`, turned into arrays. What he does with them is an
`Attack`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from ghostjax.base import Defense, Knowledge, Stego, Task
from ghostjax.config import content_hash
from ghostjax.data import Dataset, Split, load
from ghostjax.sections import Attacker, Config
from ghostjax.utility import Pairs

_PERTURBED = 10_000  # pairs of a generator that he makes, at most
_CHUNK = 500  # of them at once
_NOISE_IMAGES = 50_000  # of an attacker who has no others; as many as He et al.'s


class Targets(NamedTuple):
    """The test images under attack, each with the cover it may be hidden in."""

    secrets: np.ndarray  # uint8 [n, H, W, C]
    labels: np.ndarray  # int32 [n]
    covers: np.ndarray  # uint8 [n, H, W, C]
    cover_labels: np.ndarray  # int32 [n]


def targets(section: Attacker, test: Split, pairs: Pairs) -> Targets:
    """The images under attack.

    Args:
      section: which ones.
      test: the test split.
      pairs: its secrets in random order and their covers.

    Returns:
      The first `section.images` secrets or test images, or those that `section.rows`
      names; all of them if there are fewer.
    """
    chosen = _rows(section, test)
    if chosen is None:
        secrets, covers = (part[: section.images] for part in pairs)
    else:
        secrets, covers = chosen, np.resize(pairs.covers, len(chosen))
    return Targets(
        test.images[secrets],
        test.labels[secrets],
        test.images[covers],
        test.labels[covers],
    )


def public_images(section: Attacker, dataset: Dataset, seed: int) -> Split:
    """The attacker's own images, with labels where there are any (0 for noise).

    Raises:
      ValueError: held-out images where the targets are secrets, or a data set of
        another shape.
    """
    kind, shape = section.public, dataset.train.images.shape[1:]
    if kind == "train":
        return dataset.train
    if kind == "held_out":
        chosen = _rows(section, dataset.test)
        if chosen is None:
            raise ValueError(
                "attacker.public = 'held_out' goes with attacker.select = 'all' or "
                "attacker.rows: the other test images are held out"
            )
        kept = np.setdiff1d(np.arange(len(dataset.test.labels)), chosen)
        return Split(dataset.test.images[kept], dataset.test.labels[kept])
    if kind == "noise":
        draw = np.random.default_rng([seed, 3])
        images = 127.5 + 127.5 * draw.standard_normal((_NOISE_IMAGES, *shape))
        images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        return Split(images, np.zeros(len(images), np.int32))
    other = load(kind).train
    if other.images.shape[1:] != shape:
        raise ValueError(
            f"attacker.public = {kind!r} has images {other.images.shape[1:]} and the "
            f"target {shape}: choose another data set, train, held_out or noise"
        )
    return other


def knowledge(
    task: Task,
    stego: Stego,
    defense: Defense,
    params: Any,
    public: Split,
    needs: tuple[str, ...],
) -> Knowledge:
    """All that the threat model gives; `base.limit` hands out what an attack declares.

    Args:
      task: the target network, and what the stego method learned.
      stego: how secrets are hidden.
      defense, params: what the attacker's own images pass through when he queries.
      public: his images.
      needs: of his attack; a generator's pairs are made only for one that needs them.
    """
    pairs = None
    if defense.perturb and "perturbed_pairs" in needs:
        pairs = _perturbed(task, stego, defense, params, public)
    return Knowledge(
        task.edge_variables,
        task.cloud_variables,
        Partial(defense.encode_public, params),
        jnp.asarray(public.images),
        jnp.asarray(public.labels),
        pairs,
        task.stego,
        Partial(defense.encode, params),
    )


def part_name(
    config: Config,
    defense: Defense,
    needs: tuple[str, ...],
    target: str,
    defended: str,
) -> str:
    """Names what an attack learns by all that it depends on.

    Where public images cross the cut as the plain edge sends them, an attacker learns
    the same from them whatever the user's secrets go through, and from secrets of his
    own wherever they are hidden alike: such defenses share what is trained.

    Args:
      config: the attacker's sections, the cut and the seed count.
      defense: built from it.
      needs: of the attack.
      target: name of the trained target network.
      defended: name of what the defense trained.
    """
    own = config.attacker, config.attack, config.denoise
    scheme = {"perturbed_pairs", "stego_params", "encode"} & {*needs}
    hidden = config.stego if scheme else ""
    if defense.bare and not (scheme and (defense.perturb or not defense.hides)):
        defended = content_hash(target, config.defense.cut, config.seed, hidden)
    return f"{config.attack.name}-{content_hash(defended, *own)}"


def _perturbed(
    task: Task, stego: Stego, defense: Defense, params: Any, public: Split
) -> tuple[Array, Array]:
    """Pictures after and before a generator: stegos of the attacker's own images, each
    hidden in another; he has the user's own generator."""
    count = min(len(public.images), _PERTURBED)
    images = jnp.asarray(public.images[:count])

    @jax.jit
    def make(covers, secrets):
        pixels = (x.astype(jnp.float32) / 255 for x in (covers, secrets))
        hidden = stego.hide(task.stego, *pixels)
        shown = defense.perturb(params, hidden, secrets.astype(jnp.float32) / 255)
        return tuple(jnp.round(255 * x).astype(jnp.uint8) for x in (shown, hidden))

    secrets = jnp.roll(images, 1, 0)
    made = [
        make(images[start : start + _CHUNK], secrets[start : start + _CHUNK])
        for start in range(0, count, _CHUNK)
    ]
    return tuple(jnp.concatenate(part) for part in zip(*made, strict=True))


def require_rows(section: Attacker, count: int, hides: bool) -> None:
    """Refuses targets that cannot be.

    Raises:
      ValueError: a row beyond the `count` test images, or images that are no secrets
        where the defense hides secrets.
    """
    if hides and (section.rows or section.select == "all"):
        raise ValueError(
            "the defense hides secrets: attacker.select = 'all' and attacker.rows are "
            "for defenses that hide nothing"
        )
    outside = [row for row in section.rows if not 0 <= row < count]
    if outside:
        raise ValueError(
            f"attacker.rows names image {outside[0]}: the test split has {count} images"
        )


def _rows(section: Attacker, test: Split) -> np.ndarray | None:
    """The rows under attack where the config names them, else None: the secrets."""
    if section.rows:
        return np.asarray(section.rows)
    if section.select == "all":
        return np.arange(min(section.images, len(test.labels)))
    return None
