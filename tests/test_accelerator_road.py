"""What accelerators are handed, read and run on a CPU.

`runtime.on_cpu` decides how steps are looped and convolutions written. Here it says no:
the trainings and searches of `trainers` are written as for a GPU or TPU, read as
StableHLO, run on the CPU all the same, and compared with the CPU's own road.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trainers
from trainers import INVERSIONS, NETWORKS, SEARCHES, TRAININGS

from ghostjax import runtime
from ghostjax.models.convolution import convolve
from ghostjax.training import loop, sampling
from ghostjax.training.fit import OPTIMIZERS

ROADS = ("cpu", "accelerator")
LOWERED = {
    # Read, not run, and as accelerators have them alone: XLA takes five seconds for
    # each, and its networks, draws and loops are those of others, which are run.
    *("nns, ssim", "ghost, nns", "ghost, nns, covert", "direct", "cda"),
    *("ghost, lsb, covert, candidates", "ghost+, secret, candidates"),
    *("ghost+, revealed", "ghost+, label"),
    *("rmle, gd, unfolded", "rmle, lbfgs, plain", "rmle, gauss_newton, plain"),
    "ghost+, one a label",  # see the test of one kernel for each of several
    *NETWORKS,
}
ALL = [*TRAININGS, *NETWORKS, *SEARCHES]
RUN = [name for name in ALL if name not in LOWERED]
QUICK = {
    # Run in every suite: all that the roads differ in is in these.
    *("ghost, lsb", "rmle, gd, plain", "rmle, gauss_newton, unfolded"),
}
READ = set(ALL) - {
    # Read in every suite: not what differs from others in depth or in one term.
    *("nns, ssim", "ghost, nns", "ghost, nns, covert", "direct", "shadow"),
    *("ghost+, stego", "ghost+, revealed", "ghost+, secret, candidates"),
    *("ghost+, label", "rmle, lbfgs, plain", "inverse, last layer"),
    *set(NETWORKS).difference(["classifier, lenet5"]),
}
MARGIN = 1.3
ROUNDS = {"cpu": 1, "accelerator": 8}  # of a shuffle, in the body of its loop


class Counts(NamedTuple):
    """What a program holds, at most."""

    cpu: int  # operations of a step on CPU; random bits are not counted
    accelerator: int  # of the scan of steps elsewhere
    images: int  # gathers out of uint8 images, exactly
    gathers: int  # all


# Operations are those of jax 0.12.0 or 0.10.2, whichever has more. Depth is in them,
# but that of toys, which stays; of the zoo's networks integers alone are counted.
#
# Gathers: each stream of indices takes one out of its shuffle's salts, one out of the
# images and, of covers or secrets, one out of their rows; labels are one, and the logit
# that a cross-entropy picks is two (ARDEN has three cross-entropies). A choice between
# candidates gathers their rows, their images, the secrets' images again, and what it
# chose. With a generator a label each has its own. L-BFGS gathers from its memory.
COUNTS = {
    "classifier": Counts(677, 1102, 1, 5),
    "nns": Counts(1374, 1869, 2, 4),
    "nns, ssim": Counts(1530, 2095, 2, 4),
    "ghost, lsb": Counts(820, 1646, 3, 10),
    "ghost, lsb, covert, candidates": Counts(1251, 2022, 5, 14),
    "ghost, nns": Counts(988, 1707, 3, 10),
    "ghost, nns, covert": Counts(1252, 1916, 3, 10),
    "ghost+, stego": Counts(2153, 2181, 2, 8),
    "ghost+, revealed": Counts(2179, 2207, 2, 8),
    "ghost+, secret, candidates": Counts(2319, 2347, 4, 12),
    "ghost+, label": Counts(2224, 2252, 2, 8),
    "ghost+, one a label": Counts(2546, 3114, 4, 14),
    "arden": Counts(1183, 1545, 1, 9),
    "shredder": Counts(526, 927, 1, 5),
    "inverse": Counts(544, 814, 1, 2),
    "direct": Counts(762, 1444, 2, 4),
    "probe": Counts(864, 1671, 2, 7),
    "shadow": Counts(693, 993, 1, 5),
    "cda": Counts(964, 1159, 2, 3),
    "rmle, gd, plain": Counts(228, 216, 0, 0),
    "rmle, gd, unfolded": Counts(227, 215, 0, 0),
    "rmle, lbfgs, plain": Counts(1737, 1747, 0, 6),
    "rmle, lbfgs, unfolded": Counts(1725, 1735, 0, 6),
    "rmle, gauss_newton, plain": Counts(537, 474, 0, 0),
    "rmle, gauss_newton, unfolded": Counts(531, 468, 0, 0),
    "inverse, last layer": Counts(389, 730, 1, 2),
}


def when(now: bool, *values: Any) -> Any:
    """A test's parameters, of every suite or of `science`."""
    return pytest.param(*values, marks=() if now else pytest.mark.science)


