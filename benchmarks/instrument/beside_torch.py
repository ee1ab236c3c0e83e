"""The same rMLE and training steps in PyTorch, where it is there, in turn with ours.

PyTorch runs eagerly and compiled, with TF32 allowed and not, its convolutions in both
memory layouts; the network is checked to compute what ours computes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import timing

from ghostjax import runtime
from ghostjax.attacks.rmle import AUTHORS
from ghostjax.models import chain, zoo
from ghostjax.pixels import as_float
from instrument import attack
from instrument import cases as catalogue
from instrument.clock import Program
from instrument.report import Row, spread
from instrument.section import Bench, Case

_TURNS = 7
_STEPS = 20  # of a search
_TRAIN_STEPS = 10
WAYS = {  # name -> (TF32 allowed, channels_last, compiled)
    "eager": (False, False, False),
    "eager, channels_last": (False, True, False),
    "eager, TF32, channels_last": (True, True, False),
    "compiled, channels_last": (False, True, True),
    "compiled, TF32, channels_last": (True, True, True),
}


def cases(bench: Bench) -> Iterator[Case]:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        yield Case("PyTorch", partial(missing, str(error)))
        return
    cpu = runtime.on_cpu()
    for cut in bench.pick(["conv1"], ["conv1"], ["conv1", "ReLU2"]):
        for batch in bench.pick([8], [256] if cpu else [1024], [256, 4096]):
            case = f"rMLE, lenet5 {cut}, AMSGrad, batch {batch}"
            yield Case(case, partial(searches, bench, case, cut, batch))
    names = bench.pick(["lenet5"], ["cnn2"], list(catalogue.NETWORKS))
    if bench.size == "core" and not cpu:
        names = ["cnn2", "cnn4_bn"]
    for name in names:
        for batch in bench.pick([8], [64] if cpu else [256], [256, 1024]):
            case = f"training, {name}, batch {batch}"
            yield Case(case, partial(trainings, bench, case, name, batch))


def missing(why: str) -> Iterator[Row]:
    note = f"nothing is compared: {why}"
    yield Row(case="PyTorch", figure="speed", value=None, unit="", note=note)


def ways(bench: Bench) -> dict[str, tuple[bool, bool, bool]]:
    """Those of this device and size; a CPU has no TF32."""
    chosen = WAYS
    if runtime.on_cpu():
        chosen = {name: way for name, way in WAYS.items() if not way[0]}
    if bench.size != "full" and runtime.on_cpu():
        chosen = {name: way for name, way in chosen.items() if not way[2]}
    return chosen


def device() -> str:
    import torch

    return "cuda" if not runtime.on_cpu() and torch.cuda.is_available() else "cpu"


def under(tf32: bool, program: Callable[[], Any]) -> Callable[[], None]:
    """The program with TF32 allowed or not, waited for."""
    import torch

    def run() -> None:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        program()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def searches(bench: Bench, case: str, cut: str, batch: int) -> Iterator[Row]:
    """Image-steps a second of the authors' search on the mean squared difference."""
    import peers
    import torch

    problem = attack.search("lenet5", cut, batch)
    steps = bench.pick(2, _STEPS, _STEPS)
    invert = problem.invert(replace(AUTHORS, steps=steps, tv_weight=0))
    descent = peers.Descent(epsilon=AUTHORS.epsilon, tv_weight=0.0)
    features = peers.tensor(problem.features).to(device())
    programs: dict[str, Callable[[], Any]] = {}
    for precision in bench.precisions:
        programs[f"ghostjax, {precision}"] = partial(
            _precisely, precision, invert, problem.weights, problem.features
        )
    for name, (tf32, last, compiled) in ways(bench).items():
        module = peers.edge(problem.weights, cut).to(device())
        sent = features
        if last:
            module = module.to(memory_format=torch.channels_last)
            sent = features.contiguous(memory_format=torch.channels_last)
        module = torch.compile(module) if compiled else module
        program = partial(peers.invert, module, sent, steps, descent)
        programs[f"torch, {name}"] = under(tf32, program)
    yield from compared(case, programs, batch * steps, "image-steps/s")
    images = np.asarray(invert(problem.weights, problem.features))
    module = peers.edge(problem.weights, cut).to(device())
    z = peers.invert(module, features, steps, descent)
    difference = np.abs(images - peers.pictures(z.cpu())).max()
    yield Row(
        case=case,
        figure="largest difference",
        value=float(difference),
        unit="of a pixel",
        note="ours and torch's pictures after the same steps",
    )


def _precisely(precision: str, function: Callable[..., Any], *inputs: Any) -> Any:
    with jax.default_matmul_precision(precision):
        return function(*inputs)


def trainings(bench: Bench, case: str, name: str, batch: int) -> Iterator[Row]:
    """Images a second of steps of Adam on uint8 pictures that lie on the device."""
    import peers
    import torch

    steps = bench.pick(2, _TRAIN_STEPS, _TRAIN_STEPS)
    learning = catalogue.network(name, batch)
    programs: dict[str, Callable[[], Any]] = {}
    for precision in bench.precisions:
        with jax.default_matmul_precision(precision):
            programs[f"ghostjax, {precision}"] = Program(
                learning.step, learning.state, *learning.constants, steps=steps
            )
    layers, shape = catalogue.layers(name), zoo.network(name).image_shape
    weights, data = catalogue.variables(name), catalogue.pictures(name)
    images = torch.from_numpy(np.asarray(data.images).transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(np.array(data.labels)).long().to(device())
    images = images.to(device())
    for way, (tf32, last, compiled) in ways(bench).items():
        module = peers.network(layers, weights, shape).to(device())
        shown = images
        if last:
            module = module.to(memory_format=torch.channels_last)
            shown = images.contiguous(memory_format=torch.channels_last)
        module = torch.compile(module) if compiled else module
        step = peers.train_step(module, shown, labels, batch)

        def several(step=step):
            for _ in range(steps):
                step()

        programs[f"torch, {way}"] = under(tf32, several)
    yield from compared(case, programs, batch * steps, "images/s")
    module = peers.network(layers, weights, shape).eval()
    with torch.no_grad():
        theirs = module(images[:8].cpu().float() / 255).numpy()
    ours = chain.apply(layers, weights, as_float(data.images[:8]))
    difference = float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
    yield Row(
        case=case,
        figure="largest difference",
        value=difference,
        unit="of the largest",
        note="logits of the same weights, torch's on the CPU",
    )


def compared(
    case: str, programs: dict[str, Callable[[], Any]], items: int, unit: str
) -> Iterator[Row]:
    """All programs in turn; each rate, and ours under "highest" against it."""
    times = timing.interleaved(programs, turns=_TURNS, warmup=2)
    first = np.asarray(next(iter(times.values())))
    for name, seconds in times.items():
        ratio = float(np.median(np.asarray(seconds) / first))
        note = (
            "" if name.startswith("ghostjax") else f"ours is {ratio:.2f} times as fast"
        )
        rates = spread([items / turn for turn in seconds])
        yield Row(case=f"{case}: {name}", figure="speed", unit=unit, note=note, **rates)
