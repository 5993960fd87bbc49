"""The test problems, and the ways that optimizers take on them."""

from __future__ import annotations

import dataclasses
import inspect

import array_api_strict
import mpmath
import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numerical import differences
from specs import POINTWISE

import arrayopt as optim
from arrayopt import problems
from arrayopt.lr_scheduler import LambdaLR, ReduceLROnPlateau
from arrayopt.problems import Formulas, Problem, Source, trajectories, trajectory

MAKERS = [
    problems.beale,
    problems.himmelblau,
    problems.noisy_quadratic,
    problems.rastrigin,
    problems.ravine,
    problems.rosenbrock,
    problems.saddle,
]
CASES = {
    **{make.__name__: make() for make in MAKERS},
    "rosenbrock, 5": problems.rosenbrock(5),
    "rosenbrock, other": problems.rosenbrock(a=-0.5, b=7),
    "rastrigin, 3": problems.rastrigin(3),
    "ravine, turned": problems.ravine(30, angle=0.5),
    "noisy_quadratic, 4": problems.noisy_quadratic(1 / np.arange(1, 5), batch_size=2),
}
cases = pytest.mark.parametrize("case", CASES)


def points_of(problem: Problem) -> st.SearchStrategy[np.ndarray]:
    coordinate = st.floats(-3, 3)
    return st.lists(coordinate, min_size=problem.n, max_size=problem.n).map(np.array)


# The formulas


@cases
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_gradient_and_hessian_are_complex_differences(case, data):
    # A step along the imaginary axis subtracts nothing, so it can be tiny, and nothing is cut off.
    problem, tiny = CASES[case], 1e-30
    x = data.draw(points_of(problem))
    axes = 1j * tiny * np.eye(problem.n)
    # The largest terms are below 3e5 here, and are rounded a few times by 1.1e-16.
    np.testing.assert_allclose(problem.grad(x), problem.fun(x + axes).imag / tiny, atol=2e-10)
    np.testing.assert_allclose(problem.hess(x), problem.grad(x + axes).imag / tiny, atol=2e-10)


@cases
def test_the_gradient_is_that_of_central_differences(case):
    problem = CASES[case]
    x = np.random.default_rng(0).uniform(-2, 2, problem.n)
    (expected,) = differences(lambda: problem.fun(x), [x])
    np.testing.assert_allclose(problem.grad(x), expected, atol=1e-9 * (1 + problem.fun(x)))


@cases
def test_the_gradient_is_torchs(case):
    problem = CASES[case]
    x = torch.tensor(np.random.default_rng(1).uniform(-2, 2, (7, problem.n)), requires_grad=True)
    problem.fun(x).sum().backward()
    torch.testing.assert_close(x.grad, problem.grad(x).detach(), rtol=1e-12, atol=1e-10)


def test_rosenbrock_is_that_of_scipy():
    problem = problems.rosenbrock(6)
    for x in np.random.default_rng(0).uniform(-2, 2, (20, 6)):
        np.testing.assert_allclose(problem.fun(x), scipy.optimize.rosen(x), rtol=1e-13)
        np.testing.assert_allclose(problem.grad(x), scipy.optimize.rosen_der(x), atol=1e-10)
        np.testing.assert_allclose(problem.hess(x), scipy.optimize.rosen_hess(x), atol=1e-10)


def test_values_are_those_of_the_sources():
    # Moré, Garbow and Hillstrom (1981), problems 1 and 5: the starts, from which the values follow
    assert problems.rosenbrock().start.tolist() == [-1.2, 1]
    assert problems.rosenbrock().fun([-1.2, 1]) == pytest.approx(10**2 * 0.44**2 + 2.2**2)
    assert problems.beale().start.tolist() == [1, 1]
    assert problems.beale().fun([1, 1]) == 1.5**2 + 2.25**2 + 2.625**2
    assert problems.himmelblau().fun([0, 0]) == 11**2 + 7**2
    assert problems.rastrigin().fun([0.5, 0]) == pytest.approx(0.25 + 20)  # cos(π) = -1
    assert problems.saddle().fun([[0, 0], [2, 0], [0, 2]]).tolist() == [0, 2, 2]
    assert problems.ravine(100).fun([2, 3]) == 0.5 * (2**2 + 100 * 3**2)
    assert problems.noisy_quadratic((2, 3)).fun([1, 2]) == 0.5 * (2 + 3 * 2**2)


