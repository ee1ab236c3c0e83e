"""The contracts of attacks and denoisers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ghostjax import registry, toy
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Features,
    Images,
    Inversion,
    Knowledge,
    Params,
    Probe,
    limit,
    per_target,
)
from ghostjax.fields import Hyper
from ghostjax.records import AttackRecord
from ghostjax.testing.fits import (
    Factory,
    Turn,
    Use,
    built,
    check_array,
    check_file,
    check_images,
    fitted,
    runs,
    turns_of,
    used,
)
from ghostjax.testing.judge import Judge, equal, judge_of, require_equal

__all__ = [
    "check_attack",
    "check_denoiser",
]

_TARGETS = 3  # features that are inverted
_KEYS = 4  # that it is traced for
_ALONE = 1e-5  # how far a target inverted alone may be from itself in a batch


def check_attack(
    record: AttackRecord,
    *,
    factory: Factory | None = None,
    cut: Cut | None = None,
    knowledge: Knowledge | None = None,
    features: Features | None = None,
    steps: int = 2,
) -> None:
    """Whether an attack keeps its contracts; see the module.

    Its probe, where it has one, is asked for its own. A member that builds None, as
    that of a cloud that does not try, has none but its record's.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      cut: the network; None: the toy's.
      knowledge: all that could be known; None: `toy.knowledge(cut)`, of an edge with
        drawn weights that sends plainly. See `check_defense` for networks of your own.
      features: [B, ...] with B at least 2, what is inverted; None: of 3 toy pictures.
      steps: as for `check_stego`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = judge_of("attack", record, AttackRecord, steps)
    check_file(judge, record)
    scene = _scene(cut, knowledge, features)
    attack = built(judge, record, factory, scene.cut, scene.context)
    if attack is not None:
        _check_needs(judge, attack, record.needs)
        _check_inversions(judge, attack, scene, turns_of(record, None), record.random)


