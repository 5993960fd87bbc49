"""Minimizing a function, with or without SciPy."""

from arrayopt.minimization.loop import MinimizeResult
from arrayopt.minimization.plain import minimize
from arrayopt.minimization.with_scipy import scipy_method

__all__ = ["MinimizeResult", "minimize", "scipy_method"]
