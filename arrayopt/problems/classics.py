"""The test functions that everybody knows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arrayopt.namespace import Array, array_namespace
from arrayopt.options import check_integer, check_number
from arrayopt.problems.problem import Formulas, Problem, Source, constant, symmetric

__all__ = ["beale", "himmelblau", "rastrigin", "rosenbrock"]

_MORE_GARBOW_HILLSTROM = Source(
    "J. J. Moré, B. S. Garbow and K. E. Hillstrom",
    1981,
    "Testing unconstrained optimization software",
    "ACM Transactions on Mathematical Software 7, 17–41",
)


def rosenbrock(n: int = 2, a: float = 1.0, b: float = 100.0) -> Problem:
    r"""A bent valley with steep walls: it is found at once, and followed slowly.

    .. math:: f(x) = \sum_{i=1}^{n-1} b (x_{i+1} - x_i^2)^2 + (a - x_i)^2

    Parameters
    ----------
    n : int, default 2
        The number of variables, >= 2.
    a : float, default 1
        The first variable of the minimum; 1 if n > 2, where others have no closed form.
    b : float, default 100
        How steep the walls are, > 0.

    Returns
    -------
    Problem
        The minimum is 0 at :math:`(a, a^2)`, or at (1, …, 1). Of 4 to 7 variables, there is
        another local minimum, of about 4, where the first is negative.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    H. H. Rosenbrock (1960), "An automatic method for finding the greatest or least value of a
    function", The Computer Journal 3, 175–184. The start is problem 1 of J. J. Moré, B. S. Garbow
    and K. E. Hillstrom (1981), "Testing unconstrained optimization software", ACM Transactions on
    Mathematical Software 7, 17–41. The sum over neighbours, and its other minima: Y.-W. Shang and
    Y.-H. Qiu (2006), "A note on the extended Rosenbrock function", Evolutionary Computation 14,
    119–126.

    Examples
    --------
    >>> problem = rosenbrock()
    >>> problem.start, problem.fun(problem.start)
    (array([-1.2,  1. ]), np.float64(24.199999999999996))
    >>> problem.hess(problem.minima[0])
    array([[ 802., -400.],
           [-400.,  200.]])
    """
    n, a = check_integer("n", n, 2), float(check_number("a", a))
    b = float(check_number("b", b, 0, ends="()"))
    if n > 2 and a != 1:
        raise ValueError(f"a: expected 1 for n > 2, but got {a!r}")

    def fun(x: Array) -> Array:
        here, there = x[..., :-1], x[..., 1:]
        terms = b * (there - here * here) ** 2 + (a - here) ** 2
        return array_namespace(x).sum(terms, axis=-1)

    def grad(x: Array) -> Array:
        xp = array_namespace(x)
        here, residual = x[..., :-1], x[..., 1:] - x[..., :-1] ** 2
        none = xp.zeros_like(x[..., :1])
        left = -4 * b * here * residual - 2 * (a - here)
        return xp.concat([left, none], axis=-1) + xp.concat([none, 2 * b * residual], axis=-1)

    def hess(x: Array) -> Array:
        xp = array_namespace(x)
        here, there = x[..., :-1], x[..., 1:]
        none = xp.zeros_like(x[..., :1])
        left = 2 + 12 * b * here * here - 4 * b * there
        right = 2 * b * xp.ones_like(here)
        diagonal = xp.concat([left, none], axis=-1) + xp.concat([none, right], axis=-1)
        beside = xp.concat([-4 * b * here, none], axis=-1)
        upper = beside[..., :, None] * constant(np.eye(n, k=1), x)
        lower = array_namespace(x).matrix_transpose(upper)
        return diagonal[..., :, None] * constant(np.eye(n), x) + upper + lower

    indexed = "{:g} (x_{{i+1}} - x_i^2)^2 + ({:g} - x_i)^2"
    alone = "{:g} (x_2 - x_1^2)^2 + ({:g} - x_1)^2"
    terms = (alone if n == 2 else rf"\sum_{{{{i=1}}}}^{{{{{n - 1}}}}} {indexed}").format(b, a)
    return Problem(
        "Rosenbrock",
        Formulas(fun, grad, hess),
        minima=[(a, a * a) if n == 2 else np.ones(n)],
        minimum=0.0,
        start=np.resize([-1.2, 1.0], n),
        domain=((-2, 2), (-1, 3)) + ((-2, 2),) * (n - 2),
        equation=f"f(x) = {terms}",
        sources=(
            Source(
                "H. H. Rosenbrock",
                1960,
                "An automatic method for finding the greatest or least value of a function",
                "The Computer Journal 3, 175–184",
            ),
            _MORE_GARBOW_HILLSTROM,
            Source(
                "Y.-W. Shang and Y.-H. Qiu",
                2006,
                "A note on the extended Rosenbrock function",
                "Evolutionary Computation 14, 119–126",
            ),
        ),
    )


def beale() -> Problem:
    r"""A flat valley between walls that grow with the sixth power.

    .. math:: f(x) = (1.5 - x_1 (1 - x_2))^2 + (2.25 - x_1 (1 - x_2^2))^2
              + (2.625 - x_1 (1 - x_2^3))^2

    Returns
    -------
    Problem
        The minimum is 0 at (3, 0.5).

    References
    ----------
    E. M. L. Beale (1958), "On an iterative method for finding a local minimum of a function of more
    than one variable", Technical Report 25, Statistical Techniques Research Group, Princeton
    University. The start is problem 5 of J. J. Moré, B. S. Garbow and K. E. Hillstrom (1981),
    "Testing unconstrained optimization software", ACM Transactions on Mathematical Software 7,
    17–41.

    Examples
    --------
    >>> beale().fun([[1, 1], [3, 0.5]])
    array([14.203125,  0.      ])
    """
    constants = (1.5, 2.25, 2.625)

    def residuals(x: Array) -> list[tuple[int, Array]]:
        return [(k, c - x[..., 0] * (1 - x[..., 1] ** k)) for k, c in enumerate(constants, 1)]

    def fun(x: Array) -> Array:
        return sum(r * r for _, r in residuals(x))

    def grad(x: Array) -> Array:
        u, v = x[..., 0], x[..., 1]
        along = sum(2 * r * (v**k - 1) for k, r in residuals(x))
        across = sum(2 * r * u * (k * v ** (k - 1)) for k, r in residuals(x))
        return array_namespace(x).stack([along, across], axis=-1)

    def hess(x: Array) -> Array:
        u, v = x[..., 0], x[..., 1]
        xx: Any = sum((2 * (v**k - 1) ** 2 for k in (1, 2, 3)), start=0.0)
        xy: Any = 0.0
        yy: Any = 0.0
        for k, r in residuals(x):
            slope = k * v ** (k - 1)
            bend = k * (k - 1) * v ** max(0, k - 2)
            xy = xy + 2 * slope * (r + u * (v**k - 1))
            yy = yy + 2 * (u * u * slope * slope + r * u * bend)
        return symmetric(xx, xy, yy)

    return Problem(
        "Beale",
        Formulas(fun, grad, hess),
        minima=[(3, 0.5)],
        minimum=0.0,
        start=(1, 1),
        domain=((-0.5, 4.5), (-1.5, 1.5)),
        equation=r"f(x) = (1.5 - x_1 (1 - x_2))^2 + (2.25 - x_1 (1 - x_2^2))^2 "
        r"+ (2.625 - x_1 (1 - x_2^3))^2",
        sources=(
            Source(
                "E. M. L. Beale",
                1958,
                "On an iterative method for finding a local minimum of a function of more than "
                "one variable",
                "Technical Report 25, Statistical Techniques Research Group, Princeton University",
            ),
            _MORE_GARBOW_HILLSTROM,
        ),
    )


#: To the last bit.
_HIMMELBLAU = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.2831859912861696),
    (3.5844283403304917, -1.8481265269644036),
)


def himmelblau() -> Problem:
    r"""Four minima, all the same.

    .. math:: f(x) = (x_1^2 + x_2 - 11)^2 + (x_1 + x_2^2 - 7)^2

    Returns
    -------
    Problem
        The minimum is 0 at (3, 2) and near (-2.805, 3.131), (-3.779, -3.283) and (3.584, -1.848).
        The start, zero, lies between all of them; it is near the only local maximum.

    References
    ----------
    D. M. Himmelblau (1972), "Applied Nonlinear Programming", McGraw-Hill.

    Examples
    --------
    >>> himmelblau().fun([[0, 0], [3, 2]])
    array([170.,   0.])
    """

    def residuals(x: Array) -> tuple[Array, Array, Array, Array]:
        u, v = x[..., 0], x[..., 1]
        return u, v, u * u + v - 11, u + v * v - 7

    def fun(x: Array) -> Array:
        _, _, first, second = residuals(x)
        return first * first + second * second

    def grad(x: Array) -> Array:
        u, v, first, second = residuals(x)
        along, across = 4 * u * first + 2 * second, 2 * first + 4 * v * second
        return array_namespace(x).stack([along, across], axis=-1)

    def hess(x: Array) -> Array:
        u, v, first, second = residuals(x)
        return symmetric(4 * first + 8 * u * u + 2, 4 * (u + v), 4 * second + 8 * v * v + 2)

    return Problem(
        "Himmelblau",
        Formulas(fun, grad, hess),
        minima=_HIMMELBLAU,
        minimum=0.0,
        start=(0, 0),
        domain=((-5, 5), (-5, 5)),
        equation="f(x) = (x_1^2 + x_2 - 11)^2 + (x_1 + x_2^2 - 7)^2",
        sources=(Source("D. M. Himmelblau", 1972, "Applied Nonlinear Programming", "McGraw-Hill"),),
    )


def rastrigin(n: int = 2) -> Problem:
    r"""A bowl full of dents: a local minimum near every point of whole numbers.

    .. math:: f(x) = 10 n + \sum_{i=1}^n x_i^2 - 10 \cos(2 \pi x_i)

    Parameters
    ----------
    n : int, default 2
        The number of variables, >= 1.

    Returns
    -------
    Problem
        The minimum is 0 at zero. The start, (3.3, -2.4, …), is in a dent far off.

    Raises
    ------
    ValueError
        If `n` is no positive integer.

    References
    ----------
    L. A. Rastrigin (1974), "Systems of extremal control" (in Russian), Nauka, in two variables; for
    any number of them, H. Mühlenbein, M. Schomisch and J. Born (1991), "The parallel genetic
    algorithm as function optimizer", Parallel Computing 17, 619–632.

    Examples
    --------
    >>> rastrigin(3).fun([0.0, 1.0, -2.0]).round(12)
    np.float64(5.0)
    """
    n = check_integer("n", n, 1)

    def fun(x: Array) -> Array:
        xp = array_namespace(x)
        return xp.sum(x * x + 10 * (1 - xp.cos(2 * math.pi * x)), axis=-1)

    def grad(x: Array) -> Array:
        return 2 * x + 20 * math.pi * array_namespace(x).sin(2 * math.pi * x)

    def hess(x: Array) -> Array:
        diagonal = 2 + 40 * math.pi**2 * array_namespace(x).cos(2 * math.pi * x)
        return diagonal[..., :, None] * constant(np.eye(n), x)

    return Problem(
        "Rastrigin",
        Formulas(fun, grad, hess),
        minima=np.zeros((1, n)),
        minimum=0.0,
        start=np.resize([3.3, -2.4], n),
        domain=((-5.12, 5.12),) * n,
        equation=r"f(x) = 10 n + \sum_{i=1}^{n} x_i^2 - 10 \cos(2 \pi x_i)",
        sources=(
            Source("L. A. Rastrigin", 1974, "Systems of extremal control", "Nauka (in Russian)"),
            Source(
                "H. Mühlenbein, M. Schomisch and J. Born",
                1991,
                "The parallel genetic algorithm as function optimizer",
                "Parallel Computing 17, 619–632",
            ),
        ),
    )
