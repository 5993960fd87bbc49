"""Minimizing with and without SciPy: the loop, what ends it, and what it counts."""

from __future__ import annotations

import inspect
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.optimize import rosen, rosen_der
from specs import SPECS, Spec, case_id

import arrayopt as optim
from arrayopt import problems
from arrayopt.lr_scheduler import ChainedScheduler, ExponentialLR, ReduceLROnPlateau

START = [-1.2, 1.0]
DENSE = [spec for spec in SPECS if spec.kind not in ("sparse", "matrix")]


def by_arrayopt(fun: Any, x0: Any, algorithm: Any = optim.Adam, **options: Any) -> Any:
    return optim.minimize(fun, x0, algorithm, **options)


def by_scipy(fun: Any, x0: Any, algorithm: Any = optim.Adam, **options: Any) -> Any:
    """The same, through ``scipy.optimize.minimize``."""
    own = ("args", "jac", "tol", "callback")
    scipy = ("maxiter", "gtol", "ftol", "xtol", "progress", "disp")
    method = optim.scipy_method(
        algorithm, **{n: v for n, v in options.items() if n not in own + scipy}
    )
    return optimize.minimize(
        fun,
        x0,
        method=method,
        options={n: options[n] for n in scipy if n in options},
        **{n: options[n] for n in own if n in options},
    )


both = pytest.mark.parametrize("minimize", [by_arrayopt, by_scipy], ids=case_id)


A = np.array([[3.0, 1.0], [1.0, 2.0]])
B = np.array([1.0, -1.0])


def quadratic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Its minimum solves A x = B: x = (0.6, -0.8)."""
    return float(0.5 * x @ A @ x - B @ x), A @ x - B


@both
@pytest.mark.parametrize("spec", DENSE, ids=case_id)
def test_every_algorithm_finds_the_minimum_of_a_quadratic(minimize: Any, spec: Spec) -> None:
    result = minimize(quadratic, [2.0, 2.0], spec.cls, jac=True, gtol=1e-6, **spec.well)
    assert result.success
    assert result.status == 0
    assert "gradient is within gtol=1e-06" in result.message
    # |x - x*| <= |g| / (the smallest eigenvalue of A, which is 1.38)
    np.testing.assert_allclose(result.x, [0.6, -0.8], atol=2e-6)
    assert np.abs(result.jac).max() <= 1e-6


@both
@pytest.mark.parametrize(("algorithm", "options"), [("Adam", {"lr": 0.02}), ("LBFGS", {})])
def test_rosenbrock_and_beale(minimize: Any, algorithm: str, options: dict[str, Any]) -> None:
    cls = getattr(optim, algorithm)
    result = minimize(rosen, START, cls, jac=rosen_der, gtol=1e-6, **options)
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-4)
    beale = problems.beale()
    result = minimize(beale.fun, beale.start, cls, jac=beale.grad, gtol=1e-6, **options)
    np.testing.assert_allclose([result.x], beale.minima, atol=1e-4)


#: Neither to diverge nor to arrive within a dozen steps on Rosenbrock's function.
SLOWLY: dict[str, dict[str, Any]] = {"ASGD": {"lr": 1e-3}, "LBFGS": {"max_iter": 3, "lr": 0.1}}


@both
@pytest.mark.parametrize("spec", DENSE, ids=case_id)
def test_it_steps_as_an_optimizer_driven_by_hand(minimize: Any, spec: Spec) -> None:
    options = SLOWLY.get(spec.name, {})
    seen: list[np.ndarray] = []
    minimize(
        rosen, START, spec.cls, jac=rosen_der, gtol=0.0, maxiter=8, callback=seen.append, **options
    )
    x = np.array(START)
    exact = {"tolerance_grad": 0.0, "tolerance_change": 0.0} if spec.name == "LBFGS" else {}
    optimizer = spec.cls([x], **options, **exact)
    assert len(seen) == 8
    for point in seen:
        optimizer.step(lambda: (rosen(x), [rosen_der(x)]))
        assert point.tobytes() == x.tobytes()


@both
@pytest.mark.parametrize("spec", DENSE, ids=case_id)
def test_value_gradient_and_point_belong_together(minimize: Any, spec: Spec) -> None:
    for maxiter in (0, 1, 7):
        options = SLOWLY.get(spec.name, {})
        result = minimize(rosen, START, spec.cls, jac=rosen_der, maxiter=maxiter, **options)
        assert result.fun == rosen(result.x)
        assert result.jac.tolist() == rosen_der(result.x).tolist()


@both
def test_without_a_met_tolerance_the_best_point_is_returned(minimize: Any) -> None:
    values: list[float] = []
    result = minimize(
        rosen, START, jac=rosen_der, lr=0.5, maxiter=30, callback=lambda x: values.append(rosen(x))
    )
    assert (result.status, result.success) == (1, False)
    assert "Maximum number of iterations" in result.message
    assert result.fun == min(values) < values[-1]


# Evaluations


class Counted:
    """A function that counts its calls, and keeps what it was given."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.points: list[Any] = []

    def __call__(self, x: Any, *args: Any) -> Any:
        self.points.append(x)
        return self.function(x, *args)


