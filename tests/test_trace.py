"""What a rule leaves behind when it runs on placeholders."""

import math
import operator

import numpy as np
import pytest
import torch

from arrayopt.trace import FUNCTIONS, PREDICATES, TraceError, trace


def program(expression, group=None, states=("m",)):
    """The program of a rule that returns ``expression(xp, param, grad, m)``."""

    def rule(xp, param, grad, state, group):
        return expression(xp, param, grad, state.get("m")), {}

    return trace(rule, states, {}, group or {})


def momentum(xp, param, grad, state, group):
    if group["weight_decay"]:
        grad = grad + group["weight_decay"] * param
    buf = group["momentum"] * state["buf"] + grad
    return param - group["lr"] * buf, {"buf": buf, "mu": state["mu"] * 0.5}


GROUP = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0}


def traced(**options):
    return trace(momentum, ("buf",), {"mu": 4.0}, GROUP | options)


def test_program_reads_as_straight_line_code():
    assert str(traced(weight_decay=0.25)).splitlines() == [
        "t0 = multiply(0.25, param)",
        "t1 = add(grad, t0)",
        "t2 = multiply(0.9, buf)",
        "t3 = add(t2, t1)",
        "t4 = multiply(0.1, t3)",
        "t5 = subtract(param, t4)",
        "param, buf = t5, t3",
    ]


def test_program_names_inputs_operations_outputs_constants_and_scalars():
    structure, constants, scalars = (
        getattr(traced(), part) for part in ("structure", "constants", "scalars")
    )
    assert structure.inputs == ("param", "grad", "buf")
    assert structure.operations == (
        ("multiply", (-1, 2)),
        ("add", (3, 1)),
        ("multiply", (-2, 4)),
        ("subtract", (0, 5)),
    )
    assert structure.outputs == (("param", 6), ("buf", 4))
    assert constants == (0.9, 0.1)
    assert scalars == {"mu": 2.0}


def test_other_numbers_are_the_same_structure():
    one, other = traced(), traced(lr=0.5, momentum=3)
    assert one.structure == other.structure
    assert hash(one.structure) == hash(other.structure)
    assert other.constants == (3.0, 0.5)


def test_another_branch_is_another_structure():
    assert traced().structure != traced(weight_decay=0.1).structure


def test_outputs_may_be_inputs_and_values_may_be_used_twice():
    def rule(xp, param, grad, state, group):
        return grad, {"m": param, "new": grad}

    assert trace(rule, ("m",), {}, {}).structure.outputs == (("param", 1), ("m", 0), ("new", 1))


def test_state_that_does_not_exist_yet_is_no_input():
    def rule(xp, param, grad, state, group):
        return param, {"m": state["m"] + grad if "m" in state else grad}

    assert str(trace(rule, (), {}, {})) == "param, m = param, grad"
    assert str(trace(rule, ("m",), {}, {})) == "t0 = add(m, grad)\nparam, m = param, t0"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_is_traced_and_known_to_numpy(function):
    arity = FUNCTIONS[function]
    result = program(lambda xp, *values: getattr(xp, function)(*values[:arity]))
    assert result.structure.operations == ((function, tuple(range(arity))),)
    standard = np.asarray(getattr(np, function)(*[np.ones(2)] * arity))
    assert (standard.dtype == bool) == (function in PREDICATES)


BINARY = {
    operator.add: "add",
    operator.sub: "subtract",
    operator.mul: "multiply",
    operator.truediv: "divide",
    operator.floordiv: "floor_divide",
    operator.mod: "remainder",
    operator.pow: "pow",
    operator.and_: "logical_and",
    operator.or_: "logical_or",
    operator.xor: "logical_xor",
}
COMPARISONS = {
    operator.lt: ("less", "greater"),
    operator.le: ("less_equal", "greater_equal"),
    operator.gt: ("greater", "less"),
    operator.ge: ("greater_equal", "less_equal"),
    operator.eq: ("equal", "equal"),
    operator.ne: ("not_equal", "not_equal"),
}


@pytest.mark.parametrize(("operate", "function"), BINARY.items(), ids=BINARY.values())
def test_operators_and_their_reflections(operate, function):
    for operands, expected in [(("p", "g"), (0, 1)), (("p", 3), (0, -1)), ((3, "p"), (-1, 0))]:
        traced = program(
            lambda xp, p, g, m, operands=operands: operate(
                *[{"p": p, "g": g}.get(o, o) for o in operands]
            )
        )
        assert traced.structure.operations == ((function, expected),)
        assert traced.constants == (3.0,) * (3 in operands)


@pytest.mark.parametrize(("compare", "functions"), COMPARISONS.items())
def test_comparisons_and_their_reflections(compare, functions):
    plain = program(lambda xp, p, g, m: compare(p, 2))
    reflected = program(lambda xp, p, g, m: compare(2, p))
    assert plain.structure.operations == ((functions[0], (0, -1)),)
    assert reflected.structure.operations == ((functions[1], (0, -1)),)


def test_unary_operators():
    signs = program(lambda xp, p, g, m: abs(-(+p)))
    assert signs.structure.operations == (("negative", (0,)), ("abs", (3,)))
    assert program(lambda xp, p, g, m: ~(p > g)).structure.operations[1] == ("logical_not", (3,))


