"""A half of a network that is the user's own: functions, of whatever library.

`Opaque` stands where a layer stands: an edge or a cloud of one's own is a chain of one
such layer, and the functions of `chain` work on it. Its variables are any pytree of
arrays, passed to the functions as they are. What ghostjax knows of it is its functions
and its shapes: it has no layers to unfold, to cut between or to draw variables for, and
its cost is not known. `ghostjax.own` makes them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import keystr, tree_leaves_with_path

__all__ = ["Apply", "ApplyTrain", "Opaque", "digest", "opaque"]

Apply = Callable[[Any, Array], Any]  # of an array; Flax says Any, or a tuple with it
"""`apply(variables, x [B, ...]) -> [B, ...]`, as Flax's `module.apply`."""
ApplyTrain = Callable[[Any, Array, Array], tuple[Any, Any]]
"""`apply_train(variables, x [B, ...], key) -> ([B, ...], variables)`: in training mode;
the variables with what it changes by itself, as running statistics."""


@dataclass(frozen=True)
class Opaque:
    """A layer that is the user's functions; equal for equal functions and shapes.

    Equality is what lets programs be shared: make the functions once.
    """

    function: Apply | None  # None: a cloud that is not there
    train: ApplyTrain | None
    inside: tuple[int, ...]  # shape of what enters, without the batch
    outside: tuple[int, ...]  # and of what leaves; (): not known
    structure: Any  # of its variables: a hashable treedef
    parameters: int

    def apply(self, variables: Any, x: Array) -> Array:
        """Inference mode: [B, *inside] to [B, *outside].

        Raises:
          ValueError: the half is not there.
        """
        return self.required()(variables, x)

    def apply_train(self, variables: Any, x: Array, key: Array) -> tuple[Array, Any]:
        """Training mode; the key is consumed.

        Raises:
          ValueError: it has none.
        """
        return self.required_train()(variables, x, key)

    def required(self) -> Apply:
        """Its function.

        Raises:
          ValueError: the half is not there.
        """
        if self.function is None:
            raise ValueError(
                "this cut has no cloud, which defending and some attacks need: give "
                "own.cut(edge, cloud, ...) a cloud half"
            )
        return self.function

    def required_train(self) -> ApplyTrain:
        """Its function of training mode.

        Raises:
          ValueError: it has none.
        """
        self.required()
        if self.train is None:
            raise ValueError(
                "the cloud is to be trained and has no training mode: give "
                "own.Half(apply, variables, train) a function train(variables, "
                "features, key) -> (logits, variables)"
            )
        return self.train

    def split(self, variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(params, model_state): the leaves that the optimizer moves, and the others.

        Of a mapping with the key "params" the first are what stands there, of an
        `nnx.State` its `nnx.Param`s, of any other pytree all arrays of floats.

        Raises:
          ValueError: variables of another structure than the half was made with.
        """
        leaves, structure = jax.tree.flatten(variables)
        if structure != self.structure:
            raise ValueError(
                "variables of another structure than own.Half was given: training "
                "mode returns all variables, in the containers in which they came"
            )
        moved = _trained(variables)
        numbered = [(str(place), leaf) for place, leaf in enumerate(leaves)]
        sides = [dict[str, Any](), dict[str, Any]()]
        for (place, leaf), is_moved in zip(numbered, moved, strict=True):
            sides[0 if is_moved else 1][place] = leaf
        return sides[0], sides[1]

    def join(self, params: Mapping[str, Any], model_state: Mapping[str, Any]) -> Any:
        """The inverse of `split`."""
        leaves = {**params, **model_state}
        ordered = [leaves[str(place)] for place in range(len(leaves))]
        return jax.tree.unflatten(self.structure, ordered)

    def fits(self, variables: Any) -> bool:
        """Whether its function takes these variables."""
        if jax.tree.structure(variables) != self.structure:
            return False
        try:
            return _outside(self.required(), variables, self.inside) == self.outside
        except Exception:  # the user's functions raise any kind
            return False


def opaque(
    apply: Apply, variables: Any, inside: tuple[int, ...], train: ApplyTrain | None
) -> Opaque:
    """The layer of a function; nothing is computed.

    Args:
      apply: `apply(variables, x)`.
      variables: arrays, or their `jax.ShapeDtypeStruct`s.
      inside: shape of one input, without the batch.
      train: `apply_train`, of a cloud that can be trained.

    Raises:
      ValueError: a function that cannot be called so, or gives no batch of floats.
    """
    try:
        outside = _outside(apply, variables, inside)
    except Exception as error:  # the user's functions raise any kind
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{_named(apply)} cannot be called with these variables on inputs "
            f"{(2, *inside)}: {reason}"
        ) from error
    return Opaque(
        function=apply,
        train=train,
        inside=inside,
        outside=outside,
        structure=jax.tree.structure(variables),
        parameters=_parameters(variables),
    )


def digest(variables: Any) -> str:
    """16 hex digits of a pytree's places, dtypes, shapes and bytes.

    Raises:
      ValueError: a leaf that is no array and no number.
    """
    content = hashlib.sha256()
    for path, leaf in tree_leaves_with_path(variables):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            leaf = jax.random.key_data(leaf)
        values = np.ascontiguousarray(jax.device_get(leaf))
        if values.dtype.kind in "OUS":
            raise ValueError(
                f"variables{keystr(path)} = {leaf!r}: variables are arrays of numbers"
            )
        content.update(f"{keystr(path)}{values.dtype}{values.shape}".encode())
        content.update(values.tobytes())
    return content.hexdigest()[:16]


def _outside(apply: Apply, variables: Any, inside: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one output."""
    x = jax.ShapeDtypeStruct((2, *inside), jnp.float32)
    y = jax.eval_shape(apply, variables, x)
    if not isinstance(y, jax.ShapeDtypeStruct):
        raise ValueError(f"it gives a {type(y).__name__}, and one array is wanted")
    if y.ndim < 2 or y.shape[0] != 2 or not jnp.issubdtype(y.dtype, jnp.floating):
        raise ValueError(
            f"it gives {y.dtype} {y.shape}, and a batch of floats (2, ...) is wanted"
        )
    return y.shape[1:]


def _trained(variables: Any) -> list[bool]:
    """For each leaf, whether the optimizer moves it; see `Opaque.split`."""
    from flax import nnx  # here, since most runs have no use for it

    if isinstance(variables, nnx.State):
        nodes = jax.tree.leaves(
            variables, is_leaf=lambda node: isinstance(node, nnx.Variable)
        )
        return [
            isinstance(node, nnx.Param) for node in nodes for _ in jax.tree.leaves(node)
        ]
    if isinstance(variables, Mapping) and "params" in variables:
        return [
            getattr(path[0], "key", None) == "params"
            for path, _ in tree_leaves_with_path(variables)
        ]
    return [
        bool(jnp.issubdtype(_dtype(leaf), jnp.floating))
        for leaf in jax.tree.leaves(variables)
    ]


def _parameters(variables: Any) -> int:
    leaves = zip(jax.tree.leaves(variables), _trained(variables), strict=True)
    return sum(prod(np.shape(leaf)) for leaf, is_moved in leaves if is_moved)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _named(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