def check_denoiser(
    record: AttackRecord,
    *,
    factory: Factory | None = None,
    inner: AttackRecord | None = None,
    cut: Cut | None = None,
    knowledge: Knowledge | None = None,
    steps: int = 2,
) -> None:
    """Whether a denoiser keeps its contracts: those of the attack that it makes.

    Besides: that attack needs what the one under it needs and what the record says, and
    its `before_denoising` are that one's images.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      inner: the record of a registered attack, to be denoised; None: the toy's, which
        trains nothing.
      cut, knowledge, steps: as for `check_attack`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = judge_of("denoise", record, AttackRecord, steps)
    check_file(judge, record)
    scene = _scene(cut, knowledge, None)
    under: Any = toy.attack(scene.cut)
    hypers: list[Hyper] = [{"gain": np.float32(g)} for g in (1, 0.5)]
    if inner is not None:
        under = registry.build(inner, scene.cut, scene.context)
        hypers = [turn.hyper for turn in turns_of(inner, None)]
    context = scene.context._replace(inner=under)
    attack = built(judge, record, factory, scene.cut, context)
    _check_needs(judge, attack, (*under.needs, *record.needs))
    turns = [
        turn._replace(hyper={"attack": hyper, "denoise": turn.hyper})
        for turn, hyper in zip(turns_of(record, None), hypers, strict=True)
    ]
    shown = _check_inversions(judge, attack, scene, (turns[0], turns[1]), record.random)
    if inner is None:
        edge = scene.knowledge.edge_variables
        pictures = under.invert(edge, turns[0].key, scene.features, hypers[0]).images
        before = shown.before_denoising
        judge.require(
            equal(shown.images if before is None else before, pictures),
            "shape",
            "before_denoising are not the images of the attack under it",
        )


class _Scene(NamedTuple):
    """What attacks are tried on."""

    cut: Cut
    knowledge: Knowledge  # all that could be known
    features: Features  # [B, ...]
    context: Context


def _scene(
    cut: Cut | None, knowledge: Knowledge | None, features: Features | None
) -> _Scene:
    cut = cut or toy.cut()
    knowledge = knowledge or toy.knowledge(cut)
    if features is None:
        features = toy.targets(cut, knowledge, _TARGETS)
    images = knowledge.public_images
    context = Context(public_count=0 if images is None else len(images))
    return _Scene(cut, knowledge, features, context)


def _check_needs(judge: Judge, attack: Any, stated: tuple[str, ...]) -> None:
    judge.require(isinstance(attack, Attack), "shape", f"the factory gives {attack!r}")
    needs, wanted = sorted(set(attack.needs)), sorted(set(stated))
    words = f"the attack needs {needs}, and its record says {wanted}"
    judge.require(needs == wanted, "knowledge", words)


def _check_inversions(
    judge: Judge,
    attack: Attack,
    scene: _Scene,
    turns: tuple[Turn, Turn],
    random: bool,
) -> Inversion:
    """All that is asked of an attack, denoised or not; its inversion of the scene."""
    features, keys = np.asarray(scene.features), toy.keys()
    known = limit(scene.knowledge, attack.needs)
    turn = turns[0]._replace(data=known, inputs=(keys[2], scene.features))
    other_inputs = keys[3], jax.device_put(np.float32(0.9) * features[::-1])
    other = turns[1]._replace(data=toy.changed(known), inputs=other_inputs)

    def use(params: Params, turn: Turn) -> Inversion:
        key, sent = turn.inputs
        return attack.invert(params, key, sent, turn.hyper)

    params, shown = _knowing_runs(judge, attack, use, scene.knowledge, (turn, other))
    _check_inversion(judge, attack, shown, (len(features), *scene.cut.image_shape))
    one, two = (use(params, turn._replace(inputs=(k, features))) for k in keys[2:4])
    unlike = not equal(one, two)
    words = f"inversions {'differ' if unlike else 'are the same'} for two keys, and "
    judge.require(unlike == random, "key", f"{words}its record says random = {random}")
    _check_traced_inversion(judge, attack, params, turn, shown.images)
    _check_targets(judge, partial(attack.invert, params, keys[2]), turn, other)
    with judge.keeping("shape", "combining queries"):
        single = attack.combine(scene.features[None])
    words = "the combined features of one query are not its own"
    require_equal(judge, "shape", words, single, scene.features)
    if attack.probe is not None:
        _check_probe(judge, attack.probe, scene, (turn, other))
    return shown


def _knowing_runs(
    judge: Judge,
    learner: Attack | Probe,
    use: Use,
    everything: Knowledge,
    turns: tuple[Turn, Turn],
) -> tuple[Params, Any]:
    """What `runs` gives; undeclared fields are never touched, declared ones are."""
    turn = turns[0]

    def run(data: Knowledge) -> Any:
        params, _ = fitted(judge, learner.fit, turn._replace(data=data))
        return params, used(judge, use, params, turn)

    known, contract = turn.data, "knowledge"
    undeclared = [name for name in Knowledge._fields if name not in learner.needs]
    poison = {name: toy.Poison(name) for name in Knowledge._fields}
    poisoned = known._replace(**{name: poison[name] for name in undeclared})
    try:
        blind = run(poisoned)
    except toy.Touched as touched:
        words = f"it reads {touched}, which it does not declare"
        raise judge.error(contract, words) from touched
    except Exception as error:
        try:
            run(known)
        except Exception as failure:
            run(everything)  # what fails then too is another contract's
            words = f"with what it declares alone it fails: {failure}"
            raise judge.error(contract, words) from failure
        words = f"it touches one of {undeclared}, which it does not declare: {error}"
        raise judge.error(contract, words) from error
    for name in learner.needs:
        try:
            run(known._replace(**{name: poison[name]}))
        except Exception:  # whatever comes of it: it was used
            continue
        raise judge.error(contract, f"it declares {name} and never uses it")
    seeing = runs(judge, learner.fit, use, *turns)
    if not equal(blind, seeing) and equal(blind, run(poisoned)):  # it keeps no state
        words = "it learns otherwise where fields that it does not declare are there"
        require_equal(judge, contract, words, blind, seeing)
    return seeing


def _check_inversion(
    judge: Judge, attack: Attack, shown: Any, shape: tuple[int, ...]
) -> None:
    inverted = isinstance(shown, Inversion)
    judge.require(inverted, "shape", f"invert gives {type(shown).__name__}")
    for name in ("images", "secrets", "before_denoising", "secrets_before"):
        images = getattr(shown, name)
        if images is not None or name == "images":
            check_images(judge, f"invert ({name})", images, shape)
    for leaf in jax.tree.leaves(shown.trace):
        words = f"a trace has the shape {leaf.shape}, not {shape[:1]} and more"
        judge.require(leaf.shape[:1] == shape[:1], "shape", words)
        finite = bool(np.isfinite(np.asarray(leaf)).all())
        judge.require(finite, "range", "a trace is not finite")


def _check_traced_inversion(
    judge: Judge, attack: Attack, params: Params, turn: Turn, images: Images
) -> None:
    """It can be traced, for many keys at once."""
    key, features = turn.inputs
    keys = jax.random.split(key, _KEYS)
    inverting = jax.vmap(attack.invert, (None, 0, None, None))
    with judge.keeping("purity", "invert under jit and vmap"):
        shape = jax.eval_shape(inverting, params, keys, features, turn.hyper)
    wanted = (_KEYS, *images.shape)
    words = f"vmap over keys gives images {shape.images.shape}, not {wanted}"
    judge.require(shape.images.shape == wanted, "purity", words)


def _check_targets(
    judge: Judge,
    invert: Callable[[Features, Hyper], Inversion],
    turn: Turn,
    other: Turn,
) -> None:
    """A target's picture depends on its features and its own values alone."""
    features, others = (np.asarray(x.inputs[1]) for x in (turn, other))
    mixed, count = others.copy(), len(features)
    mixed[0] = features[0]
    each, each_other = (per_target(x.hyper, count) for x in (turn, other))
    mixed_values = jax.tree.map(
        lambda one, two: np.concatenate([one[:1], two[1:]]), each, each_other
    )
    whole = invert(jax.device_put(features), turn.hyper).images
    with judge.keeping("independence", "invert with values [B]"):
        by_target = invert(jax.device_put(features), each).images
        first = invert(jax.device_put(mixed), mixed_values).images
        rest = invert(jax.device_put(others), each_other).images
        alone = invert(jax.device_put(features[:1]), turn.hyper).images
    words = "a value for each target gives other images than one for all"
    require_equal(judge, "independence", words, by_target, whole)
    words = "a target's image changes with the features and values of the others"
    for one, two in ((first[:1], by_target[:1]), (first[1:], rest[1:])):
        require_equal(judge, "independence", words, one, two)
    apart = float(np.abs(np.asarray(alone[0]) - np.asarray(whole[0])).max())
    words = f"alone a target's image is another (by up to {apart:.3g})"
    judge.require(apart <= _ALONE, "independence", words)


def _check_probe(
    judge: Judge, probe: Probe, scene: _Scene, turns: tuple[Turn, Turn]
) -> None:
    """A probe keeps the contracts of a fit, and answers with logits."""
    judge = judge._replace(family=f"the probe of {judge.family}")
    known = limit(scene.knowledge, probe.needs)
    turn = turns[0]._replace(data=known)
    other = turns[1]._replace(data=toy.changed(known))

    def use(params: Params, turn: Turn) -> Array:
        return probe.answer(params, turn.inputs[1])

    _, logits = _knowing_runs(judge, probe, use, scene.knowledge, (turn, other))
    check_array(judge, "answer", logits, (len(scene.features), scene.cut.classes))
