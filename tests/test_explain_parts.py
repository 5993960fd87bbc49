"""The parts of an explanation by themselves: symbols, expressions, texts, and watching."""

import math
import operator

import numpy as np
import pytest

from arrayopt.cli import main
from arrayopt.explaining.expressions import (
    Asked,
    Branch,
    Line,
    Number,
    Operation,
    Symbol,
    evaluate,
    lines,
    tidy,
)
from arrayopt.explaining.layout import Names, latex, python, text
from arrayopt.explaining.surroundings import (
    SymbolicNamespace,
    SymbolicState,
    with_symbolic_math,
)
from arrayopt.explaining.symbolic import (
    Run,
    SymbolicArray,
    SymbolicNumber,
    Undecided,
    expression_of,
)
from arrayopt.explaining.symbols import Notation
from arrayopt.explaining.texts import LaTeX, Python, Text
from arrayopt.explaining.unicode import unicode
from arrayopt.explaining.watching import codes_of, watching
from arrayopt.trace import TraceError

X, Y, Z = (Symbol(name, "option") for name in "xyz")
VALUES = {X: 2.5, Y: 1.25, Z: 3.0}
ARITHMETIC = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow,
]  # fmt: skip
COMPARING = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def number(symbol, run=None, known=True):
    return SymbolicNumber(symbol, VALUES[symbol] if known else None, run or Run())


def value(expression, xp=np):
    return evaluate(expression, VALUES.__getitem__, xp)


@pytest.mark.parametrize("function", ARITHMETIC, ids=lambda function: function.__name__)
def test_arithmetic_is_written_down_and_done(function) -> None:
    x, y = number(X), number(Y)
    for found, expected in (
        (function(x, y), function(2.5, 1.25)),
        (function(x, 3), function(2.5, 3)),
        (function(3, x), function(3, 2.5)),
    ):
        assert found.value == expected
        assert value(found.expression) == expected
    assert function(number(X, known=False), 3).value is None
    a = SymbolicArray(X)
    for found, expected in (
        (function(a, SymbolicArray(Y)), function(2.5, 1.25)),
        (function(a, y), function(2.5, 1.25)),
        (function(y, a), function(1.25, 2.5)),
        (function(3, a), function(3, 2.5)),
    ):
        assert isinstance(found, SymbolicArray)
        assert value(found.expression) == expected
    for other in ("x", None, True):
        with pytest.raises(TypeError):
            function(x, other)
        with pytest.raises(TypeError):
            function(a, other)


@pytest.mark.parametrize("function", COMPARING, ids=lambda function: function.__name__)
def test_comparisons_decide_for_numbers_and_are_masks_for_arrays(function) -> None:
    assert function(number(X), number(Y)) is function(2.5, 1.25)
    assert function(number(X), 2.5) is function(2.5, 2.5)
    assert value(function(SymbolicArray(X), number(Y)).expression) is function(2.5, 1.25)
    assert isinstance(function(number(X), SymbolicArray(Y)), SymbolicArray)
    run = Run((True,))
    unknown = SymbolicNumber(Symbol("step"), None, run)
    assert function(unknown, 2) is True
    assert function(unknown, 2) is True  # asked once
    assert len(run.events) == 1
    with pytest.raises(Undecided):
        function(unknown, 3)


def test_signs_roots_and_numbers_taken_out() -> None:
    x = number(X)
    assert value((-x).expression) == -2.5
    assert (+x) is x
    assert value(abs(-x).expression) == 2.5
    assert bool(x) is True
    assert float(x) == 2.5
    assert int(x) == 2
    assert list(range(SymbolicNumber(X, 3, Run()))) == [0, 1, 2]
    assert value(np.sqrt(x).expression) == math.sqrt(2.5)
    with pytest.raises(TypeError):
        np.add.reduce(x)
    with pytest.raises(TypeError):
        np.add(x, np.ones(2))
    unknown = number(X, known=False)
    for take in (float, int, operator.index):
        with pytest.raises(TraceError, match="took a number out"):
            take(unknown)
    a = SymbolicArray(X)
    assert value((-a).expression) == -2.5
    assert (+a) is a
    assert value(abs(-a).expression) == 2.5
    assert value((~(a > 1)).expression) == False  # noqa: E712
    for use in (bool, list, lambda a: a.shape):
        with pytest.raises(TraceError):
            use(a)
    assert a.T.expression == a.mT.expression == Operation("transpose", (X,))
    assert (a @ a).expression == Operation("matmul", (X, X))
    assert expression_of("x") is None