@both
@pytest.mark.parametrize("spec", DENSE, ids=case_id)
def test_evaluations_are_counted(minimize: Any, spec: Spec) -> None:
    fun, jac = Counted(rosen), Counted(rosen_der)
    seen = [np.array(START)]
    options = {"maxiter": 12, "callback": seen.append, **SLOWLY.get(spec.name, {})}
    result = minimize(fun, START, spec.cls, jac=jac, **options)
    assert result.nit == 12
    assert result.nfev == result.njev == len(fun.points) == len(jac.points)
    # (Rprop stays where it is for a step when the gradient has changed its sign)
    moves = sum(not np.array_equal(a, b) for a, b in itertools.pairwise(seen))
    assert moves >= 10
    if spec.name == "LBFGS":
        assert result.nfev > 1 + moves
    else:
        assert result.nfev == 1 + moves
    both_at_once = Counted(lambda x: (rosen(x), rosen_der(x)))
    again = minimize(both_at_once, START, spec.cls, jac=True, **options)
    assert again.nfev == again.njev == len(both_at_once.points) == result.nfev


@both
def test_what_the_function_gets_is_its_own(minimize: Any) -> None:
    start = np.array(START)
    start.flags.writeable = False

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = rosen(x), rosen_der(x)
        x[:] = np.nan  # whatever it does to it
        shared[:] = gradient
        return value, shared

    shared = np.zeros(2)
    counted = Counted(lambda x: (rosen(x), rosen_der(x)))
    result = minimize(fun, start, jac=True, maxiter=5)
    expected = minimize(counted, start, jac=True, maxiter=5)
    assert start.tolist() == START
    assert result.x.tolist() == expected.x.tolist()
    assert result.jac.tolist() == expected.jac.tolist()
    kept = [x.copy() for x in counted.points]
    minimize(counted, start, jac=True, maxiter=1)
    assert len({x.tobytes() for x in kept}) == 6  # each is another point


@both
def test_differences_stand_for_a_gradient(minimize: Any) -> None:
    counted = Counted(rosen)
    result = minimize(counted, [1.3, 0.7, 0.8], lr=0.02, maxiter=1)
    assert result.nfev == len(counted.points) == 2 * (1 + 3)
    assert result.njev == 0
    result = minimize(rosen, START, optim.LBFGS, line_search_fn="strong_wolfe", gtol=1e-4)
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-3)
    np.testing.assert_allclose(result.jac, rosen_der(result.x), atol=1e-4)


@both
def test_further_arguments(minimize: Any) -> None:
    result = minimize(
        lambda x, a, b: ((x - a) ** 2).sum() * b,
        [0.0, 0.0],
        optim.SGD,
        jac=lambda x, a, b: 2 * b * (x - a),
        args=(3.0, 0.5),
        lr=0.5,
    )
    np.testing.assert_allclose(result.x, [3, 3], atol=1e-5)
    result = minimize(lambda x, a: ((x - a) ** 2).sum(), [0.0], optim.SGD, args=2.0, lr=0.25)
    np.testing.assert_allclose(result.x, [2], atol=1e-5)


@both
def test_integers_become_double_precision(minimize: Any) -> None:
    start = np.array([2, 2])
    result = minimize(quadratic, start, optim.SGD, jac=True, lr=0.3)
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, [0.6, -0.8], atol=1e-4)
    assert start.tolist() == [2, 2]


# What ends it


def slow(x: np.ndarray) -> tuple[float, np.ndarray]:
    """x**2 / 2: with SGD, each step takes x to (1 - lr) x."""
    return float(x @ x / 2), x.copy()


