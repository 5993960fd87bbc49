"""Training as a whole: each side follows its own gradients, and torch's way is ours."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from specs import ELEMENTWISE, case_id
from stepping import long_run

from arrayopt import problems
from arrayopt.problems import Formulas, Problem

pytestmark = pytest.mark.usefixtures("torch_in_double_precision")

STEPS = 300

#: How far the two ways may be apart, relative to the farthest point. A step rounds some 20 times,
#: by 1.1e-16 at most, and 300 steps add up to less than 1e-12 if nothing amplifies them, which
#: `test_the_problems_do_not_amplify_errors` sees to. (Measured: 1e-15, since roundings cancel, and
#: the problems forget.)
BOUND = 1e-12

#: By what each run has to divide the loss, here and in torch.
PROGRESS = 4


NORMAL = np.arange(1.0, 11)
EIGENVALUES = 10 ** (3 * np.arange(10) / 9)  # from 1 to 1000


def reflect(x: Any) -> Any:
    """Householder's reflection at the plane that `NORMAL` stands on: its own inverse."""
    return x - (2 * (NORMAL * x).sum() / (NORMAL * NORMAL).sum()) * NORMAL


QUADRATIC = Problem(
    "quadratic",
    Formulas(
        lambda x: 0.5 * (EIGENVALUES * reflect(x) ** 2).sum(),
        lambda x: reflect(EIGENVALUES * reflect(x)),
        lambda x: np.array([reflect(EIGENVALUES * reflect(axis)) for axis in np.eye(10)]),
    ),
    minima=np.zeros((1, 10)),
    minimum=0.0,
    start=reflect(1 + np.sqrt(NORMAL)),
    domain=((-5, 5),) * 10,
)

PROBLEMS = {
    "rosenbrock": problems.rosenbrock(),
    "beale": dataclasses.replace(problems.beale(), start=(1.1, 0.9)),
    "quadratic": QUADRATIC,
}

RUNS = [(spec, options) for spec in ELEMENTWISE for options in spec.runs]

each_problem = pytest.mark.parametrize("problem", PROBLEMS)
runs = pytest.mark.parametrize(
    "run", range(len(RUNS)), ids=lambda run: "-".join(map(case_id, RUNS[run]))
)


def our_way(run: int, problem: Problem, foreach: bool | None) -> np.ndarray:
    """The points that our optimizer comes by, following the gradients at its own points."""
    spec, options = RUNS[run]
    point = problem.start.copy()
    optimizer = spec.cls([point], foreach=foreach, **options)
    way = []
    for _ in range(STEPS):
        optimizer.step(grads=[problem.grad(point.copy())])
        way.append(point.copy())
    return np.array(way)


def their_way(run: int, problem: Problem, error: float = 0.0) -> np.ndarray:
    """The points that torch comes by, with gradients that are off by a relative `error`."""
    spec, options = RUNS[run]
    tensor = torch.tensor(problem.start, requires_grad=True)
    optimizer = spec.theirs([tensor], foreach=False, **options)
    rng = np.random.default_rng(0)
    way = []
    for _ in range(STEPS):
        gradient = problem.grad(tensor.detach().numpy().copy())
        tensor.grad = torch.tensor(gradient * (1 + error * rng.uniform(-1, 1, gradient.shape)))
        optimizer.step()
        way.append(tensor.detach().numpy().copy())
    return np.array(way)


@functools.cache
def exact_way(run: int, name: str) -> np.ndarray:
    return their_way(run, PROBLEMS[name])


def distance(way: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two ways, relative to the farthest point."""
    return float(np.abs(way - other).max() / np.abs(other).max())


def test_every_algorithm_runs() -> None:
    assert all(spec.runs for spec in ELEMENTWISE)


@each_problem
def test_gradients_are_those_of_the_loss(problem: str) -> None:
    # A difference along the imaginary axis subtracts nothing, so its step can be tiny.
    one = PROBLEMS[problem]
    size, tiny = one.start.size, 1e-30
    for point in np.random.default_rng(0).uniform(-2, 2, (20, size)):
        differences = [one.fun(point + 1j * tiny * axis).imag / tiny for axis in np.eye(size)]
        gradient = one.grad(point)
        np.testing.assert_allclose(gradient, differences, rtol=0, atol=1e-13 * abs(gradient).max())


@each_problem
def test_the_minimum_is_one(problem: str) -> None:
    one = PROBLEMS[problem]
    assert one.fun(one.minima[0]) == 0
    assert (one.grad(one.minima[0]) == 0).all()
    rng = np.random.default_rng(0)
    near = one.minima[0] + 0.01 * rng.standard_normal((20, one.minima[0].size))
    assert all(one.fun(point) > 0 for point in near)


def test_the_quadratic_is_ill_conditioned() -> None:
    matrix = np.array([QUADRATIC.grad(axis) for axis in np.eye(10)])
    np.testing.assert_allclose(np.linalg.cond(matrix), 1000, rtol=1e-10)


@long_run
@runs
@each_problem
def test_the_problems_do_not_amplify_errors(problem: str, run: int) -> None:
    disturbed = their_way(run, PROBLEMS[problem], error=1e-9)
    assert distance(disturbed, exact_way(run, problem)) <= 2e-9


@long_run
@runs
@each_problem
@pytest.mark.parametrize("foreach", [False, None])
def test_the_way_is_torchs(problem: str, run: int, foreach: bool | None) -> None:
    one = PROBLEMS[problem]
    ours, theirs = our_way(run, one, foreach), exact_way(run, problem)
    # Rprop looks at nothing but signs of gradients, and its step sizes are the same products on
    # both sides. So there is nothing to be rounded otherwise; a bound would have to be 0 or large,
    # since a gradient of the other sign makes another way.
    assert distance(ours, theirs) <= (0 if RUNS[run][0].name == "Rprop" else BOUND)
    first = one.fun(one.start)
    losses = [one.fun(ours[-1]), one.fun(theirs[-1])]
    assert max(losses) <= first / PROGRESS
    assert abs(losses[0] - losses[1]) <= BOUND * first