def test_namespace_and_state() -> None:
    xp, a = SymbolicNamespace(), SymbolicArray(X)
    assert xp.pi == math.pi
    assert xp.sum(a, axis=0).expression == Operation("sum", (X,), (("axis", 0),))
    assert value(xp.linalg.norm(a).expression) == 2.5
    with pytest.raises(TraceError, match=r"xp\.sqrt in a rule takes arrays and numbers"):
        xp.sqrt("x")
    there = SymbolicState({"m": a}, {"b": a}, Run((True,)))
    assert there["m"] is there["b"] is a
    assert dict(there) == {"m": a, "b": a}
    missing = SymbolicState({"m": a}, {"b": a}, Run((False,)))
    assert len(missing) == 1
    assert missing.get("b") is None
    assert "x" not in missing


def with_roots(number):
    return math.sqrt(number) + math.pi + math.floor(2.5)


def test_functions_of_math_take_symbolic_numbers() -> None:
    found = with_symbolic_math(with_roots)(number(X))
    assert value(found.expression) == math.sqrt(2.5) + math.pi + 2
    assert with_symbolic_math(len) is len


def op(function, *arguments):
    return Operation(function, tuple(arguments))


TEXTS = [
    (op("subtract", X, op("add", Y, Z)), "x - (y + z)", "x − (y + z)", "x - (y + z)"),
    (op("add", X, op("subtract", Y, Z)), "x + y - z", "x + y − z", "x + (y - z)"),
    (op("add", X, op("negative", Y)), "x + (-y)", "x + (−y)", "x + (-y)"),
    (op("negative", op("add", X, Y)), "-(x + y)", "−(x + y)", "-(x + y)"),
    (op("multiply", X, op("multiply", Y, Z)), "x y z", "x·y·z", "x * (y * z)"),
    (op("multiply", Number(2), Number(3.0)), r"2 \cdot 3", "2·3", "2 * 3.0"),
    (op("divide", op("divide", X, Y), Z), r"\frac{\frac{x}{y}}{z}", "x / y / z", "x / y / z"),
    (op("divide", X, op("multiply", Y, Z)), r"\frac{x}{y z}", "x / (y·z)", "x / (y * z)"),
    (op("pow", op("pow", X, Y), Z), "(x^{y})^{z}", "(xʸ)ᶻ", "(x**y)**z"),
    (op("pow", op("negative", X), Number(2)), "(-x)^{2}", "(−x)²", "(-x)**2"),
    (op("pow", X, op("divide", Y, Z)), r"x^{\frac{y}{z}}", "x^(y / z)", "x**(y / z)"),
    (op("negative", op("pow", X, Y)), "-x^{y}", "−xʸ", "-x**y"),
    (op("sqrt", op("add", X, Y)), r"\sqrt{x + y}", "√(x + y)", "xp.sqrt(x + y)"),
    (op("floor_divide", X, Y), "x // y", "x // y", "x // y"),
    (op("remainder", X, Y), r"x \bmod y", "x mod y", "x % y"),
    (op("matmul", X, op("transpose", Y)), r"x y^{\mathsf{T}}", "x yᵀ", "x @ y.T"),
    (op("logical_and", op("less", X, Y), op("greater_equal", Y, Z)),
     r"x < y \land y \geq z", "x < y and y ≥ z", "(x < y) & (y >= z)"),
    (op("logical_not", op("equal", X, Y)), r"\lnot (x = y)", "not x = y", "xp.logical_not(x == y)"),
    (op("hypot", X, Y), r"\operatorname{hypot}\left(x, y\right)", "hypot(x, y)", "xp.hypot(x, y)"),
    (op("math.exp", X), r"\exp\left(x\right)", "exp(x)", "math.exp(x)"),
    (Operation("sum", (X,), (("axis", 0),)), r"\operatorname{sum}\left(x, \mathrm{axis}=0\right)",
     "sum(x, axis=0)", "xp.sum(x, axis=0)"),
    (Number(-2.5), "-2.5", "−2.5", "-2.5"),
    (Number(1e-8), "10^{-8}", "1e−08", "1e-08"),
    (Number(2.5e20), r"2.5 \cdot 10^{20}", "2.5e+20", "2.5e+20"),
    (Number(math.inf), r"\infty", "inf", 'float("inf")'),
    (op("minimum", X, Y), r"\min\left(x, y\right)", "min(x, y)", "xp.minimum(x, y)"),
    (op("add", op("where", op("less", X, Y), X, Y), Z),
     r"\left(\begin{cases} x & \text{if } x < y \\ y & \text{otherwise} \end{cases}\right) + z",
     "(x if x < y else y) + z", "xp.where(x < y, x, y) + z"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "as_latex", "as_text", "as_python"), TEXTS)