@pytest.mark.parametrize(
    ("exponent", "function"), [(2, "square"), (2.0, "square"), (0.5, "sqrt"), (-1, "reciprocal")]
)
def test_powers_that_an_array_computes_by_other_means(exponent, function):
    assert program(lambda xp, p, g, m: p**exponent).structure.operations == ((function, (0,)),)
    x = np.array([-np.inf, -0.0, 0.3, 3.3, np.inf], np.longdouble)
    with np.errstate(all="ignore"):
        expected, result = x**exponent, getattr(np, function)(x)
    assert np.array_equal(result, expected, equal_nan=True)


@pytest.mark.parametrize("number", [True, 2, 2.5, np.float64(2.5), math.inf])
def test_constants_are_python_floats(number):
    (constant,) = program(lambda xp, p, g, m: number * p).constants
    assert type(constant) is float
    assert constant == number


FOREIGN = [np.ones(3), np.float32(2), torch.ones(3), 1j, "2", None, [1.0]]


@pytest.mark.parametrize("foreign", FOREIGN, ids=[type(value).__name__ for value in FOREIGN])
def test_a_foreign_operand_is_named(foreign):
    expected = f"takes arrays and Python numbers, but got {type(foreign).__name__}"
    for use in (lambda xp, p: p * foreign, lambda xp, p: xp.maximum(p, foreign)):
        with pytest.raises(TraceError, match=expected):
            program(lambda xp, p, g, m, use=use: use(xp, p))


@pytest.mark.parametrize("foreign", [np.ones(3), np.float32(2), torch.ones(3), 1j])
def test_a_foreign_operand_on_the_left_is_named(foreign):
    expected = f"subtract in a rule .* but got {type(foreign).__name__}"
    with pytest.raises(TraceError, match=expected):
        program(lambda xp, p, g, m: foreign - p)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            lambda xp, p, g, m: xp.linalg.norm(p),
            "xp.linalg cannot be traced.* functions in arrayopt.trace.FUNCTIONS",
        ),
        (lambda xp, p, g, m: xp.sum(p), "xp.sum cannot be traced"),
        (lambda xp, p, g, m: np.sqrt(p), "cannot be traced"),
        (lambda xp, p, g, m: xp.sqrt(p, g), "xp.sqrt .* takes 1 positional arguments .* got 2"),
        (lambda xp, p, g, m: xp.add(p), "xp.add .* takes 2 positional arguments .* got 1"),
        (lambda xp, p, g, m: xp.abs(p, out=g), r"xp.abs .* no options, but got 1 and \['out'\]"),
        (lambda xp, p, g, m: xp.exp(1.0), "exp in a rule needs at least one array"),
        (lambda xp, p, g, m: p if p > 0 else g, "cannot branch on the elements.* use xp.where"),
        (lambda xp, p, g, m: p if p in (g, m) else g, "cannot branch on the elements"),
        (lambda xp, p, g, m: p / p.shape[0], r"\.shape cannot be traced.* elementwise"),
        (lambda xp, p, g, m: p.sum(), r"\.sum cannot be traced"),
        (lambda xp, p, g, m: p @ g, "the matrix product of an array cannot be traced"),
        (lambda xp, p, g, m: p[0] + g, "indexing an array cannot be traced"),
        (lambda xp, p, g, m: p.__setitem__(0, g), "indexing an array cannot be traced"),
        (lambda xp, p, g, m: p / len(p), "iterating over an array cannot be traced"),
        (lambda xp, p, g, m: [*p], "iterating over an array cannot be traced"),
        (lambda xp, p, g, m: math.sqrt(p), "taking a number out of an array cannot be traced"),
        (lambda xp, p, g, m: 1.0, "must return an array for 'param', but got 1.0"),
        (lambda xp, p, g, m: None, "must return an array for 'param', but got None"),
    ],
)
def test_what_cannot_be_traced_is_named(expression, message):
    with pytest.raises(TraceError, match=message):
        program(expression)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda p: p, r"my_rule must return \(param, state\)"),
        (lambda p: (p, {}, 1), r"my_rule must return \(param, state\)"),
        (lambda p: (p, [p]), r"my_rule must return \(param, state\)"),
        (lambda p: None, r"my_rule must return \(param, state\).* but got None"),
        (lambda p: (p, {"m": None}), "must return an array for 'm', but got None"),
        (lambda p: (p, {"m": np.ones(2)}), "must return an array for 'm', but got array"),
        (lambda p: (p, {"grad": p}), "my_rule: state cannot be called 'param' or 'grad'"),
        (lambda p: (p, {"param": p}), "my_rule: state cannot be called 'param' or 'grad'"),
    ],
)
def test_a_wrong_return_value_is_shown(result, message):
    def my_rule(xp, param, grad, state, group):
        return result(param)

    my_rule.__qualname__ = "my_rule"
    with pytest.raises(TraceError, match=message):
        trace(my_rule, (), {}, {})


def test_an_array_kept_from_an_earlier_trace_is_refused():
    kept = []
    program(lambda xp, p, g, m: kept.append(p) or p)
    with pytest.raises(TraceError, match="array of an earlier step"):
        program(lambda xp, p, g, m: g + kept[0])
    with pytest.raises(TraceError, match="must return an array for 'param'"):
        program(lambda xp, p, g, m: kept[0])
