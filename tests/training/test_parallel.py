"""What is spread over devices comes back whole, and equal programs are kept."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compiled

from ghostjax.training import loop, parallel


@dataclass(frozen=True)
class Adding:
    """A step that adds a constant, and gives what it had."""

    times: float = 1.0

    def __call__(self, carry, index, constants):
        return carry + self.times * constants["add"], carry + index


@pytest.mark.parametrize("count", [1, 4, 6])
def test_what_is_spread_is_padded_and_cut(count):
    devices = parallel.require(None)
    assert len(devices) == 4
    tree = {"x": np.arange(2.0 * count).reshape(count, 2)}
    keys = jax.random.split(jax.random.key(0), count)
    parts = parallel.spread({**tree, "key": keys}, devices)
    assert parts["x"].shape[0] == 4 and len(parts["x"].sharding.device_set) == 4
    back = parallel.join(parts, count)
    np.testing.assert_array_equal(back["x"], tree["x"])
    assert (jax.random.key_data(back["key"]) == jax.random.key_data(keys)).all()


def test_a_loop_on_four_devices_is_that_on_one_and_is_compiled_once():
    devices, start = parallel.require(4), np.arange(6.0, dtype=np.float32)
    constants = {"add": np.float32(0.5)}
    wanted, outs = loop.run(Adding(), jnp.asarray(start), 3, constants)
    for again in (False, True):
        with compiled() as programs:
            end, seen = loop.run_spread(
                devices,
                Adding(),
                parallel.spread(start, devices),
                range(3),
                parallel.replicate(constants, devices),
            )
        np.testing.assert_array_equal(parallel.join(end, 6), wanted)
        np.testing.assert_array_equal(parallel.join(seen, 6, axis=1), outs)
        assert not (again and programs), "an equal step was compiled anew"


def linear(units):
    return 1_000 + 20 * units


@pytest.mark.parametrize(
    ("limit", "fit"), [(3_000, 85), (1_001, 1), (0, 1), (10**9, 100)]
)
def test_as_many_units_fit_as_two_programs_tell(limit, fit):
    assert parallel.fitting(linear, limit, most=100) == fit
    assert parallel.fitting(lambda units: 500, 1_000, most=100) == 100


def test_what_a_program_needs_is_what_it_holds():
    pixels = jax.ShapeDtypeStruct((1000,), np.float32)
    assert parallel.needed(jax.jit(lambda x: x + 1).lower(pixels)) == 8_000


def test_devices_are_a_matter_of_what_is_inside():
    assert parallel.now() == ()
    with parallel.on_devices(parallel.require(2)):
        assert len(parallel.now()) == 2
        with parallel.on_devices(parallel.require(1)):
            assert parallel.now() == ()
    assert parallel.now() == ()


@pytest.mark.parametrize("count", [0, 5])
def test_more_devices_than_there_are_are_refused(count):
    with pytest.raises(ValueError, match=rf"--devices {count}: this machine has 4 of"):
        parallel.require(count)
