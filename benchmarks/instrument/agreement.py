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

from ghostjax import chain, runtime, train
from ghostjax.attacks.rmle import Settings
from ghostjax.attacks.solvers import Choices
from ghostjax.defenses import ghost
from ghostjax.stego import lsb, nns
from ghostjax.train import Recipe
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
    yield Case("LSB", partial(compare, bench, "LSB, hide and reveal", hide_bits))
    shallow, *cuts = bench.pick(
        attack.CUTS[:1], (*attack.CUTS[::-1], attack.DEEP[1]), attack.CUTS + attack.DEEP
    )
    yield _encoding(bench, shallow)
    if bench.size != "small":
        yield Case("LSB through the covert branch", partial(covert_accuracy, bench))
    for solver in bench.pick(["gd"], *[["gauss_newton", "gd", "lbfgs"]] * 2):
        name = f"rMLE, {_STEPS} steps, {solver}"
        yield Case(name, partial(compare_searches, bench, name, solver))
    for name in bench.pick(
        [],
        ["covert branch", "cnn4_bn", "generator", "lenet5"],
        list(catalogue.TRAININGS),
    ):
        step = partial(one_step, name)
        yield Case(
            f"one step, {name}", partial(compare, bench, f"one step, {name}", step)
        )
    if bench.size != "small":
        yield Case("NNS", partial(compare, bench, "NNS, reveal", hide_by_network))
    for cut in cuts:
        yield _encoding(bench, cut)


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


def hide_bits() -> Stage:
    images = catalogue.pictures("cnn2").images
    method = lsb.lsb(3)

    def both(cover, secret):
        stego = method.hide((), cover / 255.0, secret / 255.0)
        exact = lsb.hide_bits(cover, secret, 3)
        return exact, stego, method.reveal((), stego)

    inputs = images[:_BATCH], images[_BATCH : 2 * _BATCH]
    return Stage(both, inputs, 0.0, "integers")


def hide_by_network() -> Stage:
    method = nns.nns((28, 28, 1), nns.Settings(Recipe(1)))
    images = catalogue.pictures("cnn2").images[:_BATCH].astype(jnp.float32) / 255
    params = method.init(jax.random.key(0), images, images)
    return Stage(_alone(method.reveal), (params, images), 1e-5, "float32 sums")


def _alone(function: Callable[..., Any]) -> Callable[..., tuple[Any]]:
    return lambda *inputs: (function(*inputs),)


def encode(network: str, cut: str) -> Stage:
    problem = attack.search(network, cut, _BATCH)
    function = _alone(partial(chain.apply, problem.edge))
    return Stage(function, (problem.weights, problem.truth), 1e-5, "float32 sums")


def one_step(name: str) -> Stage:
    """Loss and gradients: the change of the parameters by one step of SGD."""
    training = catalogue.TRAININGS[name](_BATCH, Recipe(1, "sgd"))

    def step(params, model_state, key, rate, data):
        state = train.start(params, model_state, training.recipe)
        after, metrics = training.step(state, jnp.int32(0), key, rate, data)
        change = jax.tree.map(jnp.subtract, params, after.params)
        return metrics["loss"], change

    inputs = training.params, training.model_state, *training.constants
    # A ReLU or a pool that ties within rounding sends its gradient elsewhere.
    return Stage(step, inputs, 1e-3, "gradients jump where values tie")


def compare_searches(bench: Bench, name: str, solver: str) -> Iterator[Row]:
    """Mean PSNR of the pictures found; a search's path may part, its end may not."""
    problem = attack.search("lenet5", "conv1", 16)
    settings = Settings(
        solver, bench.pick(5, _STEPS, _STEPS), "grey", 0.0, choices=attack.ADAM
    )
    if solver == "lbfgs":
        settings = settings._replace(choices=Choices())
    inputs = problem.weights, problem.features
    invert = problem.invert(settings)

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
    steps = 300
    weights = catalogue.trained("cnn2", 200)
    edge, cloud = chain.cut(catalogue.layers("cnn2"), "pool1")
    settings = ghost.Settings(
        Recipe(steps, "adamw", "one_cycle"), 64, 64, cover_candidates=4
    )
    defense = ghost.ghost(
        edge,
        cloud,
        (28, 28, 1),
        lsb.lsb(3),
        settings._replace(covert_filters=16),
        learning_rate=3e-3,
    )
    problem = catalogue.task("cnn2", "pool1", weights)
    params, _ = defense.fit(jax.random.key(4), problem, train.fit)
    images, labels = catalogue.draw_pictures((28, 28, 1), 10, 4 * _PAIRS, seed=1)
    sensitive = np.isin(labels, catalogue.SENSITIVE)
    secrets = np.flatnonzero(sensitive)[:_PAIRS]
    covers = np.flatnonzero(~sensitive)[:_PAIRS]
    shown, covering = (
        jnp.asarray(images[i], jnp.float32) / 255 for i in (secrets, covers)
    )
    for precision in bench.precisions:

        def answer(params, shown, covering):
            features = defense.encode(params, jax.random.key(0), shown, covering)
            return defense.answer(params, features).argmax(-1)

        with jax.default_matmul_precision(precision):
            answers = np.asarray(jax.jit(answer)(params, shown, covering))
        yield Row(
            case=f"LSB through the covert branch, {precision}",
            figure="secrets answered",
            value=100 * float((answers == labels[secrets]).mean()),
            unit="%",
            n=len(secrets),
            note=f"drawn digits, {steps} steps under highest; constant answer 25",
        )