@both
@pytest.mark.parametrize(
    ("tolerance", "steps", "message"),
    [
        ({"gtol": 1e-3}, 10, "gradient is within gtol=0.001"),  # 2**-10 < 1e-3
        ({"tol": 1e-3}, 10, "gradient is within gtol=0.001"),
        ({"tol": 1.0, "gtol": 1e-3}, 10, "gradient is within gtol=0.001"),
        # (4**-(n-1) - 4**-n) / 2 <= 1e-3: 3 / 8 * 4**-(n-1) <= 1e-3 from n = 6 on
        ({"ftol": 1e-3, "gtol": 0}, 6, "value changed within ftol=0.001"),
        # 2**-n <= 1e-2 (1e-2 + 2**-n) from n = 14 on
        ({"xtol": 1e-2, "gtol": 0}, 14, "x changed within xtol=0.01"),
        ({}, 17, "gradient is within gtol=1e-05"),  # 2**-17 < 1e-5
    ],
)
def test_tolerances(minimize: Any, tolerance: Any, steps: int, message: str) -> None:
    result = minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, **tolerance)
    assert (result.nit, result.status, result.success) == (steps, 0, True)
    assert result.x.tolist() == [2.0**-steps]
    assert message in result.message


@both
def test_it_may_be_over_before_it_begins(minimize: Any) -> None:
    result = minimize(slow, [0.0], jac=True)
    assert (result.nit, result.nfev, result.success) == (0, 1, True)
    result = minimize(slow, [1.0], jac=True, maxiter=0)
    assert (result.nit, result.nfev, result.status) == (0, 1, 1)


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["value", "gradient"])
def test_what_is_not_finite_ends_it_at_the_best_point(
    minimize: Any, bad: float, where: str
) -> None:
    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = slow(x)
        if x[0] < 0.1:
            return (bad, gradient) if where == "value" else (value, gradient * bad)
        return value, gradient

    result = minimize(fun, [1.0], optim.SGD, jac=True, lr=0.5)
    assert (result.status, result.success, result.nit) == (3, False, 4)
    assert result.x.tolist() == [0.125]
    assert "not finite after 4 steps; x is the best before" in result.message
    result = minimize(fun, [0.05], optim.SGD, jac=True)
    assert (result.status, result.nit) == (3, 0)
    assert "not finite at x0" in result.message


@both
def test_lbfgs_ends_where_it_cannot_move(minimize: Any) -> None:
    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x @ x), -2 * x  # the gradient of something else: uphill all around

    result = minimize(fun, [1.0], optim.LBFGS, jac=True, line_search_fn="strong_wolfe")
    assert (result.status, result.success, result.x.tolist()) == (2, False, [1.0])
    assert "has not moved x" in result.message


@both
def test_a_callback_sees_each_point(minimize: Any) -> None:
    points: list[np.ndarray] = []
    results: list[Any] = []

    def by_keyword(intermediate_result: Any) -> None:
        results.append(intermediate_result)

    first = minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, maxiter=4, callback=points.append)
    second = minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, maxiter=4, callback=by_keyword)
    assert [x.tolist() for x in points] == [[0.5], [0.25], [0.125], [0.0625]]
    assert [r.x.tolist() for r in results] == [x.tolist() for x in points]
    assert [r.fun for r in results] == [0.5**3, 0.5**5, 0.5**7, 0.5**9]
    assert [r.nit for r in results] == [1, 2, 3, 4]
    assert type(results[0]) is type(first) is type(second)


@both
def test_a_callback_stops_it(minimize: Any) -> None:
    def raises(x: np.ndarray) -> None:
        if x[0] < 0.2:
            raise StopIteration

    for callback, message in (
        (raises, "`callback` raised `StopIteration`."),
        (lambda x: x[0] < 0.2, "`callback` returned True."),
    ):
        result = minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, callback=callback)
        assert (result.status, result.success, result.nit) == (99, False, 3)
        assert result.message == message
        assert result.x.tolist() == [0.125]


@both
def test_a_scheduler_is_stepped(minimize: Any) -> None:
    points: list[np.ndarray] = []
    options = {"jac": True, "maxiter": 3, "callback": points.append, "lr": 0.5}
    minimize(slow, [1.0], optim.SGD, scheduler=lambda opt: ExponentialLR(opt, 0.5), **options)
    # rates 1/2, 1/4, 1/8
    assert [x.tolist() for x in points] == [[0.5], [0.375], [0.328125]]


def test_a_scheduler_may_look_at_the_value() -> None:
    made: list[Any] = []

    def plateau(opt: optim.Optimizer) -> Any:
        made.append(ChainedScheduler([ReduceLROnPlateau(opt, factor=0.5, patience=0)]))
        return made[-1]

    optim.minimize(
        lambda x: (1.0, np.ones(1)), [1.0], optim.SGD, jac=True, scheduler=plateau, maxiter=3, lr=1
    )
    assert made[0].get_last_lr() == [0.25]  # the second value and the third are no better


# SciPy