TEXTS = [
    when(name in (READ if which == "accelerator" else QUICK), name, which)
    for name in ALL
    for which in (ROADS[1:] if name in LOWERED else ROADS)
]


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly():
    """Nearly all of this module's time is XLA's."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    _forget("")
    yield
    _forget("")
    jax.config.update("jax_disable_most_optimizations", before)


@contextmanager
def road(which: str) -> Iterator[None]:
    """Programs are written for "cpu" or "accelerator".

    What jax has of the package's functions from the other road is forgotten, not what
    it has of its own, which is alike on both and would take long to make anew.
    """
    if _taken != which:
        _forget(which)
    with mock.patch.object(runtime, "on_cpu", lambda: which == "cpu"):
        yield


_taken = ""  # the road that jax has the package's functions of


def _forget(which: str) -> None:
    global _taken
    _taken = which
    for module in [sys.modules[name] for name in sys.modules if "ghostjax." in name]:
        for value in vars(module).values():
            if hasattr(value, "clear_cache"):  # of a jitted function
                value.clear_cache()


def stablehlo(trainer: trainers.Trainer, which: str) -> str:
    """What runs: on CPU one step; elsewhere the scan of all steps, for CUDA and TPU in
    one program, which holds both forms of what the two write differently."""
    step, state, arguments = loop._Held(trainer.step), trainer.state, trainer.arguments
    if which == "cpu":
        traced, platforms = loop._stepped.trace(step, state, 0, arguments), None
    else:
        steps, start, platforms = trainers.STEPS, jnp.int32(0), ("cuda", "tpu")
        traced = loop._scanned.trace(step, steps, state, start, arguments)
    return traced.lower(lowering_platforms=platforms).as_text()


class Travel(NamedTuple):
    """A training or search on one road."""

    text: str
    start: Any  # the state before the first step
    end: Any  # and after the last; of an inversion the images
    values: np.ndarray  # losses [steps]; of an inversion the objectives [2, steps]


def written(name: str, which: str) -> str:
    return _travelled(name, which, name in QUICK).text


def travelled(name: str) -> list[Travel]:
    """On both roads."""
    return [_travelled(name, which, True) for which in ROADS]


@cache
def _travelled(name: str, which: str, to_the_end: bool) -> Travel:
    with road(which):
        # SGD is linear in the gradients: what they differ by, the parameters differ by.
        trainer = trainers.trainer(name, "sgd")
        text, end, values = stablehlo(trainer, which), None, ()
        if not to_the_end:
            pass
        elif name in INVERSIONS:
            end, values = trainers.invert(name)
        else:
            end, metrics = loop.run(
                trainer.step, trainer.state, trainers.STEPS, *trainer.arguments
            )
            values = metrics["loss"] if metrics else ()
        other = loop._scanned if which == "cpu" else loop._stepped
        assert other._cache_size() == 0, "steps went the other road"
        return Travel(text, *jax.device_get((trainer.state, end, values)))


def lines(text: str, pattern: str, without: str = "$^") -> list[str]:
    """The lines of a program that match, those of a function once for each call of it.

    Args:
      text: StableHLO.
      pattern: what is looked for.
      without: functions whose names match are left out.
    """
    bodies: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"\s*func\.func \w+ @([\w.]+)", line):
            bodies[head[1]] = body = []
        elif bodies:
            body.append(line)

    @cache
    def inlined(name: str) -> list[str]:
        matches = []
        for line in bodies[name]:
            matches += [line] if re.search(pattern, line) else []
            for callee in re.findall(r"call @([\w.]+)\(", line):
                matches += [] if re.search(without, callee) else inlined(callee)
        return matches

    return inlined("main")


def operations(text: str) -> int:
    """All but those that make random bits, of which each backend has its own."""
    return len(lines(text, r"%\S+ = \"?(stablehlo|chlo)\.", without="threefry"))


def integers(text: str) -> int:
    """Operations that give uint32, as shuffles and draws do and layers do not; those
    that make random bits apart."""
    return len(lines(text, r"%\S+ = stablehlo.*[x<]ui32>$", without="threefry"))


def integers_allowed(text: str, which: str) -> int:
    """75 for each shuffle and 50 for each round in the body of its loop; 8 for each
    draw of random bits, of which a shuffle has three in its 75."""
    shuffles = len(lines(text, r"call @_epoch_indices"))
    draws = len(lines(text, r"call @\w*threefry", without="threefry"))
    return (75 + 50 * ROUNDS[which]) * shuffles + 8 * (draws - 3 * shuffles)


@pytest.mark.parametrize(
    "name", [when(x in QUICK, x) for x in RUN if x not in INVERSIONS]
)
def test_trainings_end_alike_on_both_roads(name):
    """Products of patches in a loop of the host, and convolutions in a scan: float32
    sums in other orders. Measured: losses to 3e-7 of themselves, states to 5e-6 of what
    moved most; a ReLU that bends on one road alone may make it 4e-4."""
    ours, theirs = travelled(name)
    np.testing.assert_allclose(theirs.values, ours.values, rtol=1e-5)
    parts = [[*map(jax.tree.leaves, run)] for run in (ours.start, ours.end, theirs.end)]
    moved = [largest(*part) for part in zip(*parts[:2], strict=True)]
    apart = [largest(*part) for part in zip(*parts[1:], strict=True)]
    assert moved[0] > 0
    assert np.all(np.asarray(apart) <= 1e-3 * np.asarray(moved)), (apart, moved)


def largest(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """The largest difference between arrays."""
    differences = [np.abs(a - b).max() for a, b in zip(first, second, strict=True)]
    return max(differences, default=0.0)


@pytest.mark.parametrize("name", [when(x in QUICK, x) for x in RUN if x in INVERSIONS])
def test_inversions_end_alike_on_both_roads(name):
    """Products with banded matrices against convolutions. Measured: 2e-6."""
    ours, theirs = travelled(name)
    np.testing.assert_allclose(theirs.values, ours.values, rtol=1e-4)
    np.testing.assert_allclose(theirs.end, ours.end, atol=1e-4)
    assert (ours.values[:, -1] < 0.95 * ours.values[:, 0]).all()


@pytest.mark.parametrize(
    "channels, features, size, padding, stride",
    [(1, 4, 5, "VALID", 1), (8, 4, 4, "SAME", 1), (16, 2, 3, "SAME", 1)]
    + [(64, 8, 3, "VALID", 1), (8, 4, 3, "VALID", 2)],
)
def test_one_kernel_for_each_of_several_is_alike_on_both_roads(
    channels, features, size, padding, stride
):
    """Gradients of convolutions under vmap, as of generators for several labels."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 3, 9, 8, channels), np.float32)
    kernels = (2, size, size, channels, features)
    kernels = draw.standard_normal(kernels, np.float32)

    def loss(x, kernels):
        y = jax.vmap(lambda x, k: convolve(x, k, padding, stride))(x, kernels)
        return jnp.sin(y).sum()

    gradients = []
    for which in ROADS:
        fresh = partial(loss)  # of which jax has no program from the other road
        with road(which):
            gradients.append(jax.jit(jax.grad(fresh, (0, 1)))(x, kernels))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())