@cases
def test_many_points_are_one_call(case):
    problem = CASES[case]
    x = np.random.default_rng(0).uniform(-2, 2, (3, 4, problem.n))
    n = problem.n
    for name, shape in (("fun", ()), ("grad", (n,)), ("hess", (n, n))):
        method = getattr(problem, name)
        values = method(x)
        assert values.shape == (3, 4, *shape)
        one_by_one = np.array([[method(point) for point in row] for row in x])
        np.testing.assert_allclose(values, one_by_one, rtol=1e-13, atol=1e-13)


@cases
@pytest.mark.parametrize("library", [torch, array_api_strict])
def test_any_array_library_will_do(case, library):
    problem = CASES[case]
    x = np.random.default_rng(0).uniform(-2, 2, (5, problem.n))
    for dtype, atol in ((library.float64, 1e-10), (library.float32, 1e-2)):
        own = library.asarray(x, dtype=dtype)
        for name in ("fun", "grad", "hess"):
            values = getattr(problem, name)(own)
            assert type(values) is type(own)
            assert values.dtype == dtype
            np.testing.assert_allclose(np.asarray(values), getattr(problem, name)(x), atol=atol)


# What is known of them


@cases
def test_minima_are_minima(case):
    problem = CASES[case]
    for point in problem.minima:
        np.testing.assert_allclose(problem.fun(point), problem.minimum, rtol=0, atol=1e-25)
        np.testing.assert_allclose(problem.grad(point), 0, atol=1e-13)
        assert np.linalg.eigvalsh(problem.hess(point)).min() > 0


@cases
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_point_is_lower(case, data):
    problem = CASES[case]
    assert problem.fun(data.draw(points_of(problem))) >= problem.minimum - 1e-12


def test_the_minima_of_himmelblau_are_exact_to_the_last_bit():
    with mpmath.workdps(40):

        def equations(u, v):
            return [u**2 + v - 11, u + v**2 - 7]

        roots = [
            mpmath.findroot(equations, start, tol=1e-35)
            for start in ((3, 2), (-3, 3), (-4, -3), (4, -2))
        ]
        expected = [[float(number) for number in root] for root in roots]
    assert problems.himmelblau().minima.tolist() == expected


def test_himmelblau_starts_near_its_local_maximum():
    problem = problems.himmelblau()
    top = scipy.optimize.root(problem.grad, problem.start, jac=problem.hess).x
    assert np.linalg.norm(top - problem.start) < 1
    assert np.linalg.eigvalsh(problem.hess(top)).max() < 0


@pytest.mark.parametrize("n", range(4, 8))
def test_rosenbrock_of_four_to_seven_variables_has_another_minimum(n):
    problem = problems.rosenbrock(n)
    start = np.ones(n)
    start[0] = -1
    found = scipy.optimize.minimize(
        problem.fun, start, jac=problem.grad, method="BFGS", options={"gtol": 1e-8}
    ).x
    assert found[0] < 0 < found[1:].min()
    assert problem.fun(found) == pytest.approx(4, rel=0.1)
    np.testing.assert_allclose(problem.grad(found), 0, atol=1e-5)
    assert np.linalg.eigvalsh(problem.hess(found)).min() > 0


def test_rastrigin_has_a_minimum_near_every_whole_number():
    problem, whole = problems.rastrigin(1), np.arange(-4.0, 5)[:, None]
    assert (problem.grad(whole - 0.1) < 0).all()
    assert (problem.grad(whole + 0.1) > 0).all()


def test_gradient_descent_goes_to_the_saddle_or_lingers_there():
    problem = problems.saddle()
    np.testing.assert_array_equal(np.linalg.eigvalsh(problem.hess([0, 0])), [-1, 1])
    stuck = trajectory(problem, optim.SGD, 300, start=(1, 0), lr=0.1)
    np.testing.assert_allclose(stuck.points[-1], [0, 0], atol=1e-10)  # 0.9**300 = 2e-14
    assert trajectory(problem, optim.SGD, 50, lr=0.1).values[-1] > -0.01
    away = trajectory(problem, optim.SGD, 300, lr=0.1)
    np.testing.assert_allclose(away.points[-1], [0, 1], atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0])
def test_a_ravine_has_its_condition_number_and_direction(angle):
    problem = problems.ravine(1000, angle)
    values, vectors = np.linalg.eigh(problem.hess(problem.start))
    np.testing.assert_allclose(values, [1, 1000], rtol=1e-12)
    along = [np.cos(angle), np.sin(angle)]
    np.testing.assert_allclose(abs(vectors[:, 0] @ along), 1, rtol=1e-12)
    assert problem.fun(problem.start) == pytest.approx(4**2 / 2 + 1000 / 2)  # u = (-4, 1)
    assert problem.start @ along == pytest.approx(-4)


