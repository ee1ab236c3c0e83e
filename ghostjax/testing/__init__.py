"""The contract battery: whether a member keeps what ghostjax builds on.

  from ghostjax import testing
  from ghostjax.defenses.noise import noise
  from ghostjax.defenses.records import Noise

  testing.check_defense(Noise(level=0.5))  # a registered member

  def louder(cut, record, context):  # and one that is not
      return noise(cut, record, context)._replace(draws=5)

  testing.check_defense(Noise(level=0.5), factory=louder)

A check builds the member as a run does, on a toy of its own (`toy`; seconds, no data to
load), fits it with its trainings cut to two steps, and raises `AssertionError` with one
line at the first contract that is broken: which member, which contract, the numbers.
Give the record small batches and few filters, for they count; steps and epochs do not.
What a member refuses by a ValueError (a batch larger than the toy) is raised as it is.

Contracts:
  file and script: the record that a config file gives is the one that a script makes,
    with the same content hash, static and traced half.
  static record: the factory works with traced values unknown (`fields.static_half`).
  shape: of all images, features and logits; they are what the record says of them.
  range: images are in [0, 1], all numbers finite, losses too.
  purity: the same arguments give the same numbers, now and after other calls, traced
    once or twice; no argument is changed; it works under jit and vmap.
  key: what learns depends on its key; what is sent, or inverted, depends on the key if
    and only if the record says so (`random`).
  one program: another key, other traced values and other data of equal shapes compile
    nothing.
  independence: no image's result depends on the others of its batch.
  knowledge: a fit reads all that the attack declares, and nothing else.
  zero strength: a defense whose strengths are neutral (`fields.traced(neutral=...)`)
    sends what the plain edge sends, to the bit.
  columns: what a defense says of itself has names, labels and finite numbers.

What a member is worth, no contract says: see `evaluation`.
"""

from ghostjax.testing.attacks import check_attack, check_denoiser
from ghostjax.testing.defenses import check_defense
from ghostjax.testing.judge import compiled
from ghostjax.testing.stegos import check_stego

__all__ = [
    "check_attack",
    "check_defense",
    "check_denoiser",
    "check_stego",
    "compiled",
]