GROUPED = {
    # One kernel a label; or one a target, though all are alike: `vmap` copies what
    # the line search's `cond` reads. Convolutions then have as many groups.
    "ghost+, one a label": {1, 2},
    "rmle, lbfgs, plain": {1, 2},
    "rmle, lbfgs, unfolded": {1, 2},
}


@pytest.mark.parametrize("name, which", TEXTS)
def test_programs_are_plain_and_float32(name, which):
    text = written(name, which)
    assert plain(text)
    assert ("stablehlo.convolution" in text) == (which == "accelerator")
    groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", text)
    allowed = GROUPED.get(name, {1}) if which == "accelerator" else set()
    assert set(map(int, groups)) == allowed


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_plain_and_float32(optimizer):
    with road("accelerator"):
        trainer = trainers.trainer("shredder", optimizer)
        assert plain(stablehlo(trainer, "accelerator"))


def plain(text: str) -> bool:
    """No double precision, nothing that is called outside the program."""
    return not re.search(r"[x<]f64>", text) and "custom_call" not in text


@pytest.mark.parametrize("name, which", TEXTS)
def test_images_are_gathered_once_for_each_stream(name, which):
    counts = COUNTS["classifier" if name in NETWORKS else name]
    gathers = lines(written(name, which), r"stablehlo\.gather")
    images = [line for line in gathers if re.search(r"\(tensor<\w+xui8>", line)]
    assert len(images) == counts.images
    assert len(gathers) <= counts.gathers


@pytest.mark.parametrize("name, which", TEXTS)
def test_steps_are_small_programs(name, which):
    """A loop that is written out shows here before it takes minutes to compile."""
    text = written(name, which)
    assert integers(text) <= integers_allowed(text, which)
    if name in COUNTS:
        assert operations(text) <= MARGIN * getattr(COUNTS[name], which)


@pytest.fixture
def _traced_anew():
    _forget("")
    yield
    _forget("")


@pytest.mark.usefixtures("_traced_anew")
def test_a_shuffle_written_out_is_seen(monkeypatch):
    """As it was, when it compiled for minutes: all rounds one after the other."""

    def unrolled(places, salts, size):
        x = places
        for salt in salts.swapaxes(0, 1):
            pivot = salt[:, 0] % size
            partner = jnp.where(pivot >= x, pivot - x, pivot + (size - x))
            coin = sampling._hash(jnp.maximum(x, partner) ^ salt[:, 1]) >> 31
            x = jnp.where(coin == 1, partner, x)
        return x

    monkeypatch.setattr(sampling, "_shuffle", unrolled)
    for which in ROADS:
        with road(which):
            text = stablehlo(trainers.trainer("inverse", "sgd"), which)
        assert integers(text) > 3 * integers_allowed(text, which)
        assert operations(text) > MARGIN * getattr(COUNTS["inverse"], which)