def test_the_equation_of_a_ravine_needs_no_other_coordinates_unless_it_is_turned():
    assert problems.ravine(4).equation == r"f(x) = \frac{1}{2} (x_1^2 + 4\, x_2^2)"
    assert problems.ravine(4, 0.5).equation.endswith(
        r"4\, u_2^2),\quad u = x \text{ turned by } 0.5"
    )


@pytest.mark.parametrize("make", MAKERS)
def test_a_problem_tells_its_equation_and_sources(make):
    problem, doc = make(), " ".join((inspect.getdoc(make) or "").split())
    assert problem.equation.startswith("f(x) = ")
    assert problem._repr_latex_() == f"$\\displaystyle {problem.equation}$"
    assert problem.sources
    for source in problem.sources:
        assert f"({source.year})" in doc
        assert source.author.split()[-1] in doc
        assert source.title in doc
        assert str(source).startswith(f"{source.author} ({source.year}), “{source.title}”, ")
    for part in (
        ".. math::",
        "Returns",
        "References",
        "Examples",
        *inspect.signature(make).parameters,
    ):
        assert part in doc


@cases
def test_start_and_minima_are_in_the_picture(case):
    problem = CASES[case]
    low, high = problem.domain.T
    for point in (problem.start, *problem.minima):
        assert ((low <= point) & (point <= high)).all()


# Noise


def test_the_noise_has_the_variance_that_is_told():
    problem = problems.noisy_quadratic((1.0, 0.25), variance=(4.0, 9.0), batch_size=4)
    np.testing.assert_array_equal(problem.variance, [1, 2.25])
    count = 40_000
    x = np.broadcast_to([1.0, -2.0], (count, 2))
    noise = problem.noisy_grad(x, np.random.default_rng(0)) - problem.grad(x)
    deviation = np.sqrt(problem.variance)
    assert (abs(noise.mean(0)) < 5 * deviation / np.sqrt(count)).all()
    assert (abs(noise.var(0) / problem.variance - 1) < 5 * np.sqrt(2 / count)).all()
    assert abs(np.corrcoef(noise.T)[0, 1]) < 5 / np.sqrt(count)


def test_by_default_the_noise_is_that_of_zhang_et_al():
    h = 1 / np.arange(1, 101)
    problem = problems.noisy_quadratic(h, batch_size=8)
    np.testing.assert_allclose(problem.variance, h / 8)
    np.testing.assert_allclose(np.diag(problem.hess(problem.start)), h)


def test_gradient_descent_comes_to_rest_at_the_variance_of_theory():
    # x ← (1 - η h) x - η ε is an autoregression, with stationary variance η c / (h (2 - η h)).
    rate, h, count = 0.5, 0.5, 4000
    problem = problems.noisy_quadratic(np.full(count, h), variance=2.0)
    last = trajectory(problem, optim.SGD, 100, start=np.zeros(count), lr=rate).points[-1]
    expected = rate * 2.0 / (h * (2 - rate * h))
    assert abs(np.mean(last**2) / expected - 1) < 5 * np.sqrt(2 / count)