def test_parentheses_are_where_they_have_to_be(expression, as_latex, as_text, as_python) -> None:
    def name(symbol):
        return symbol.name

    assert LaTeX(name)(expression) == as_latex
    assert Text(name)(expression) == as_text
    assert Python(name)(expression) == as_python


@pytest.mark.parametrize("expression", [case[0] for case in TEXTS])
def test_python_means_the_expression(expression) -> None:
    source = Python(lambda symbol: symbol.name)(expression)
    arrays = {"x": np.eye(2) + 1, "y": np.ones((2, 2)) * 1.25, "z": np.full((2, 2), 3.0)}
    if getattr(expression, "function", "") == "math.exp":
        arrays["x"] = 2.5
    if "transpose" in str(expression):
        expected = arrays["x"] @ arrays["y"].T
    else:
        expected = evaluate(expression, lambda symbol: arrays[symbol.name], np)
    found = eval(source, {"xp": np, "math": math, **arrays})
    assert np.array_equal(found, expected, equal_nan=True)


def test_what_papers_write() -> None:
    for expression, expected in (
        (op("math.sqrt", X), op("sqrt", X)),
        (op("square", X), op("pow", X, Number(2))),
        (op("reciprocal", X), op("divide", Number(1), X)),
        (op("subtract", Number(1), op("subtract", Number(1), X)), X),
        (op("subtract", X, op("multiply", op("subtract", X, Y), Z)),
         op("add", op("multiply", Z, Y), op("multiply", op("subtract", Number(1), Z), X))),
        (op("subtract", X, op("multiply", op("subtract", Z, Y), Z)), None),
        (op("add", X, op("multiply", Z, op("subtract", Y, X))), None),
        (op("add", X, op("multiply", op("subtract", Number(1), Z), op("subtract", Y, Z))), None),
    ):  # fmt: skip
        assert tidy(expression) == (expected or expression)
        if expression.function != "reciprocal":
            assert value(tidy(expression)) == pytest.approx(value(expression), rel=1e-15)


def test_values_of_roots_and_functions_of_math() -> None:
    assert value(op("sqrt", X)) == math.sqrt(2.5)
    assert value(op("math.log", X)) == math.log(2.5)
    assert value(op("exp", X)) == np.exp(2.5)


def test_conditions_and_their_opposites() -> None:
    exists = op("exists", Symbol("momentum_buffer"))
    names = Notation()
    assert LaTeX(names)(exists) == r"b_{t-1} \text{ exists}"
    assert LaTeX(names).negated(exists) == r"\text{there is no } b_{t-1}"
    show = Text(lambda symbol: symbol.name)
    assert show.negated(exists) == "there is no momentum_buffer"
    assert show.negated(op("less", X, Y)) == "x ≥ y"
    assert show.negated(op("not_equal", X, Y)) == "x = y"
    assert show.negated(op("isnan", X)) == "not isnan(x)"
    assert LaTeX(str).negated(op("isnan", Number(1))).startswith(r"\text{not } ")


