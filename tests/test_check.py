"""The comparison of optimizers: it finds agreement where there is, and every kind of fault."""

from __future__ import annotations

import inspect
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numerical import differences
from rich.console import Console
from specs import BY_NAME, SPECS, TORCHS

import arrayopt as optim
from arrayopt.check import contestants, measure
from arrayopt.check.cases import BOUND, OPTIONS, bound_of
from arrayopt.check.comparison import Comparison
from arrayopt.check.contestants import contestant
from arrayopt.check.measure import Divergence, Errors, Extent, relative, ulps
from arrayopt.check.page import page
from arrayopt.check.plan import planned
from arrayopt.check.report import Report
from arrayopt.check.streams import STREAMS, Problem, Rare
from arrayopt.check.table import summary_table
from arrayopt.cli import main
from arrayopt.sparse_grad import SparseGrad
from arrayopt.testing import assert_matches, assert_matches_torch

QUICK: dict[str, Any] = {"steps": 12, "implementation": ["for-loop", "foreach"]}


# Agreement


def test_every_algorithm_and_option_agrees_with_torch() -> None:
    settings: dict[str, Any] = {"steps": 25, "implementation": ["for-loop", "foreach"]}
    report = optim.compare(**settings)
    assert report.ok, str(report)
    assert {row.subject for row in report} == {f"arrayopt.{spec.name}" for spec in SPECS}
    for spec in SPECS:
        lone = spec.reference and optim.compare(spec.name, spec.reference, **settings)
        assert lone is None or lone.ok, str(lone)
        rows = [row for row in lone or report if row.subject == f"arrayopt.{spec.name}"]
        options = [row.options for row in rows]
        assert all(each in options for each in spec.options)
        ways = {"for-loop"} if spec.kind != "elementwise" else {"for-loop", "foreach"}
        assert {row.implementation for row in rows} == ways
        streams = {"problem"} if spec.kind == "closure" else set(STREAMS)
        assert {row.stream for row in rows} == streams
        dtypes = {"float64"} if spec.kind == "closure" else {"float64", "float32"}
        assert {row.dtype for row in rows} == dtypes
        for row in rows:
            names = {name for key, own in spec.state.items() for name in own if _on(row, key)}
            assert set(row.compared) == {"param", *names} - {"step", "func_evals", "n_iter"}
            assert not row.alone
    lacking = [reason for reason in report.lacking if "which has no" not in reason]
    assert [reason.partition(": ")[0] for reason in lacking] == [
        "torch.Muon with its rounding to bfloat16, which is left out",
        "torch.LBFGS in float32",
    ]
    assert len(report.lacking) - len(lacking) == len(SPECS) - len(TORCHS)


def _on(row: Comparison, option: str) -> bool:
    return not option or bool(row.options.get(option))


def test_the_fused_implementation_takes_part() -> None:
    report = optim.compare(["SGD", "RAdam"], steps=8)
    assert report.ok
    assert {row.implementation for row in report} == {"for-loop", "foreach", "fused"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "complex128"])
def test_other_dtypes(dtype: str) -> None:
    algorithms = ["SGD", "Adam", "RMSprop", "Rprop"]
    report = optim.compare(algorithms, dtype=dtype, **QUICK)
    assert report.ok, str(report)
    assert {row.dtype for row in report} == {dtype}
    assert all(row.error is not None for row in report)


def test_what_torch_refuses_is_told() -> None:
    report = optim.compare("SparseAdam", dtype="complex64", steps=2)
    assert not report.ok  # nothing was compared
    assert report.verdict == "nothing was compared"
    assert "SparseAdam does not support complex parameters" in report.lacking[0]


def test_what_an_older_torch_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adam(torch.optim.Adam):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0,
                     amsgrad=False, *, foreach=None, maximize=False):  # fmt: skip
            super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach,
                             maximize=maximize)  # fmt: skip

    contestants._named.cache_clear()
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    report = optim.compare("Adam", **QUICK)
    contestants._named.cache_clear()
    assert report.ok
    installed = f"in version {torch.__version__.partition('+')[0]}"
    assert len(report.lacking) == 1
    assert report.lacking[0].startswith(f"torch.Adam has no decoupled_weight_decay {installed}")
    assert len(report) == 2 * 2 * 3 * (len(OPTIONS["Adam"]) - 1)


@pytest.fixture
def adamax(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[torch.optim.Optimizer]]:
    """torch lacks one of our algorithms, and this is a reference for it."""

    class Adamax(torch.optim.Adamax):
        pass

    contestants._named.cache_clear()
    monkeypatch.delattr(torch.optim, "Adamax")
    yield Adamax
    contestants._named.cache_clear()