def test_the_seed_decides():
    problem = problems.noisy_quadratic()
    one, again, other = (trajectory(problem, optim.SGD, 20, lr=0.1, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.points, again.points)
    assert (one.points[1:] != other.points[1:]).any(axis=1).all()


def test_any_problem_can_be_made_noisy():
    quiet = problems.beale()
    noisy = quiet.with_noise(0.5)
    np.testing.assert_array_equal(noisy.variance, [0.5, 0.5])
    assert not quiet.variance.any()
    x = np.array([2.0, 0.1])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(quiet.noisy_grad(x, rng), quiet.grad(x))
    assert (noisy.noisy_grad(x, rng) != quiet.grad(x)).all()
    tensor = noisy.noisy_grad(torch.tensor(x, dtype=torch.float32), rng)
    assert tensor.dtype == torch.float32


# The class


def test_a_problem_cannot_be_changed():
    problem = problems.rosenbrock()
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.minimum = 3.0
    for name in ("start", "minima", "domain", "variance"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[...] = 0


BOWL = {
    "name": "bowl",
    "formulas": Formulas(lambda x: (x * x).sum(-1), lambda x: 2 * x, lambda x: x),
    "minima": [(0, 0)],
    "minimum": 0.0,
    "start": (1, 1),
    "domain": ((-1, 2), (-1, 2)),
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": 3.0}, r"start: expected shape \(n,\), but got \(\)"),
        ({"minima": (0, 0)}, r"minima: expected shape \(k, 2\), but got \(2,\)"),
        (
            {"domain": ((1, 1), (0, 2))},
            r"domain: expected 2 pairs \(low, high\), but got \(\(1, 1\)",
        ),
        ({"domain": (0, 2)}, "domain: expected 2 pairs"),
        ({"variance": -1.0}, "variance: expected a finite number >= 0, or 2 of them, but got -1.0"),
        ({"variance": (1, 2, 3)}, "variance: expected a finite number"),
        ({"variance": np.inf}, "variance: expected a finite number"),
    ],
)
def test_a_problem_that_does_not_fit_together_is_refused(given, message):
    assert Problem(**BOWL).n == 2
    with pytest.raises(ValueError, match=message):
        Problem(**BOWL | given)


def test_a_problem_without_an_equation_shows_its_name():
    assert Problem(**BOWL)._repr_latex_() == repr(Problem(**BOWL)) == "Problem('bowl', n=2)"
    assert str(Source("A. Uthor", 1999, "Title", "Press")) == "A. Uthor (1999), “Title”, Press"


def test_points_are_checked():
    problem = problems.beale()
    for method in (problem.fun, problem.grad, problem.hess):
        with pytest.raises(ValueError, match=r"Beale: expected points of shape \(..., 2\).*\(3,\)"):
            method([1, 2, 3])
    with pytest.raises(ValueError, match="expected points of shape"):
        problem.fun(1.0)
    with pytest.raises(TypeError, match="Beale: expected floating-point numbers"):
        problem.fun(torch.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"rng: expected a numpy.random.Generator, but got int"):
        problem.noisy_grad([1, 2], 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problems.rosenbrock(1), "n: expected an integer that is at least 2, but got 1"),
        (lambda: problems.rosenbrock(3, a=2), "a: expected 1 for n > 2, but got 2"),
        (
            lambda: problems.rosenbrock(a=np.inf),
            r"a: expected a number in \(-inf, inf\), but got inf",
        ),
        (lambda: problems.rosenbrock(b=0), r"b: expected a number in \(0, inf\), but got 0"),
        (lambda: problems.rastrigin(0), "n: expected a positive integer"),
        (lambda: problems.ravine(0.5), r"condition: expected a number in \[1, inf\)"),
        (
            lambda: problems.ravine(angle=np.inf),
            r"angle: expected a number in \(-inf, inf\), but got inf",
        ),
        (lambda: problems.noisy_quadratic((1, 0)), "curvatures: expected finite numbers > 0"),
        (lambda: problems.noisy_quadratic(()), "curvatures: expected finite numbers > 0"),
        (lambda: problems.noisy_quadratic(variance=-1), "variance: expected a finite number >= 0"),
        (lambda: problems.noisy_quadratic(batch_size=0), r"batch_size: .* in \(0, inf\)"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [problems.rosenbrock, problems.beale, problems.himmelblau])
def test_minimize_takes_them(make):
    problem = make()
    found = optim.minimize(
        problem.fun, problem.start, optim.LBFGS, jac=problem.grad, line_search_fn="strong_wolfe"
    )
    assert found.success
    assert np.abs(problem.minima - found.x).max(axis=1).min() < 1e-4


# Trajectories


def test_a_trajectory_is_the_loop_that_one_would_write():
    problem, x = problems.rosenbrock(), np.array([-1.2, 1.0])
    opt, points, grads = optim.Adam([x], lr=0.05), [x.copy()], []
    for _ in range(30):
        grads.append(problem.grad(x))
        opt.step(grads=[grads[-1]])
        points.append(x.copy())
    way = trajectory(problem, optim.Adam, 30, lr=0.05)
    np.testing.assert_array_equal(way.points, points)
    np.testing.assert_array_equal(way.grads, grads)
    np.testing.assert_array_equal(way.values, problem.fun(np.array(points)))
    assert problem.start.tolist() == [-1.2, 1]


def test_gradients_have_their_noise():
    way = trajectory(problems.noisy_quadratic(), optim.SGD, 10, lr=0.1)
    np.testing.assert_allclose(np.diff(way.points, axis=0), -0.1 * way.grads, rtol=1e-12)
    assert (way.grads != problems.noisy_quadratic().grad(way.points[:-1])).all()


@pytest.mark.parametrize("spec", POINTWISE, ids=lambda spec: spec.name)
def test_every_algorithm_runs(spec):
    options = {"line_search_fn": "strong_wolfe"} if spec.kind == "closure" else {}
    way = trajectory(problems.beale(), spec.cls, 20, **options)
    assert way.points.shape == (21, 2)
    assert way.grads.shape == (20, 2)
    assert np.isfinite(way.points).all()
    assert way.values[-1] < way.values[0]
    np.testing.assert_array_equal(way.grads[0], problems.beale().grad(way.points[0]))


def test_lbfgs_shows_each_iteration_and_is_given_values():
    options = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
    way = trajectory(problems.rosenbrock(), optim.LBFGS, 60, **options)
    np.testing.assert_allclose(way.points[-1], [1, 1], atol=1e-4)
    assert (np.diff(way.values) <= 0).all()


def test_sparse_adam_is_adam_where_every_element_is_touched():
    problem = problems.beale()
    sparse = trajectory(problem, optim.SparseAdam, 50, lr=0.01)
    dense = trajectory(problem, optim.Adam, 50, lr=0.01)
    np.testing.assert_allclose(sparse.points, dense.points, rtol=1e-6)  # eps is elsewhere


def test_a_schedule_is_followed():
    def halves(opt):
        return LambdaLR(opt, lambda step: 0.5**step)

    way = trajectory(problems.beale(), optim.SGD, 4, lr=0.01, scheduler=halves)
    rates = -np.diff(way.points, axis=0)[:, 1] / way.grads[:, 1]
    np.testing.assert_allclose(rates, 0.01 * 0.5 ** np.arange(4), rtol=1e-10)
    plateau = trajectory(  # which is given the value
        problems.saddle(),
        optim.SGD,
        3,
        start=(0, 0),
        scheduler=lambda opt: ReduceLROnPlateau(opt, patience=0),
    )
    assert not plateau.values.any()


def test_a_function_can_make_the_optimizer():
    def make(params):
        return optim.SGD(params, lr=0.1)

    way = trajectory(problems.saddle(), make, 3)
    np.testing.assert_array_equal(
        way.points, trajectory(problems.saddle(), optim.SGD, 3, lr=0.1).points
    )
    assert trajectory(problems.saddle(), make, 0).grads.shape == (0, 2)


def test_a_run_that_diverges_goes_on():
    way = trajectory(problems.rosenbrock(), optim.SGD, 50, lr=1.0)
    assert way.points.shape == (51, 2)
    assert not np.isfinite(way.values[-1])


def test_runs_have_names():
    runs = [optim.Rprop, (optim.SGD, {"lr": 1e-3, "momentum": 0.9, "scheduler": None})]
    found = trajectories(problems.beale(), runs, 5)
    assert list(found) == ["Rprop", "SGD (lr=0.001, momentum=0.9, scheduler=None)"]
    named = trajectories(problems.beale(), {"mine": runs[1], "other": optim.Rprop}, 5)
    assert list(named) == ["mine", "other"]
    np.testing.assert_array_equal(named["other"].points, found["Rprop"].points)
    assert named["mine"].points.shape == (6, 2)


def test_bad_runs_are_told():
    problem = problems.beale()
    with pytest.raises(ValueError, match="steps: expected a non-negative integer, but got -1"):
        trajectory(problem, optim.SGD, -1)
    with pytest.raises(ValueError, match=r"start: expected shape \(2,\), but got \(3,\)"):
        trajectory(problem, optim.SGD, 1, start=(1, 2, 3))
    with pytest.raises(TypeError, match=r"algorithm: expected an optimizer class.*but got 'SGD'"):
        trajectory(problem, "SGD", 1)
    with pytest.raises(TypeError, match=r"algorithm: expected an optimizer class.*but got None"):
        trajectory(problem, lambda params: None, 1)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        trajectory(problem, optim.SGD, 1, lr=-1)
    with pytest.raises(TypeError, match="runs: expected a mapping or a sequence, but got int"):
        trajectories(problem, 3)
    with pytest.raises(
        TypeError, match=r"runs: expected optimizer classes, or pairs .* got 'Adam'"
    ):
        trajectories(problem, ["Adam"])
    with pytest.raises(TypeError, match="runs: expected optimizer classes"):
        trajectories(problem, [(optim.SGD, 0.1)])
    with pytest.raises(ValueError, match="at least one run"):
        trajectories(problem, [])
    with pytest.raises(ValueError, match="'SGD' occurs twice"):
        trajectories(problem, [optim.SGD, optim.SGD])