def test_nested_branches_in_all_texts() -> None:
    a, b = Symbol("a", "local"), Symbol("b", "local")
    inner = Branch(op("less", Y, Z), (Line(a, X), Line(b, Y)), (Line(a, Z),))
    block = (Branch(op("less", X, Y), (inner,), ()), Asked(op("less", X, Z), False))
    assert [line.name for line in lines(block)] == ["a", "b", "a"]
    found = latex(block, Notation())
    assert r"a_{t} &= z \quad \text{if } x < y \text{ and } y \geq z" in found
    assert r"&\text{(since } x \geq z \text{)}" in found
    assert text(block, Notation()).splitlines() == [
        "if x < y:", "    if y < z:", "        aₜ = x", "        bₜ = y", "    if y ≥ z:",
        "        aₜ = z", "(since x ≥ z)",
    ]  # fmt: skip
    source = python(block, "My own")
    assert source.startswith("def my_own(xp, param, grad, state, group):\n")
    assert '        if group["y"] < group["z"]:\n            a = group["x"]\n' in source
    empty = (Branch(op("less", X, Y), (), (Line(a, X),)),)
    assert "        pass\n    else:\n" in python(empty, "f")
    assert r"\text{if } x \geq y" in latex(empty, Notation())


def test_a_name_is_marked_as_often_as_need_be() -> None:
    one, two, three = (Symbol("a", "local", version=version) for version in range(3))
    uses = Line(Symbol("b", "local"), op("add", op("add", one, two), three))
    block = (Line(one, X), Line(two, Y), Line(three, Z), uses)
    names = Names(block, lambda symbol: symbol.name, lambda name, count: name + "'" * count)
    assert len({names(one), names(two), names(three)}) == 3


def test_letters() -> None:
    names = Notation({"speed": "s_{@}", "pair": ("p", "q", "r")})
    for symbol, expected in (
        (Symbol("alpha", "option"), r"\alpha"),
        (Symbol("beta2", "local"), r"\beta_{2,t}"),
        (Symbol("rho_inf", "constant"), r"\rho_{\infty}"),
        (Symbol("mu_max", "option"), r"\mu_{\max}"),
        (Symbol("nu_start", "option"), r"\nu_{\mathrm{start}}"),
        (Symbol("v_bar"), r"\bar v_{t-1}"),
        (Symbol("my_thing"), r"\mathrm{my\_thing}_{t-1}"),
        (Symbol("_x", "local"), r"\mathrm{\_x}_{t}"),
        (Symbol("speed"), "s_{t-1}"),
        (Symbol("speed", "after"), "s_{t}"),
        (Symbol("pair", "option", 2), "r"),
        (Symbol("pair", "option", 3), r"\mathrm{pair}_{4}"),
        (Symbol("param", "local"), r"\theta_{t-1}"),
        (Symbol("param", "after"), r"\theta_{t}"),
    ):
        assert names(symbol) == expected
    assert unicode(r"\mathrm{my\_thing}_{t-1}") == "my_thingₜ₋₁"
    assert unicode(r"\rho_{\infty}") == "ρ_∞"
    assert unicode(r"x_{q\&}") == "x_(q&)"


def test_watching() -> None:
    class Base:
        def rule(self, x):
            x = x + 1
            return x  # noqa: RET504

    class Derived(Base):
        def rule(self, x):
            x = 2 * x
            return super().rule(x)

    seen = []
    with watching(codes_of(Derived), lambda name, found: seen.append((name, found))):
        assert Derived().rule(5) == 11
    assert [found for found in seen if found[0] == "x"] == [("x", v) for v in (5, 10, 10, 11)]
    assert codes_of(type("Odd", (), {"rule": len})) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adam", "--option", "lr=-1"], "Invalid learning rate: -1"),
        ([], "expected either an ALGORITHM or --script FILE:NAME"),
        (["adam", "--script", __file__ + ":X"], "expected either an ALGORITHM"),
        (["--script", __file__ + ":nothing"], "has no class or function 'nothing'"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, capsys) -> None:
    assert main(["explain", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--script=nothing", "--script=nothing.py:X", "--option=lr"])
def test_arguments_that_cannot_be_read(argument, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["explain", argument])
    assert "expected" in (err := capsys.readouterr().err) or "there is no file" in err


def test_a_script_that_fails_is_blamed(tmp_path, capsys) -> None:
    script = tmp_path / "broken_script.py"
    script.write_text("x = 1 / 0\n")
    assert main(["explain", "--script", f"{script}:X"]) == 2
    assert "ZeroDivisionError" in (error := capsys.readouterr().err)
    assert "line 1" in error
