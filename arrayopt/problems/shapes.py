"""What losses look like nearby: a saddle, a ravine, and a bowl that is seen through noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from arrayopt.namespace import Array, array_namespace
from arrayopt.options import check_number
from arrayopt.problems.problem import Formulas, Problem, Source, constant, symmetric

__all__ = ["noisy_quadratic", "ravine", "saddle"]


def saddle() -> Problem:
    r"""A saddle at zero, between two minima.

    .. math:: f(x) = \tfrac12 x_1^2 + \tfrac14 x_2^4 - \tfrac12 x_2^2

    Returns
    -------
    Problem
        The minimum is -1/4, at (0, 1) and (0, -1). The start is (1, 0.001): from (1, 0), where the
        gradient points at the saddle, gradient descent goes there and stays.

    References
    ----------
    Y. Nesterov (2004), "Introductory Lectures on Convex Optimization", Kluwer, example 1.2.2.

    Examples
    --------
    >>> problem = saddle()
    >>> problem.grad([0, 0]), problem.hess([0, 0])
    (array([0., 0.]), array([[ 1.,  0.],
           [ 0., -1.]]))
    """

    def fun(x: Array) -> Array:
        u, v = x[..., 0], x[..., 1]
        return u * u / 2 + v**4 / 4 - v * v / 2

    def grad(x: Array) -> Array:
        u, v = x[..., 0], x[..., 1]
        return array_namespace(x).stack([u, v**3 - v], axis=-1)

    def hess(x: Array) -> Array:
        u, v = x[..., 0], x[..., 1]
        return symmetric(0 * u + 1, 0 * u, 3 * v * v - 1)

    return Problem(
        "saddle",
        Formulas(fun, grad, hess),
        minima=[(0, 1), (0, -1)],
        minimum=-0.25,
        start=(1, 1e-3),
        domain=((-1.5, 1.5), (-1.5, 1.5)),
        equation=r"f(x) = \frac{1}{2} x_1^2 + \frac{1}{4} x_2^4 - \frac{1}{2} x_2^2",
        sources=(
            Source(
                "Y. Nesterov",
                2004,
                "Introductory Lectures on Convex Optimization",
                "Kluwer, example 1.2.2",
            ),
        ),
    )


def ravine(condition: float = 100.0, angle: float = 0.0) -> Problem:
    r"""A quadratic that is flat along one direction, and steep across it.

    .. math:: f(x) = \tfrac12 \left(u_1^2 + \kappa\, u_2^2\right), \qquad
              u = \begin{pmatrix} \cos\varphi & \sin\varphi \\ -\sin\varphi & \cos\varphi
              \end{pmatrix} x

    Parameters
    ----------
    condition : float, default 100
        :math:`\kappa`, the condition number of the Hessian, >= 1.
    angle : float, default 0
        :math:`\varphi`, that of the ravine with the first axis, in radians. Algorithms that scale
        each variable by itself see an axis-aligned ravine as if it were round.

    Returns
    -------
    Problem
        The minimum is 0 at zero. The start is :math:`u = (-4, 1)`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    R. S. Sutton (1986), "Two problems with backpropagation and other steepest-descent learning
    procedures for networks", Proceedings of the 8th Annual Conference of the Cognitive Science
    Society, 823–831, on ravines; S. Boyd and L. Vandenberghe (2004), "Convex Optimization",
    Cambridge University Press, section 9.3.2, for the equation.

    Examples
    --------
    >>> import numpy as np
    >>> problem = ravine(condition=1000, angle=0.5)
    >>> np.linalg.cond(problem.hess(problem.start)).round(6)
    np.float64(1000.0)
    """
    condition = float(check_number("condition", condition, 1))
    angle = float(check_number("angle", angle))
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-math.sin(angle), math.cos(angle)])
    matrix = np.outer(along, along) + condition * np.outer(across, across)
    half, u = (5.0, "u") if angle else (1.5, "x")
    return Problem(
        "ravine",
        _quadratic(lambda x: x @ constant(matrix, x), lambda: matrix),
        minima=[(0, 0)],
        minimum=0.0,
        start=-4 * along + across,
        domain=((-5, 5), (-half, half)),
        equation=rf"f(x) = \frac{{1}}{{2}} ({u}_1^2 + {condition:g}\, {u}_2^2)"
        + (rf",\quad u = x \text{{ turned by }} {angle:g}" if angle else ""),
        sources=(
            Source(
                "R. S. Sutton",
                1986,
                "Two problems with backpropagation and other steepest-descent learning procedures "
                "for networks",
                "Proceedings of the 8th Annual Conference of the Cognitive Science Society, "
                "823–831",
            ),
            Source(
                "S. Boyd and L. Vandenberghe",
                2004,
                "Convex Optimization",
                "Cambridge University Press, section 9.3.2",
            ),
        ),
    )


def noisy_quadratic(
    curvatures: Sequence[float] = (1.0, 0.1),
    variance: float | Sequence[float] | None = None,
    batch_size: float = 1,
) -> Problem:
    r"""A bowl whose gradients are noisy, as those of minibatches are.

    .. math:: f(x) = \tfrac12 \sum_i h_i x_i^2, \qquad g_i(x) = h_i x_i + \varepsilon_i, \qquad
              \varepsilon_i \sim \mathcal N(0, c_i / B)

    Parameters
    ----------
    curvatures : sequence of float, default (1, 0.1)
        :math:`h`, > 0. That of the paper: ``1 / np.arange(1, 10001)``.
    variance : float or sequence of float, optional
        :math:`c`, that of the gradient of a single example; by default, and in the paper, `h`.
    batch_size : float, default 1
        :math:`B`, how many examples a gradient is the mean of, > 0.

    Returns
    -------
    Problem
        The minimum is 0 at zero. The start is (-4, 3, -4, …). `fun` and `grad` are those of the
        expectation; `noisy_grad` draws.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    G. Zhang, L. Li, Z. Nado, J. Martens, S. Sachdeva, G. E. Dahl, C. J. Shallue and R. Grosse
    (2019), "Which algorithmic choices matter at which batch sizes? Insights from a noisy quadratic
    model", NeurIPS 32, section 3. In T. Schaul, S. Zhang and Y. LeCun (2013), "No more pesky
    learning rates", ICML 30, it is the minimum that is noisy, with variance :math:`\sigma^2`:
    this is :math:`c_i = h_i^2 \sigma_i^2`.

    Examples
    --------
    >>> import numpy as np
    >>> problem = noisy_quadratic(batch_size=4)
    >>> problem.grad([2.0, 2.0]), problem.variance
    (array([2. , 0.2]), array([0.25 , 0.025]))
    >>> rng = np.random.default_rng(0)
    >>> problem.noisy_grad([2.0, 2.0], rng).round(3)
    array([2.063, 0.179])
    """
    h = np.array(curvatures, np.float64)
    if h.ndim != 1 or not h.size or not ((h > 0) & (h < math.inf)).all():
        raise ValueError(f"curvatures: expected finite numbers > 0, but got {curvatures!r}")
    size = float(check_number("batch_size", batch_size, 0, ends="()"))
    return Problem(
        "noisy quadratic",
        _quadratic(lambda x: x * constant(h, x), lambda: np.diag(h)),
        minima=np.zeros((1, h.size)),
        minimum=0.0,
        start=np.resize([-4.0, 3.0], h.size),
        domain=((-5, 5),) * h.size,
        equation=r"f(x) = \frac{1}{2} \sum_i h_i x_i^2,\quad g_i(x) = h_i x_i + \varepsilon_i,"
        r"\quad \varepsilon_i \sim \mathcal{N}(0, c_i / B)",
        sources=(
            Source(
                "G. Zhang, L. Li, Z. Nado, J. Martens, S. Sachdeva, G. E. Dahl, C. J. Shallue and "
                "R. Grosse",
                2019,
                "Which algorithmic choices matter at which batch sizes? Insights from a noisy "
                "quadratic model",
                "NeurIPS 32, section 3",
            ),
            Source(
                "T. Schaul, S. Zhang and Y. LeCun", 2013, "No more pesky learning rates", "ICML 30"
            ),
        ),
        variance=(h if variance is None else np.asarray(variance, np.float64)) / size,
    )


def _quadratic(times: Callable[[Array], Array], hessian: Callable[[], Any]) -> Formulas:
    """Half of xᵀHx, of a function that multiplies by H, and of one that makes H."""

    def fun(x: Array) -> Array:
        return array_namespace(x).sum(x * times(x), axis=-1) / 2

    def hess(x: Array) -> Array:
        xp, matrix = array_namespace(x), constant(hessian(), x)
        return xp.broadcast_to(matrix, (*x.shape, x.shape[-1])) + xp.zeros_like(x)[..., None]

    return Formulas(fun, times, hess)