def test_scipy_gets_a_result_of_its_own() -> None:
    result = by_scipy(rosen, START, jac=rosen_der, maxiter=3)
    assert type(result) is optimize.OptimizeResult
    assert {"x", "fun", "jac", "nit", "nfev", "njev", "status", "success", "message"} == {*result}
    ours = by_arrayopt(rosen, START, jac=rosen_der, maxiter=3)
    assert type(ours) is optim.MinimizeResult


def test_scipy_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    by_scipy(slow, [1.0], optim.SGD, jac=True, lr=0.5, disp=True)
    printed = capsys.readouterr().out
    assert "Optimization terminated successfully" in printed
    assert "Iterations: 17\n" in printed
    assert "Function evaluations: 18\n" in printed


def test_scipy_says_what_is_not_used() -> None:
    method = optim.scipy_method(optim.SGD)
    with pytest.warns(optimize.OptimizeWarning, match="Unknown solver options: maxfun, eps"):
        optimize.minimize(slow, [0.0], jac=True, method=method, options={"maxfun": 3, "eps": 1})
    for name in ("hess", "hessp"):
        with pytest.warns(RuntimeWarning, match=f"SGD does not use {name}"):
            optimize.minimize(slow, [0.0], jac=True, method=method, **{name: lambda x: x})


@pytest.mark.parametrize(
    "given",
    [
        {"bounds": [(0, 1)]},
        {"bounds": optimize.Bounds([0], [1])},
        {"constraints": {"type": "eq", "fun": sum}},
        {"constraints": [optimize.LinearConstraint([[1]], 0, 1)]},
    ],
)
def test_scipy_cannot_have_bounds_or_constraints(given: Any) -> None:
    method = optim.scipy_method(optim.SGD)
    with pytest.raises(ValueError, match=r"SGD minimizes without bounds and constraints, but got"):
        optimize.minimize(slow, [0.0], jac=True, method=method, **given)


def test_a_scipy_method_can_be_used_again() -> None:
    method = optim.scipy_method(optim.Adam, lr=0.1)
    first, second = (
        optimize.minimize(rosen, START, jac=rosen_der, method=method, options={"maxiter": 20})
        for _ in range(2)
    )
    assert first.x.tolist() == second.x.tolist()


# Structures and libraries


def test_nested_arrays() -> None:
    seen = []

    def fun(x: Any) -> tuple[float, Any]:
        seen.append(x)
        w, (b,), frozen = x["w"], x["more"], x["frozen"]
        value = ((w - 3) ** 2).sum() + (b + 1) ** 2 + frozen.sum()
        return value, {"w": 2 * (w - 3), "more": (2 * (b + 1),), "frozen": None}

    start = {"w": np.zeros((2, 2)), "more": (0.0,), "frozen": np.ones(1)}
    result = optim.minimize(fun, start, optim.SGD, jac=True, lr=0.25)
    assert result.success
    np.testing.assert_allclose(result.x["w"], 3 * np.ones((2, 2)), atol=1e-5)
    np.testing.assert_allclose(result.x["more"], (-1,), atol=1e-5)
    assert result.x["frozen"].tolist() == [1.0]
    assert result.jac["frozen"] is None
    assert (start["w"] == 0).all()
    assert all(type(x["more"]) is tuple and x["w"].shape == (2, 2) for x in seen)


def test_nested_arrays_by_differences() -> None:
    def fun(x: Any) -> float:
        return ((x["w"] - 3) ** 2).sum() + (x["b"] + 1) ** 2

    result = optim.minimize(fun, {"w": np.zeros((2, 2)), "b": 0}, optim.SGD, lr=0.25)
    np.testing.assert_allclose(result.x["w"], 3 * np.ones((2, 2)), atol=1e-5)
    np.testing.assert_allclose(result.x["b"], -1, atol=1e-5)


@pytest.mark.parametrize("start", [3.0, [[3.0, 1.0], [2.0, 1.0]], (1, 2)])
def test_numbers_and_lists_of_them_are_one_array(start: Any) -> None:
    result = optim.minimize(lambda x: ((x**2).sum(), 2 * x), start, optim.SGD, jac=True, lr=0.25)
    assert result.x.shape == np.shape(start)
    np.testing.assert_allclose(result.x, np.zeros(np.shape(start)), atol=1e-5)


