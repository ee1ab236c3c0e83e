"""Learning problems whose answer is known."""

import jax
import jax.numpy as jnp

ANSWER = jnp.arange(4.0)


def data():
    """Noise-free linear data: targets are inputs times ANSWER."""
    inputs = jax.random.normal(jax.random.key(0), (100, 4))
    return inputs, inputs @ ANSWER


def loss(params, model_state, key, batch):
    """Squared error, with a count of the steps as model state."""
    inputs, targets = batch
    value = ((inputs @ params["w"] - targets) ** 2).mean()
    return value, ({"seen": model_state["seen"] + 1}, {"error": value})


def draw(key, index, data):
    """A random batch of 16, folded from the step."""
    chosen = jax.random.randint(jax.random.fold_in(key, index), (16,), 0, len(data[0]))
    return data[0][chosen], data[1][chosen]


def start():
    """(params, model_state)."""
    return {"w": jnp.zeros(4)}, {"seen": jnp.int32(0)}
