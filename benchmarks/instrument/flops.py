"""Floating-point operations of a program, counted in what jax traced.

XLA's own `cost_analysis` counts a loop's body once, and gives nothing on some
accelerators. This counts products and convolutions (a multiply-add is 2), each as often
as the loops around it of known length turn; elementwise work is left out.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
from jax.extend import core


def flops(function: Callable[..., Any], *inputs: Any) -> float:
    """Of `function(*inputs)`; nothing is computed.

    A `while` loop without a known length (a line search) counts its body once, a branch
    the dearest side.
    """
    return _count(jax.make_jaxpr(function)(*inputs).jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    inside = [_count(part) for part in _bodies(params)]
    if name == "scan":
        return params["length"] * sum(inside)
    return max(inside, default=0.0) if name == "cond" else sum(inside)


def _of_convolution(equation: core.JaxprEqn) -> float:
    """Values that come out, times the taps behind each that are no zeros in between.

    A gradient to the input is a convolution of a map with zeros between its values,
    which no processor multiplies by.
    """
    kernel = equation.invars[1].aval.shape
    taps = prod(kernel[i] for i in equation.params["dimension_numbers"].rhs_spec[1:])
    dilation = prod(equation.params["lhs_dilation"])
    return 2.0 * equation.outvars[0].aval.size * taps / dilation


def _bodies(params: dict[str, Any]) -> list[core.Jaxpr]:
    bodies: list[core.Jaxpr] = []
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                bodies.append(part.jaxpr)
            elif isinstance(part, core.Jaxpr):
                bodies.append(part)
    return bodies