@pytest.mark.parametrize("asarray", [torch.tensor, jnp.asarray, strict.asarray], ids=case_id)
@pytest.mark.parametrize("algorithm", ["Adam", "LBFGS"])
def test_other_libraries(asarray: Any, algorithm: str) -> None:
    def fun(x: Any) -> tuple[Any, Any]:
        return (x - 1) @ (x - 1), 2 * (x - 1)

    start = asarray([3.0, -2.0])
    result = optim.minimize(fun, start, getattr(optim, algorithm), jac=True, lr=0.1, tol=1e-4)
    assert type(result.x) is type(start)
    assert result.success
    np.testing.assert_allclose(np.asarray(result.x), [1, 1], atol=1e-4)
    assert np.asarray(start).tolist() == [3, -2]


def test_complex_numbers() -> None:
    # the gradient of |z - c|**2 in torch's convention, 2 (z - c)
    result = optim.minimize(
        lambda z: (float(np.sum(np.abs(z - (1 - 2j)) ** 2)), 2 * (z - (1 - 2j))),
        np.zeros(2, complex),
        optim.SGD,
        jac=True,
        lr=0.25,
    )
    np.testing.assert_allclose(result.x, [1 - 2j, 1 - 2j], atol=1e-5)


# The bar, and libraries that are not there


@both
def test_a_bar_shows_value_and_gradient(minimize: Any, capsys: pytest.CaptureFixture[str]) -> None:
    minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, maxiter=4, progress=True)
    shown = capsys.readouterr().err
    assert "SGD: 100%" in shown
    assert "4/4" in shown
    assert "fun=0.00195312" in shown
    assert "gradient=6.25e-02" in shown
    minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, maxiter=4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("tqdm", lambda: optim.minimize(slow, [1.0], jac=True, progress=True), "progress"),
        ("scipy.optimize", lambda: optim.minimize(rosen, START), "scipy"),
    ],
)
def test_a_missing_library_is_named(
    module: str, call: Any, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'arrayopt\[{extra}\]'"):
        call()


# Bad input

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"fun": 3}, TypeError, "fun: expected a function, but got int"),
    ({"jac": "2-point"}, TypeError, "jac: expected a function, True .* but got '2-point'"),
    ({"fun": rosen}, TypeError, "jac=True: expected fun to return a pair"),
    ({"fun": lambda x: ("a", x)}, TypeError, "fun: expected a real number .* got str: 'a'"),
    ({"fun": lambda x: (1j, x)}, TypeError, "fun: expected a real number .* complex"),
    ({"fun": lambda x: (x, x)}, TypeError, "fun: expected a real number .* ndarray"),
    ({"fun": lambda x: (1.0, x[:1])}, RuntimeError, r"x: expected a gradient of shape \(2,\)"),
    ({"fun": lambda x: (1.0, 1j * x)}, RuntimeError, "x: a gradient of dtype complex128 cannot"),
    ({"fun": lambda x: (1.0, {"w": x})}, RuntimeError, "x: expected a gradient of shape"),
    ({"x0": {"w": "a"}}, TypeError, r"x\['w'\]: expected an array or a number, but got str"),
    ({"x0": [np.ones(1, bool)]}, RuntimeError, r"x\[0\]: expected real or complex .* bool"),
    ({"algorithm": "Adam"}, TypeError, "algorithm: expected an optimizer class, .* 'Adam'"),
    ({"maximize": True}, ValueError, "maximize=True: minimize the negative"),
    ({"lr": -1}, ValueError, "Invalid learning rate: -1"),
    ({"maxiter": 1.5}, ValueError, "maxiter: expected a non-negative integer, but got 1.5"),
    ({"gtol": -1}, ValueError, "gtol: expected a number in .* but got -1"),
    ({"ftol": "x"}, ValueError, "ftol: expected a number"),
    ({"callback": 3}, TypeError, "callback: expected a function, but got int"),
    ({"scheduler": 3}, TypeError, "scheduler: expected a function that makes a scheduler"),
    ({"scheduler": lambda opt: None}, TypeError, "scheduler: expected .* it returned NoneType"),
    (
        {"fun": np.sum, "x0": np.ones(2, np.float32), "jac": None},
        TypeError,
        "x: a gradient by finite differ",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
def test_bad_input_is_named(change: dict[str, Any], error: Any, message: str) -> None:
    given: dict[str, Any] = {"fun": slow, "x0": [1.0, 2.0], "jac": True, **change}
    with pytest.raises(error, match=message):
        optim.minimize(**given)


def test_a_method_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optim.scipy_method(optim.Adam, lr=-1)
    with pytest.raises(TypeError, match="algorithm: expected an optimizer class"):
        optim.scipy_method("adam")


def test_a_callback_that_tells_no_signature_gets_the_point() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    result = optim.minimize(slow, [1.0], optim.SGD, jac=True, lr=0.5, maxiter=1, callback=max)
    assert result.nit == 1
