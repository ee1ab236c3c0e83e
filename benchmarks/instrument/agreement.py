"""Whether the accelerator computes what the host's CPU computes.

The same inputs go through each stage on the device, in its own form and under each
precision of products, and on the host's CPU in the CPU's form under "highest". Where
there is no accelerator, the two forms of the program are compared on the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import base, registry, runtime
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context
from ghostjax.defenses.records import Ghost
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.pixels import as_float
from ghostjax.stego import lsb
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.fit import Recipe, drive
from instrument import attack
from instrument import cases as catalogue
from instrument.report import Row
from instrument.section import Bench, Case

_BATCH = 64
_STEPS = 50  # of rMLE
_DECIBELS = 0.1  # that a search's mean PSNR may differ by
_PAIRS = 500  # of secrets and covers, whose answers are counted


class Stage(NamedTuple):
    """A pure function and what it is called with."""

    function: Callable[..., tuple[Any, ...]]  # to quantities, pytrees of arrays
    inputs: tuple[Any, ...]
    tolerance: float  # largest difference, as a share of a quantity's largest value
    reason: str  # of the tolerance


def cases(bench: Bench) -> Iterator[Case]:
    """The cheapest that tells most first: what stands on the last bits, then steps."""
    pictures = partial(hide_bits, bench.pick(catalogue.TOY, "cnn2", "cnn2"))
    yield Case("LSB", partial(compare, bench, "LSB, hide and reveal", pictures))
    shallow, *cuts = bench.pick(
        [attack.TOY_CUT],
        (*attack.CUTS[::-1], attack.DEEP[1]),
        attack.CUTS + attack.DEEP,
    )
    yield _encoding(bench, shallow)
    if bench.size != "small":
        yield Case("NNS", partial(compare, bench, "NNS, reveal", hide_by_network))
    for cut in cuts:
        yield _encoding(bench, cut)
    for name in bench.pick(
        [],
        ["covert branch", "cnn4_bn", "generator", "lenet5"],
        [name for name in catalogue.TRAININGS if name != catalogue.TOY],
    ):
        step = partial(one_step, name)
        yield Case(
            f"one step, {name}", partial(compare, bench, f"one step, {name}", step)
        )
    if bench.size != "small":
        yield Case("LSB through the covert branch", partial(covert_accuracy, bench))
    for solver in bench.pick(["gd"], *[["gauss_newton", "gd", "lbfgs"]] * 2):
        name = f"rMLE, {_STEPS} steps, {solver}"
        yield Case(name, partial(compare_searches, bench, name, solver))


def _encoding(bench: Bench, cut: tuple[str, str]) -> Case:
    name = f"encode, {' '.join(cut)}"
    return Case(name, partial(compare, bench, name, partial(encode, *cut)))


def on_device(
    stage: Callable[..., Any], inputs: tuple[Any, ...], precision: str | None
) -> Any:
    """What a function gives on the device under a precision; None: on the host."""
    platform = "cpu" if precision is None else "accelerator"
    device = jax.devices("cpu" if precision is None else None)[0]
    with ExitStack() as stack:
        stack.enter_context(runtime.written_for(platform))
        stack.enter_context(jax.default_device(device))
        stack.enter_context(jax.default_matmul_precision(precision or "highest"))
        # A new function: what was traced for another device is not taken again.
        program = jax.jit(lambda *inputs: stage(*inputs))
        return jax.device_get(program(*jax.device_put(inputs, device)))


def compare(bench: Bench, name: str, make: Callable[[], Stage]) -> Iterator[Row]:
    """The largest difference, as a share of the largest value, for each precision."""
    stage = make()
    wanted = on_device(stage.function, stage.inputs, None)
    for precision in bench.precisions:
        quantities = on_device(stage.function, stage.inputs, precision)
        difference = max(map(apart, quantities, wanted))
        yield Row(
            case=f"{name}, {precision}",
            figure="largest difference",
            value=difference,
            unit="of the largest",
            note=verdict(difference, stage.tolerance, precision, stage.reason),
        )


def apart(quantity: Any, wanted: Any) -> float:
    """Largest difference of two pytrees, as a share of the largest value of any leaf.

    Of all leaves together: a bias before a normalisation has a gradient of 0, and what
    rounding leaves of it has no scale.
    """
    pairs = zip(*map(jax.tree.leaves, (quantity, wanted)), strict=True)
    pairs = [[np.asarray(leaf, np.float64) for leaf in pair] for pair in pairs]
    if not all(np.isfinite(value).all() for value, _ in pairs):
        return float("inf")
    scale = max(np.abs(value).max() for _, value in pairs)
    return max(float(np.abs(a - b).max()) for a, b in pairs) / max(scale, 1e-30)


def verdict(difference: float, tolerance: float, precision: str, reason: str) -> str:
    if difference <= tolerance:
        return f"agrees (<= {tolerance:g}: {reason})"
    word = "DIFFERS" if precision == "highest" else "coarser"
    return f"{word} (> {tolerance:g}: {reason})"


def hide_bits(network: str) -> Stage:
    images, record = catalogue.pictures(network).images, Lsb()
    method = registry.build(record, catalogue.GREY, Context())

    def both(params, cover, secret):
        stego = method.hide(params, as_float(cover), as_float(secret))
        exact = lsb.hide_bits(cover, secret, params["bits"])
        return exact, stego, method.reveal(params, stego)

    inputs = traced_half(record), images[:_BATCH], images[_BATCH : 2 * _BATCH]
    return Stage(both, inputs, 0.0, "integers")


def hide_by_network() -> Stage:
    method = registry.build(Nns(), catalogue.GREY, Context())
    params = catalogue.stego_network(_BATCH).training.params
    images = as_float(catalogue.pictures("cnn2").images[:_BATCH])
    return Stage(_alone(method.reveal), (params, images), 1e-5, "float32 sums")


def _alone(function: Callable[..., Any]) -> Callable[..., tuple[Any]]:
    return lambda *inputs: (function(*inputs),)


def encode(network: str, cut: str) -> Stage:
    problem = attack.search(network, cut, _BATCH)
    function = _alone(partial(chain.apply, problem.cut.edge))
    return Stage(function, (problem.weights, problem.truth), 1e-5, "float32 sums")


def one_step(name: str) -> Stage:
    """Loss and gradients: the change of the parameters by one step of SGD."""
    learning = catalogue.TRAININGS[name](_BATCH, Recipe(1, "sgd"))

    def step(state, *constants):
        after, metrics = learning.step(state, jnp.int32(0), *constants)
        change = jax.tree.map(jnp.subtract, state.params, after.params)
        return metrics["loss"], change

    inputs = learning.state, *learning.constants
    # A ReLU or a pool that ties within rounding sends its gradient elsewhere.
    return Stage(step, inputs, 1e-3, "gradients jump where values tie")


def compare_searches(bench: Bench, name: str, solver: str) -> Iterator[Row]:
    """Mean PSNR of the pictures found; a search's path may part, its end may not."""
    edge = bench.pick(attack.TOY_CUT, *[attack.CUTS[0]] * 2)
    problem = attack.search(*edge, 16)
    steps = bench.pick(5, _STEPS, _STEPS)
    record = Rmle(solver=solver, steps=steps, start="grey", tolerance=0)
    inputs = problem.weights, problem.features
    invert = problem.invert(record)

    def quality(images):
        return float(attack.psnr(jnp.asarray(images), problem.truth))

    # The CPU's form loops in Python, which a trace would write out.
    with runtime.written_for("cpu"), jax.default_device(jax.devices("cpu")[0]):
        host = jax.device_put(inputs, jax.devices("cpu")[0])
        with jax.default_matmul_precision("highest"):
            wanted = jax.device_get(invert(*host))
    for precision in bench.precisions:
        images = on_device(invert, inputs, precision)
        decibels = abs(quality(images) - quality(wanted))
        yield Row(
            case=f"{name}, {precision}",
            figure="difference of PSNR",
            value=decibels,
            unit="dB",
            note=verdict(decibels, _DECIBELS, precision, "dB")
            + f"; {quality(wanted):.2f} dB; largest of a pixel"
            f" {np.abs(images - wanted).max():.2g}",
        )


