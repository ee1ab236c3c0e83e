"""The contracts of defenses."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ghostjax import fields, registry, toy
from ghostjax.base import (
    Column,
    Context,
    Cut,
    Defense,
    Features,
    Images,
    Key,
    Params,
    Task,
    encode,
)
from ghostjax.defenses import plain
from ghostjax.fields import traced_half
from ghostjax.pixels import as_float
from ghostjax.records import DefenseRecord
from ghostjax.stego.records import Lsb
from ghostjax.testing.fits import (
    Factory,
    Turn,
    built,
    check_array,
    check_file,
    check_images,
    check_others,
    check_traces,
    fitted,
    runs,
    turns_of,
)
from ghostjax.testing.judge import Judge, difference, equal, judge_of, require_equal

__all__ = [
    "check_defense",
]

_BATCH = 4  # images that are sent
_DRAWS = 4  # keys whose results are compared


def check_defense(
    record: DefenseRecord,
    *,
    factory: Factory | None = None,
    cut: Cut | None = None,
    task: Task | None = None,
    zero: DefenseRecord | None = None,
    steps: int = 2,
) -> None:
    """Whether a defense keeps its contracts; see the module.

    Where it hides, it hides by LSB with 3 bits.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      cut: the network; None: the toy's.
      task: what the defense is fitted to, of this cut; None: `toy.task(cut)`, which
        draws weights. A network of your own (`own.cut`) comes with its variables:
        `toy.task(cut, (edge_variables, cloud_variables))`.
      zero: the record whose strengths are all zero; None: `fields.neutral(record)`, and
        where no field is a strength there is no such contract.
      steps: as for `check_stego`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = judge_of("defense", record, DefenseRecord, steps)
    check_file(judge, record)
    cut = cut or toy.cut()
    task = task or toy.task(cut)
    lsb = registry.build(Lsb(), cut.image_shape, Context())
    context = Context(stego=lsb, train_count=len(task.images))
    defense = built(judge, record, factory, cut, context)
    _check_declared(judge, record, defense, cut)
    turn, other = _defense_turns(record, task)
    show = jax.jit(_shown(defense))

    def use(params: Params, turn: Turn) -> tuple[_Sent, list[Column]]:
        return show(params, *turn.inputs), defense.columns(params, turn.hyper)

    params, (sent, columns) = runs(judge, defense.fit, use, turn, other)
    _check_sent(judge, sent, cut)
    _check_columns(judge, columns)
    check_traces(judge, _shown(defense), params, turn.inputs)
    neutral = zero or fields.neutral(record)
    random = record.random and neutral != record
    _check_draws(judge, defense, random, show, (params, *turn.inputs))
    _check_covers(judge, defense, partial(show, params), turn.inputs)
    if record.sends_plain:
        who = "a record that says sends_plain"
        _check_plain(judge, sent, cut, task.edge_variables, who)
    if neutral is not None:
        quiet = built(judge, neutral, factory, cut, context)
        quiet_turn = turn._replace(hyper=traced_half(neutral))
        quiet_params, _ = fitted(judge, quiet.fit, quiet_turn)
        quiet_show = show if quiet is defense else jax.jit(_shown(quiet))
        quiet_sent = quiet_show(quiet_params, *turn.inputs)
        _check_plain(judge, quiet_sent, cut, task.edge_variables, f"{neutral}")


class _Sent(NamedTuple):
    """All that a defense makes of a batch."""

    hidden: Images  # stegos, or the secrets themselves
    entering: Images  # what enters the edge
    features: Features
    logits: Array


def _shown(defense: Defense) -> Callable[..., _Sent]:
    """`show(params, key, secrets, covers)`."""

    def show(params: Params, key: Key, secrets: Images, covers: Images) -> _Sent:
        hidden = entering = secrets
        if defense.hide is not None:
            hidden = entering = defense.hide(params, covers, secrets)
        if defense.perturb is not None:
            entering = defense.perturb(params, hidden, secrets)
        features = defense.send(params, key, entering)
        return _Sent(
            hidden=hidden,
            entering=entering,
            features=features,
            logits=defense.answer(params, features),
        )

    return show


def _defense_turns(record: DefenseRecord, task: Task) -> tuple[Turn, Turn]:
    """`turns_of`, on the task and another of its shapes."""
    turn, other = turns_of(record, None)
    images = np.asarray(task.images)
    covers, secrets = (
        as_float(images[rows.rows[:_BATCH]]) for rows in (task.covers, task.secrets)
    )
    one, two = toy.keys()[2:4]
    return (
        turn._replace(data=task, inputs=(one, secrets, covers)),
        other._replace(data=toy.another(task), inputs=(two, covers, secrets)),
    )