@pytest.mark.usefixtures("adamax")
def test_what_torch_lacks_is_compared_with_the_for_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = optim.compare("Adamax", steps=2, stream="fixed")
    assert report.ok
    assert {(row.against, row.implementation) for row in report} == {
        ("arrayopt.Adamax", "foreach"),
        ("arrayopt.Adamax", "fused"),
    }
    message = (
        "arrayopt.Adamax with torch, which has no Adamax; it is compared with the for-loop of "
        "arrayopt.Adamax instead"
    )
    assert report.lacking == (message,)
    with pytest.raises(AssertionError, match=f"torch lacks it\n  not compared: {message}"):
        assert_matches_torch("Adamax", steps=2, stream="fixed")
    with pytest.raises(ValueError, match=r"has no Adamax; compare it with arrayopt\.Adamax"):
        optim.compare("Adamax", "torch.Adamax")
    report = optim.compare("Adamax", steps=2, implementation="for-loop")
    assert not report.ok  # with itself it is not compared
    assert report.lacking == (message,)
    assert main(["check", "--algorithm=Adamax", "--algorithm=SGD", "--steps=2"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^arrayopt and torch *\n", output, re.M)
    assert re.search(r"^ Adamax +float64 ", output, re.M)
    assert f"not compared: {message}\n" in output


def test_what_torch_lacks_can_be_compared_with_a_reference(
    adamax: type[torch.optim.Optimizer],
) -> None:
    report = optim.compare("Adamax", adamax, steps=5)
    assert report.ok, str(report)
    assert report.lacking == ()
    assert {row.implementation for row in report} == {"for-loop", "foreach", "fused"}
    assert all(options in [row.options for row in report] for options in OPTIONS["Adamax"])


def test_an_implementation_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find = contestants.backend.find
    monkeypatch.setattr(
        contestants.backend, "find", lambda array, way: way != "fused" and find(array, way)
    )
    monkeypatch.setattr(contestants.backend, "hints", lambda: ["fused: pip install numba"])
    report = optim.compare("SGD", steps=2, stream="fixed")
    assert report.ok
    assert {row.implementation for row in report} == {"for-loop", "foreach"}
    missing = "arrayopt.SGD: no fused implementation takes float64 (fused: pip install numba)"
    assert missing in report.lacking


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    first, again, other = (
        optim.compare("Adam", dtype="float32", stream="fixed", options={}, seed=seed, **QUICK)
        for seed in (0, 0, 1)
    )
    assert first.comparisons == again.comparisons
    assert first.comparisons != other.comparisons


# What one's own code can be


def momentum(param, grad, state, lr=1e-3, beta=0.9):
    state["momentum_buffer"] = beta * state.get("momentum_buffer", 0) + grad
    return param - lr * state["momentum_buffer"]


def momentum_in_place(param, grad, state, lr=1e-3, beta=0.9):
    buffer = state.setdefault("momentum_buffer", np.zeros_like(param))
    buffer *= beta
    buffer += grad
    param -= lr * buffer


class PlainMomentum:
    def __init__(self, params, lr=1e-3, beta=0.9):
        self.params, self.lr, self.beta, self.state = params, lr, beta, {}

    def step(self):
        for param in self.params:
            state = self.state.setdefault(param, {})
            param.data = momentum(param.data, param.grad, state, self.lr, self.beta)


class TorchMomentum(torch.optim.SGD):
    def __init__(self, params, lr=1e-3, beta=0.9):
        super().__init__(params, lr, momentum=beta, foreach=False)


class OurMomentum(optim.SGD):
    def __init__(self, params, lr=1e-3, beta=0.9):
        super().__init__(params, lr, momentum=beta, foreach=False)


OWN = [momentum, momentum_in_place, PlainMomentum, TorchMomentum, OurMomentum]


@pytest.mark.parametrize("against", OWN)
@pytest.mark.parametrize("subject", OWN)
def test_functions_and_classes_of_all_kinds_can_be_compared(subject: Any, against: Any) -> None:
    report = optim.compare(subject, against, options={"lr": 0.1}, steps=10)
    assert report.ok, str(report)
    assert {row.compared for row in report} == {("param", "momentum_buffer")}
    assert len(report) == 6


def test_a_function_gets_gradients_of_its_own() -> None:
    def greedy(param, grad, state, lr=1e-3):
        grad *= lr
        return param - grad

    assert optim.compare(greedy, "torch.SGD", steps=5).ok


def test_a_sparse_gradient_reaches_a_function() -> None:
    def update(param, grad, state, lr=0.1):
        assert isinstance(grad, SparseGrad)
        return param - lr * grad.to_dense()

    def dense(param, grad, state, lr=0.1):
        return param - 0.0

    report = optim.compare(update, "torch.SparseAdam", steps=3, stream="fixed")
    assert not report.ok
    assert not optim.compare(dense, "arrayopt.SparseAdam", steps=3, stream="fixed").ok


# Faults


def adam(param, grad, state, lr=1e-3, fault=None):
    """Adam as in a textbook, with a fault."""
    step = state["steps"] = state.get("steps", 0) + 1
    m = state["exp_avg"] = 0.9 * state.get("exp_avg", 0) + 0.1 * grad
    v = state["exp_avg_sq"] = 0.999 * state.get("exp_avg_sq", 0) + 0.001 * grad**2
    if fault == "no bias correction":
        return param - lr * m / (np.sqrt(v) + 1e-8)
    if fault == "eps inside":
        return param - lr * (m / (1 - 0.9**step)) / np.sqrt(v / (1 - 0.999**step) + 1e-8)
    if fault == "step off by one":
        step += 1
    if fault == "from step 7" and step >= 7:
        lr *= 1 + 1e-9
    if fault == "state":
        state["exp_avg_sq"] = v * (1 + 1e-11)
    if fault == "lost" and step >= 4:
        param = param * np.nan
    update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return param - lr * update


def test_the_textbook_agrees() -> None:
    assert optim.compare(adam, "torch.Adam", steps=50).ok


@pytest.mark.parametrize(
    ("fault", "first", "where"),
    [
        ("no bias correction", 1, "param"),
        ("eps inside", 1, "param"),
        ("step off by one", 1, "param"),
        ("from step 7", 7, "param"),
        ("state", 1, "exp_avg_sq"),
        ("lost", 4, "param"),
    ],
)
def test_a_fault_is_found_in_the_step_in_which_it_begins(
    fault: str, first: int, where: str
) -> None:
    (row,) = _faulty(fault)
    assert not row.ok
    assert row.first == first
    assert row.where == where
    assert row.difference > BOUND
    assert f"first exceeded after step {first}" in row.complaint
    before = [difference for step, difference in row.curve if step < first]
    assert all(difference <= BOUND for difference in before)
    assert max(difference for _, difference in row.curve) == row.difference


def _faulty(fault: str) -> Report:
    def update(param, grad, state, lr=1e-3):
        return adam(param, grad, state, lr, fault)

    return optim.compare(update, "torch.Adam", dtype="float64", stream="fixed", steps=20)


def test_an_inexact_optimizer_is_out_of_bounds_in_single_precision() -> None:
    class Sloppy(optim.SGD):
        """It rounds a second time, which is within the bound of the difference."""

        def rule(self, xp, param, grad, state, group):
            param, state = super().rule(xp, param, grad, state, group)
            return (param * 3.0) * (1 / 3), state

    settings: dict[str, Any] = {"dtype": "float32", "implementation": "for-loop", "steps": 30}
    (sloppy,) = optim.compare(Sloppy, "torch.SGD", stream="fixed", **settings)
    (ours,) = optim.compare("SGD", options={}, stream="fixed", **settings)
    assert ours.ok
    assert sloppy.difference <= sloppy.bound
    assert sloppy.error is not None
    assert sloppy.their_error == ours.their_error
    assert sloppy.error > 1.25 * ours.their_error
    assert "the error of param is" in sloppy.complaint


def test_what_the_other_side_loses_is_no_fault() -> None:
    (row,) = optim.compare(
        "Adam", options={"betas": (0.0, 0.0), "eps": 0.1}, dtype="float64", stream="rare",
        steps=60, implementation="for-loop",
    )  # fmt: skip
    assert row.ok  # torch's 0 * inf is NaN
    assert row.lost > 0
    (back,) = optim.compare(
        "torch.Adam", "arrayopt.Adam", options={"betas": (0.0, 0.0), "eps": 0.1},
        dtype="float64", stream="rare", steps=60,
    )  # fmt: skip
    assert back.difference == np.inf
    assert not back.ok


WRONG = {
    "does nothing": lambda param, grad, state, lr=1e-3: None,
    "uphill": lambda param, grad, state, lr=1e-3: param + lr * grad,
    "twice": lambda param, grad, state, lr=1e-3: param - 2 * lr * grad,
}


@pytest.mark.parametrize("dtype", measure.DTYPES)
@pytest.mark.parametrize("wrong", WRONG)
def test_plainly_wrong_updates_are_out_of_bounds_in_every_dtype(wrong: str, dtype: str) -> None:
    for stream in ("fixed", "rare"):
        report = optim.compare(
            WRONG[wrong], "torch.SGD", options={"lr": 0.1}, dtype=dtype, stream=stream, steps=30
        )
        assert not report.ok, stream


class CarelessSGD(torch.optim.SGD):
    """It neither takes nor calls a closure."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(group["lr"] * param.grad)


class OwnStep(optim.SGD):
    """A step of its own, without a closure."""

    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.data -= group["lr"] * param.grad


class WithoutState:
    """What it calls its state is none."""

    state = ()

    def __init__(self, params, lr=1e-3):
        self.params, self.lr = params, lr

    def step(self):
        for param in self.params:
            param.data -= self.lr * param.grad


@pytest.mark.parametrize("subject", [CarelessSGD, OwnStep, WithoutState])
def test_a_step_need_not_take_a_closure(subject: Any) -> None:
    report = optim.compare(subject, "torch.SGD", steps=5)
    assert report.ok, str(report)
    assert report.comparisons[0].subject == subject.__name__


class OfLBFGS(torch.optim.LBFGS):
    pass


def test_a_subclass_wants_what_its_class_wants() -> None:
    report = optim.compare(OfLBFGS, "arrayopt.LBFGS", dtype="float64", steps=3)
    assert report.ok
    assert [row.stream for row in report] == ["problem"]


def test_state_that_one_side_only_has_is_told() -> None:
    def update(param, grad, state, lr=1e-3):
        state["velocity"] = grad
        return param - lr * grad

    report = optim.compare(update, "torch.SGD", steps=2)
    assert report.lacking == ("update and torch.SGD: velocity (in the state of one only)",)


def test_a_number_is_not_an_array() -> None:
    def update(param, grad, state, lr=1e-3):
        state["momentum_buffer"] = 1.0
        return momentum(param, grad, {}, lr)

    (row,) = optim.compare(update, OurMomentum, dtype="float64", stream="fixed", steps=1)
    assert row.where == "momentum_buffer"
    assert row.difference == np.inf


def test_every_option_of_every_algorithm_is_varied() -> None:
    switches = {"params", "foreach", "fused", "capturable", "differentiable"}
    for name, sets in OPTIONS.items():
        known = set(inspect.signature(getattr(optim, name)).parameters) - switches
        assert set().union(*sets) == known, name


# Measures


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 50))
def test_ulps_count_the_numbers_between(start: float, count: int) -> None:
    # (within a power of two, where all numbers are equally far from each other)
    a = b = np.float32(start)
    with np.errstate(over="ignore"):  # past the largest number there is infinity
        for _ in range(count):
            b = np.nextafter(b, np.float32(np.inf))
    _, low = np.frexp(a)
    _, high = np.frexp(b)
    if not np.isfinite(b) or low != high or np.sign(a) != np.sign(b):
        return
    assert ulps(np.array([a]), np.array([b]), np.dtype(np.float32)).tolist() == [count]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_an_ulp_is_the_distance_of_neighbours(dtype: str) -> None:
    kind = measure.dtype_of(dtype)
    limits = measure.finfo(kind)
    one = np.ones(1, kind)
    next_one = (one.astype(np.float64) + float(limits.eps)).astype(kind)
    assert ulps(one, next_one, kind).tolist() == [1.0]
    tiny = np.array([float(limits.smallest_subnormal)]).astype(kind)
    assert ulps(tiny, 0 * tiny, kind).tolist() == [1.0]


def test_differences_of_what_is_not_finite() -> None:
    inf, nan = np.inf, np.nan
    a = np.array([inf, nan, inf, 1.0, nan, -inf])
    b = np.array([inf, nan, 1.0, inf, 1.0, inf])
    found = relative(a, b, np.ones(6)).astype(float)
    assert found.tolist() == [0, 0, inf, inf, inf, inf]


def test_a_difference_is_relative_to_the_largest_size_so_far() -> None:
    extent = Extent(least=1e-3)
    divergence = Divergence(0.04, np.float64)
    for mine, others in (([8.0], [8.0]), ([0.5], [0.25]), ([0.5], [1.0])):
        values = {"param": np.array(others)}
        extent.widen(values)
        divergence.update({"param": np.array(mine)}, values, extent)
    assert divergence.curve == [0.0, 0.25 / 8, 0.5 / 8]
    assert (divergence.largest, divergence.first) == (0.0625, 3)
    assert divergence.ulps == 2.0**51  # 0.5 over the spacing of numbers at 1


def test_errors_leave_out_elements_that_overflowed_anywhere() -> None:
    errors = Errors()
    exact = {"param": np.array([1.0, 2.0, 4.0]), "state": np.ones(3)}
    good = {"param": np.array([1.0, 2.5, 5.0]), "state": np.ones(3)}
    bad = {"param": np.array([1.5, 3.0, 5.0]), "state": np.array([1.0, np.inf, 1.0])}
    errors.update({"good": good, "bad": bad}, exact)
    expected = {"good": [0.0, 0.25], "bad": [0.5, 0.25]}
    for name, parts in expected.items():
        assert errors.of(name)["param"] == np.mean(parts)
        assert errors.of(name)["state"] == 0


@given(st.floats(1e-16, 1e-4))
def test_the_bound_is_the_same_number_of_roundings(eps: float) -> None:
    assert bound_of(eps) / eps == pytest.approx(BOUND / 2.0**-52)


# Streams


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("kind", ["dense", "closure", "sparse"])
def test_gradients_of_the_problem_are_those_of_its_loss(dtype: str, kind: Any) -> None:
    stream = Problem(dtype, 0, kind)
    rng = np.random.default_rng(3)
    arrays = [stream.normal(rng, start.shape) for start in stream.starts]
    _, grads = stream.evaluate(5, arrays)
    parts = [array.view(np.float64) for array in arrays]  # real and imaginary parts
    for found, expected in zip(grads, differences(lambda: _loss(stream, arrays), parts)):
        dense = found.to_dense() if isinstance(found, SparseGrad) else found
        # torch's gradient is the derivative by the real part + i times that by the imaginary one;
        # that of a mean over few examples has as many roundings as examples
        np.testing.assert_allclose(dense.view(np.float64), expected, rtol=0, atol=1e-9)


def _loss(stream: Problem, arrays: list[np.ndarray]) -> float:
    return stream.evaluate(5, arrays)[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_rare_gradients_are(dtype: str) -> None:
    kind = measure.dtype_of(dtype)
    limits = measure.finfo(kind)
    stream = Rare(kind)
    drawn = []
    for step in range(200):
        _, grads = stream.evaluate(step, stream.starts)
        assert all(grad.dtype == kind for grad in grads)
        drawn.append(np.abs(grads[0].real.astype(np.float64)))
    sizes = np.concatenate([grad.ravel() for grad in drawn])
    assert np.isfinite(sizes).all()
    normal = float(limits.smallest_normal)
    assert 0.05 < np.mean(sizes == 0) < 0.1  # among them whole steps
    assert 0.01 < np.mean((sizes > 0) & (sizes < normal)) < 0.03
    with np.errstate(over="ignore"):
        squares = sizes.astype(kind).real ** 2
    assert 0 < np.mean(~np.isfinite(squares.astype(np.float64))) < 0.001
    assert np.sum(drawn[39]) == 0


def test_rows_of_a_sparse_gradient_occur_more_than_once() -> None:
    for kind in STREAMS.values():
        stream = kind(np.float32, 0, "sparse")
        _, grads = stream.evaluate(0, stream.starts)
        assert all(isinstance(grad, SparseGrad) for grad in grads)
        assert any(grad.coalesce().nnz < grad.nnz for grad in grads)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"subject": "Adum"}, ValueError, "no algorithm 'Adum'; expected one of SGD, Adam"),
        ({"subject": "jax.Adam"}, ValueError, "there is no algorithm 'jax.Adam'"),
        ({"subject": 3}, TypeError, r"expected the name of an algorithm.* of type int"),
        ({"subject": momentum}, ValueError, "'momentum'; say which .* torch.SGD, torch.Adam"),
        ({"subject": momentum, "against": "torch.LBFGS"}, ValueError, "evaluates the loss"),
        ({"dtype": "int32"}, ValueError, "expected a dtype of float64, float32.*got 'int32'"),
        (
            {"stream": "noise"},
            ValueError,
            "stream: expected one of fixed, problem, rare, but got 'noise'",
        ),
        (
            {"implementation": "cuda"},
            ValueError,
            "implementation: expected one of for-loop, .*'cuda'",
        ),
        ({"steps": 0}, ValueError, "steps: expected a positive integer, but got 0"),
        ({"steps": 1.5}, ValueError, "steps: expected a positive integer, but got 1.5"),
        ({"seed": -1}, ValueError, "seed: expected a non-negative integer, but got -1"),
        ({"bound": float("nan")}, ValueError, "bound: expected a number in .* but got nan"),
        ({"options": {"momentun": 0.9}}, ValueError, "arrayopt.SGD has no option momentun"),
        ({"options": "lr"}, TypeError, "options: expected a dict, or several, but got 'lr'"),
        ({"options": []}, TypeError, r"options: expected a dict, or several, but got \[\]"),
        ({"options": {"foreach": True}}, ValueError, "foreach says how .* implementation"),
        ({"options": {"lr": -1}}, ValueError, r"arrayopt.SGD refuses lr=-1: Invalid learning rate"),
        ({"options": [{}, {"lr": "x"}]}, ValueError, "refuses lr=x: lr must be a number"),
        ({"subject": []}, ValueError, "subject: expected an algorithm, or several, but got none"),
        ({"subject": optim.SGD([np.ones(1)])}, TypeError, "got an object of type SGD$"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optim.compare(**({"subject": "SGD"} | arguments))


def test_a_function_that_returns_another_shape() -> None:
    with pytest.raises(ValueError, match=r"of shape \(24, 20\), but got shape \(24,\)"):
        optim.compare(lambda param, grad, state: param[:, 0], "torch.SGD", steps=1)


# The report


def test_the_report_as_data_and_text() -> None:
    report = optim.compare(adam, "torch.Adam", steps=5, progress=True, stream=["fixed", "rare"])
    assert [*report] == [*report.comparisons]
    assert len(report) == 4
    data = json.loads(report.to_json())
    assert data["ok"] is True
    assert data["versions"]["torch"] == torch.__version__
    assert [row["dtype"] for row in data["comparisons"]] == ["float64"] * 2 + ["float32"] * 2
    assert data["comparisons"][0]["curve"][0][0] == 1
    assert data["comparisons"][0]["options"] == {}
    text = str(report)
    assert "adam / torch.Adam" in text
    assert text.endswith("4 comparisons, all within bounds")
    assert repr(report) == "<Report: 4 comparisons, all within bounds>"
    assert report._repr_html_().startswith("<pre>")


def test_a_report_with_faults_says_so_everywhere() -> None:
    report = _faulty("lost")
    assert not report.ok
    assert report.verdict == "1 of 1 comparison out of bounds"
    assert "OUT OF BOUNDS  update float64 fixed: param differs by inf" in str(report)
    assert json.loads(report.to_json())["comparisons"][0]["difference"] is None  # not in JSON
    text = page(report)
    assert text.count("param differs by inf") == 1
    assert '<p class="out" id="verdict">1 of 1 comparison out of bounds</p>' in text


def test_text_terminal_and_page_show_one_table() -> None:
    def faulty(param, grad, state, lr=1e-3):
        return adam(param, grad, state, lr, "from step 7")

    report = optim.compare([adam, faulty], "torch.Adam", dtype="float64", steps=8)
    expected = [["compared", "dtype", "default", "bound", "ULPs", "error"]]
    for name in ("adam", "faulty"):
        largest = max(row.difference for row in report if row.subject == name)
        expected.append([f"{name} / torch.Adam", "float64", f"{largest:.2g}", "1e-12"])
    screen = Console(file=io.StringIO(), width=120)
    screen.print(summary_table(report))
    overview = page(report).partition("</table>")[0]
    lines = [re.sub("<[^>]*>", " ", row) for row in re.findall("<tr>.*?</tr>", overview)]
    for shown in (str(report), screen.file.getvalue(), "\n".join(lines)):
        for row in expected:
            assert re.search(" +".join(map(re.escape, row)), shown)


def test_names_are_escaped_in_the_page() -> None:
    def update(param, grad, state, lr=1e-3):
        return param - lr * grad

    update.__qualname__ = "<b>&"
    text = page(optim.compare(update, "torch.SGD", steps=2))
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text


# The command


SCRIPT = """
import sys
import numpy as np
from dataclasses import dataclass
import helper_of_the_script

def right(param, grad, state, lr=1e-3):
    return param - lr * grad

def wrong(param, grad, state, lr=1e-3):
    return param - lr * grad * (1 + 1e-9)

def raises(param, grad, state, lr=1e-3):
    raise KeyError("exp_avg")

def leaves(param, grad, state, lr=1e-3):
    sys.exit(0)

def imports(param, grad, state, lr=1e-3):
    import another_helper_of_the_script
    return param - lr * grad

class NoStep:
    def __init__(self, params, lr=1e-3):
        pass

class Adam:
    def __init__(self, params, lr=1e-3):
        self.params, self.lr = params, lr
    def step(self):
        for p in self.params:
            p.data = p.data - self.lr * np.sign(p.grad)

number = 3
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(SCRIPT)
    for name in ("helper_of_the_script", "another_helper_of_the_script"):
        (tmp_path / f"{name}.py").write_text("")
    return str(tmp_path / "mine.py")


def check(*args: str) -> int:
    return main(["check", "--steps=10", *args])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("found.json", "found.html", "found.png")]
    options = [f"--{kind}={file}" for kind, file in zip(("json", "html", "plot"), files)]
    algorithms = ["--algorithm=rprop", "--algorithm=SparseAdam", "--algorithm=lbfgs"]
    ways = ["--implementation=foreach", "--implementation=for-loop"]
    assert check(*algorithms, *ways, *options) == 0
    output = capsys.readouterr().out
    assert "all within bounds" in output
    for name in ("Rprop", "SparseAdam", "LBFGS"):
        assert f" {name} " in output
    assert "not compared: torch.LBFGS in float32" in output
    assert "\x1b" not in output
    rows = [line for line in output.splitlines() if "float" in line and "not" not in line]
    assert len(rows) == 5
    assert max(map(len, rows)) <= 80
    assert json.loads(files[0].read_text())["schema"] == 1
    assert files[1].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_every_run_is_shown_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--algorithm=SGD", "--all", "--implementation=foreach", "--dtype=float32") == 0
    output = capsys.readouterr().out
    assert output.count(" ok ") == 3 * len(BY_NAME["SGD"].options)
    assert "nesterov=True" in output


def test_a_script(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(f"--script={script}:right", "--algorithm=SGD", "--option=lr=0.1") == 0
    assert "6 comparisons, all within bounds" in capsys.readouterr().out
    assert check(f"--script={script}:wrong", "--algorithm=SGD") == 1
    assert "OUT OF BOUNDS  wrong float64" in capsys.readouterr().out
    assert check(f"--script={script}:Adam", "--against=arrayopt", "--steps=3") == 1
    assert re.search(r"\n Adam / arrayopt\.Adam +float64 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--script={}:raises", "--algorithm=SGD"], "KeyError: 'exp_avg' ({}, line 14)"),
        (["--script={}:leaves", "--algorithm=SGD"], "SystemExit: 0 ({}, line 17)"),
        (["--script={}:NoStep", "--algorithm=SGD"], "TypeError: NoStep has no method step()\n"),
        (["--algorithm=SGD", "--option=lr=-1"], "arrayopt.SGD refuses lr=-1: Invalid learning"),
        (["--script={}:number"], "has no class or function 'number'"),
        (["--script={}:nothing"], "has no class or function 'nothing'"),
        (["--script={}:right"], "has no algorithm that is called 'right'"),
        (
            ["--script={}:right", "--algorithm=SGD", "--algorithm=Adam"],
            "compared with one algorithm, but got SGD, Adam",
        ),
        (["--script={}:right", "--algorithm=SGD", "--option=beta=1"], "has no option beta"),
    ],
)
def test_a_script_that_cannot_be_compared(
    script: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert check(*(option.format(script) for option in options)) == 2
    error = capsys.readouterr().err
    assert error.startswith("arrayopt check: error: ")
    assert message.format(script) in error


@pytest.mark.parametrize("name", ["torch.py", "json.py", "arrayopt.py"])
def test_a_script_may_bear_the_name_of_a_library(
    tmp_path: Path, script: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / name
    path.write_text(Path(script).read_text())
    for function in ("right", "imports"):
        assert check(f"--script={path}:{function}", "--algorithm=SGD", "--steps=2") == 0


def test_an_interruption_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(cases: Any, lacking: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("arrayopt.check.comparisons", interrupted)
    assert check("--algorithm=SGD") == 130
    assert capsys.readouterr().err == "arrayopt check: interrupted\n"


def test_a_script_that_raises_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nx.y\n")
    assert check(f"--script={path}:f") == 2
    error = capsys.readouterr().err
    assert "AttributeError: 'int' object has no attribute 'y'" in error
    assert f"{path}, line 2" in error


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--algorithm=Adum", "unknown algorithm 'Adum'; choose from SGD, Adam"),
        ("--dtype=int8", "unknown dtype 'int8'"),
        ("--script=mine.py", "expected FILE:NAME, such as mine.py:MyAdam, but got 'mine.py'"),
        ("--script=nowhere.py:f", "there is no file 'nowhere.py'"),
        ("--option=lr", "expected NAME=VALUE with a value of Python"),
        ("--option=lr=fast", "expected NAME=VALUE with a value of Python"),
        ("--steps=0", "expected a whole number >= 1, but got '0'"),
        ("--html=page.txt", "expected a file that ends in .html, but got 'page.txt'"),
    ],
)
def test_a_wrong_option(capsys: pytest.CaptureFixture[str], option: str, message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        check(option)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "install"), [("torch", "'arrayopt[torch]'"), ("rich", '"arrayopt[check]"')]
)
def test_a_library_that_is_missing(library: str, install: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from arrayopt.cli import main; "
    result = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(main())", "check", "--algorithm=SGD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert install in result.stderr
    assert "Traceback" not in result.stderr


def test_arrayopt_can_be_compared_with_without_torch(script: str) -> None:
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ImportError('no torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from arrayopt.cli import main\n"
    )
    options = ["check", f"--script={script}:right", "--algorithm=SGD", "--against=arrayopt"]
    result = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main())", *options, "--steps=3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


