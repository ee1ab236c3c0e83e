"""A frozen convolution on CPU, forwards and back to its input, as an inversion runs it.

Claims of `models.frozen`: banded products for few channels, XLA's own for many.

  python benchmarks/frozen.py  # writes results/frozen.json
"""

from pathlib import Path

import jax
import timing
from jax.lax import conv_general_dilated

from ghostjax import runtime
from ghostjax.models import chain, frozen
from ghostjax.models.convolution import convolve
from ghostjax.models.layers import Conv

SHAPES = {  # batch, side, channels in and out, kernel
    "lenet5 conv1": (256, 28, 1, 8, 5),
    "lenet5 conv2": (256, 12, 8, 16, 5),
    "cnn2 conv1": (256, 28, 1, 32, 3),
    "cnn2 conv2": (256, 13, 32, 64, 3),
    "cnn6 conv11": (32, 34, 3, 64, 3),
    "cnn6 conv12": (32, 34, 64, 64, 3),
}


def main() -> None:
    """Measures every shape and writes the results."""
    runtime.configure()
    results = {name: one(*shape) for name, shape in SHAPES.items()}
    path = Path(__file__).parent / "results" / "frozen.json"
    timing.write(path, results, shapes=SHAPES, turns=11, warmup=2)


def one(batch: int, side: int, channels: int, features: int, size: int) -> dict:
    """XLA's convolution, the training's patches, and the frozen layer, in turn."""
    layers = (("conv", Conv(features, size)),)
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    variables = chain.init(layers, jax.random.key(1), x)
    kernel = variables["conv"]["params"]["kernel"]
    bands, prepared = frozen.freeze(layers, variables, x.shape[1:])

    def xla(x):
        layout = ("NHWC", "HWIO", "NHWC")
        return conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=layout
        )

    programs = {
        "xla": xla,
        "patches": lambda x: convolve(x, kernel, "VALID"),
        "frozen": lambda x: chain.apply(bands, prepared, x),
    }
    cotangent = xla(x)

    def both(function):
        def run(x, c):
            y, back = jax.vjp(function, x)
            return y, back(c)[0]

        compiled = jax.jit(run)
        return lambda: compiled(x, cotangent)

    return timing.paired({name: both(function) for name, function in programs.items()})


if __name__ == "__main__":
    main()