def _check_declared(
    judge: Judge, record: DefenseRecord, defense: Any, cut: Cut
) -> None:
    """What a plan reads in the record before anything is built is so."""
    built = isinstance(defense, Defense)
    judge.require(built, "shape", f"the factory gives {defense!r}")
    sends = defense.send == plain.Send(cut.edge)
    for name, stated, is_so in (
        ("hides", record.hides, defense.hides),
        ("perturbs", record.perturbs, defense.perturb is not None),
        ("sends_plain", record.sends_plain, sends and record.sends_plain),
    ):
        words = f"the record says {name} = {stated}, and it is {is_so}"
        judge.require(stated == is_so, "shape", words)
    for name in ("draws", "cover_candidates"):
        count = getattr(defense, name)
        whole = isinstance(count, int) and count >= 1
        judge.require(whole, "shape", f"{name} = {count!r}, not a number from 1")


def _check_sent(judge: Judge, sent: _Sent, cut: Cut) -> None:
    shape = (_BATCH, *cut.image_shape)
    check_images(judge, "hide", sent.hidden, shape)
    check_images(judge, "perturb", sent.entering, shape)
    check_array(judge, "send", sent.features, (_BATCH, *cut.feature_shape))
    check_array(judge, "answer", sent.logits, (_BATCH, cut.classes))


def _check_columns(judge: Judge, columns: Any) -> None:
    good = isinstance(columns, list) and all(isinstance(c, Column) for c in columns)
    judge.require(good, "columns", f"columns gives {columns!r}, not a list of Column")
    names = [column.name for column in columns]
    judge.require(len(set(names)) == len(names), "columns", f"two of {names} are alike")
    budgets = sum(column.budget for column in columns)
    judge.require(budgets <= 1, "columns", f"{budgets} are budgets, not one at most")
    for column in columns:
        words = f"{column.name!r} is no name of a table's column"
        judge.require(column.name.isidentifier(), "columns", words)
        finite = bool(np.isfinite(column.value))
        judge.require(finite, "columns", f"{column.name} is {column.value}")
        labelled = bool(column.label.strip()) and "\n" not in column.label
        words = f"{column.name} has the label {column.label!r}"
        judge.require(labelled, "columns", words)


def _check_draws(
    judge: Judge,
    defense: Defense,
    random: bool,
    show: Callable[..., _Sent],
    called: tuple[Any, ...],
) -> None:
    """Features differ between keys if they should; many keys at once are a loop."""
    params, key, secrets, covers = called
    keys = jax.random.split(key, _DRAWS)
    alone = [np.asarray(show(params, k, secrets, covers).features) for k in keys]
    unlike = any(not np.array_equal(alone[0], features) for features in alone[1:])
    words = f"its features {'differ' if unlike else 'are the same'} for {_DRAWS} keys"
    words += f", and its record says random = {not unlike}"
    judge.require(unlike == random, "key", words)
    sending = jax.vmap(partial(encode, defense), (None, 0, None, None))
    with judge.keeping("purity", "vmap over keys"):
        shape = jax.eval_shape(sending, params, keys, secrets, covers).shape
    loop = np.stack(alone)
    words = f"vmap over keys gives {shape}, not {loop.shape}"
    judge.require(shape == loop.shape, "purity", words)
    if random:
        together = np.asarray(jax.jit(sending)(params, keys, secrets, covers))
        close = np.allclose(together, loop, rtol=1e-4, atol=1e-5)
        words = f"vmap over keys is no loop over them{difference(together, loop)}"
        judge.require(close, "purity", words)


def _check_covers(
    judge: Judge,
    defense: Defense,
    show: Callable[..., _Sent],
    inputs: tuple[Any, ...],
) -> None:
    """Covers count if and only if it hides; no image depends on the others."""
    key, secrets, covers = inputs
    check_others(judge, partial(show, key), (secrets, covers))
    other = jax.device_put(np.asarray(covers)[::-1])
    sent = [show(key, secrets, x).features for x in (covers, other)]
    counts = not equal(*sent)
    words = f"features {'depend' if counts else 'do not depend'} on the covers, and it "
    words += "hides" if defense.hides else "hides nothing"
    judge.require(counts == defense.hides, "shape", words)


def _check_plain(judge: Judge, sent: _Sent, cut: Cut, edge: Params, who: str) -> None:
    """What is sent is what the plain edge makes of what enters it."""
    wanted = _plainly(plain.Send(cut.edge), edge, sent.entering)
    words = f"features of {who} are not those of the plain edge"
    require_equal(judge, "zero strength", words, sent.features, wanted)


@partial(jax.jit, static_argnums=0)
def _plainly(send: plain.Send, edge: Params, images: Images) -> Features:
    return send({"edge": edge}, None, images)