# The page in a browser


def test_the_page_shows_its_table_and_its_curves(tmp_path: Path, browser: Any) -> None:
    report = optim.compare(["Adam", "SGD"], **QUICK)
    path = tmp_path / "page.html"
    path.write_text(page(report), encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.find_element("id", "verdict").text == report.verdict
    overview = browser.find_element("tag name", "table")
    rows = overview.find_elements("css selector", "tbody tr")
    assert [row.text.split()[0] for row in rows] == [*["arrayopt.Adam"] * 2, *["arrayopt.SGD"] * 2]
    assert all(row.is_displayed() and row.text.endswith("ok") for row in rows)
    figures = browser.find_elements("css selector", "section figure svg")
    assert len(figures) == 2
    for figure in figures:
        assert figure.size["width"] > 400
        assert figure.size["height"] > 200
        curves = figure.find_elements("css selector", "path")
        wide = [c for c in curves if c.size["width"] > figure.size["width"] / 2]
        assert len(wide) >= 6  # two dtypes, three streams
    details = browser.find_element("tag name", "details")
    run = details.find_element("css selector", "tbody tr")
    assert not run.is_displayed()
    details.find_element("tag name", "summary").click()
    assert run.is_displayed()
    overview.find_elements("tag name", "a")[2].click()
    assert browser.current_url.endswith("#arrayopt-SGD---torch-SGD")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    resources = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert resources == 0


def test_the_page_fits_a_telephone(tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(optim.compare("SGD", **QUICK)), encoding="utf-8")
    browser.set_window_size(500, 900)
    browser.get(path.as_uri())
    browser.find_element("tag name", "summary").click()
    width = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert width <= 0


# For other people's tests


def test_assert_matches_returns_the_report_or_tells_what_is_wrong() -> None:
    report = assert_matches_torch("SGD", **QUICK)
    assert report.ok
    assert report.comparisons[0].against == "torch.SGD"
    assert assert_matches(momentum, OurMomentum, steps=4).ok
    with pytest.raises(AssertionError) as caught:
        assert_matches_torch(momentum, "Adam", steps=4)
    lines = str(caught.value).splitlines()
    assert lines[0] == "momentum does not match torch.Adam: 6 of 6 comparisons out of bounds"
    assert lines[1].startswith("  momentum float64 fixed: param differs by ")
    assert lines[6] == "  and 1 more"
    assert lines[7].endswith("exp_avg, exp_avg_sq, momentum_buffer (in the state of one only)")


def test_nothing_that_could_be_compared_is_no_agreement() -> None:
    with pytest.raises(AssertionError, match=r"nothing was compared\n  not compared: torch\.LBFGS"):
        assert_matches_torch("LBFGS", dtype="float32")


def test_the_fixture_makes_a_test_of_each_dtype_and_stream(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["arrayopt.testing.plugin"]\n')
    (tmp_path / "test_mine.py").write_text(
        "def update(param, grad, state, lr=1e-3):\n"
        "    return param - lr * grad\n"
        "def wrong(param, grad, state, lr=1e-3):\n"
        "    return param - 1.01 * lr * grad\n"
        "def test_good(matches_torch):\n"
        "    matches_torch(update, 'SGD', steps=5)\n"
        "def test_bad(matches_torch):\n"
        "    matches_torch(wrong, 'SGD', steps=5)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "6 failed, 6 passed" in result.stdout
    assert "test_bad[float32-rare]" in result.stdout
    assert "wrong does not match torch.SGD: 1 of 1 comparison out of bounds" in result.stdout


def test_the_plan_counts_what_it_is_asked_for() -> None:
    cases, _ = planned(
        ["Adam"], "torch", options=[{}, {"lr": 0.1}], dtype=["float32"], implementation=None,
        stream=["fixed", "rare"], steps=3, seed=0, bound=1e-3,
    )  # fmt: skip
    assert len(cases) == 4
    assert {case.stream for case in cases} == {"fixed", "rare"}
    assert all(case.bound == 1e-3 for case in cases)
    assert str(cases[0]) == "arrayopt.Adam float32 fixed"
    assert contestant("adam").name == "arrayopt.Adam"
