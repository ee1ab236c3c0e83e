"""Convolution on CPU: ours against XLA's, with and without glibc keeping memory.

Claims of `ghostjax.models.convolution` and `ghostjax.runtime.keep_memory`.

  python benchmarks/convolution.py            # writes results/convolution.json
  python benchmarks/convolution.py one keep   # one half of it, to standard output
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import timing
from jax.lax import conv_general_dilated

from ghostjax import runtime
from ghostjax.models.convolution import convolve

SHAPES = {  # batch, side, channels in and out, kernel
    "cnn2 conv1": (256, 28, 1, 32, 3),
    "cnn2 conv2": (256, 13, 32, 64, 3),
    "covert branch": (384, 13, 64, 64, 3),
    "lenet5 conv2": (256, 12, 8, 16, 5),
    "cnn6 conv12": (64, 34, 64, 64, 3),
}


def main() -> None:
    """Runs both halves in processes of their own: the allocator cannot be reset."""
    if sys.argv[1:2] == ["one"]:
        if sys.argv[2] == "keep":
            assert runtime.keep_memory(), "glibc did not take the settings"
        print(json.dumps({name: one(*shape) for name, shape in SHAPES.items()}))
        return
    results = {}
    for memory in ("default", "keep"):
        command = [sys.executable, __file__, "one", memory]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[memory] = json.loads(done.stdout)
    path = Path(__file__).parent / "results" / "convolution.json"
    timing.write(path, results, shapes=SHAPES, turns=11, warmup=2)


def one(batch: int, side: int, channels: int, features: int, size: int) -> dict:
    """Forward, and gradient with respect to input and kernel, of both programs."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, side, side, channels))
    kernel = jax.random.normal(key, (size, size, channels, features))

    def xla(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=layout
        )

    def ours(x, kernel):
        return convolve(x, kernel, "VALID")

    cotangent = xla(x, kernel)

    def forward(function):
        run = jax.jit(function)
        return lambda: run(x, kernel)

    def gradient(function):
        run = jax.jit(lambda x, k, c: jax.vjp(function, x, k)[1](c))
        return lambda: run(x, kernel, cotangent)

    return {
        "forward": timing.paired({"xla": forward(xla), "ours": forward(ours)}),
        "gradient": timing.paired({"xla": gradient(xla), "ours": gradient(ours)}),
    }


if __name__ == "__main__":
    main()