def covert_accuracy(bench: Bench) -> Iterator[Row]:
    """Secrets answered rightly through features computed in each precision."""
    record = Ghost(
        steps=300,
        batch_size=64,
        public_batch_size=64,
        cover_candidates=4,
        covert_filters=16,
        learning_rate=3e-3,
        optimizer="adamw",
        schedule="one_cycle",
    )
    defense, halves = catalogue.defended(record)
    weights = catalogue.trained("cnn2", 200)
    problem = catalogue.task(halves, catalogue.pictures("cnn2"), weights)
    fit = defense.fit(jax.random.key(4), traced_half(record), problem)
    params, _ = drive(fit)
    images, labels = catalogue.draw_pictures(catalogue.GREY, 10, 4 * _PAIRS, seed=1)
    sensitive = np.isin(labels, catalogue.SENSITIVE)
    secrets = np.flatnonzero(sensitive)[:_PAIRS]
    covers = np.flatnonzero(~sensitive)[:_PAIRS]
    shown, covering = (as_float(images[rows]) for rows in (secrets, covers))
    for precision in bench.precisions:

        def answer(params, shown, covering):
            key = jax.random.key(0)
            features = base.encode(defense, params, key, shown, covering)
            return defense.answer(params, features).argmax(-1)

        with jax.default_matmul_precision(precision):
            answers = np.asarray(jax.jit(answer)(params, shown, covering))
        yield Row(
            case=f"LSB through the covert branch, {precision}",
            figure="secrets answered",
            value=100 * float((answers == labels[secrets]).mean()),
            unit="%",
            n=len(secrets),
            note=f"drawn digits, {record.steps} steps under highest; constant: 25",
        )
