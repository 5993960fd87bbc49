"""Functions to try optimizers on: with gradient, Hessian, minima and source.

>>> from arrayopt import minimize, problems
>>> problem = problems.rosenbrock()
>>> result = minimize(problem.fun, problem.start, jac=problem.grad, lr=0.02)
>>> result.x.round(3), problem.minima
(array([1., 1.]), array([[1., 1.]]))
"""

from arrayopt.problems.classics import beale, himmelblau, rastrigin, rosenbrock
from arrayopt.problems.problem import Formulas, Problem, Source
from arrayopt.problems.shapes import noisy_quadratic, ravine, saddle
from arrayopt.problems.trajectory import Trajectory, trajectories, trajectory

__all__ = [
    "Formulas",
    "Problem",
    "Source",
    "Trajectory",
    "beale",
    "himmelblau",
    "noisy_quadratic",
    "rastrigin",
    "ravine",
    "rosenbrock",
    "saddle",
    "trajectories",
    "trajectory",
]
