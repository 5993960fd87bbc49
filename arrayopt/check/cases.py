"""The options under which algorithms are compared, and how close they have to be."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["BOUND", "HALF", "OPTIONS", "SINGLE", "bound_of"]

#: The largest relative difference in double precision: some 4,500 roundings.
BOUND = 1e-12

#: The error in single precision, against higher precision, as a multiple of the other side's.
SINGLE = 1.25

#: The same in half precision. There, a step can be as small as the last place of a weight, and
#: rounding decides whether it moves at all: which side is nearer is a matter of where it rounds.
HALF = 2.0

_ADAM: list[dict[str, Any]] = [
    {},
    {"amsgrad": True},
    {"betas": (0.3, 0.4), "eps": 1e-3},
    {"weight_decay": 0.1, "lr": 0.02},
    {"weight_decay": 0.1, "amsgrad": True, "maximize": True},
    {"betas": (0.0, 0.0), "eps": 0.1},
    {"lr": 0.0},
]

#: Sets of options by the name of the algorithm; together they take every branch of its rule. (No
#: mean square has a decay rate of exactly 1/2: two roundings are left then, of which torch's fused
#: multiply-add saves one, so that the error of NumPy in single precision is 1.3 of torch's.)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {},
        {"lr": 0.0},
        {"weight_decay": 0.1, "lr": 0.01},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "maximize": True, "lr": 1e-4},
        {"maximize": True},
    ],
    "Adam": [*_ADAM, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "AdamW": [*_ADAM, {"weight_decay": 0.0}],
    "Adadelta": [
        {},
        {"rho": 0.8, "eps": 1e-3},
        {"weight_decay": 0.1, "lr": 0.5, "maximize": True},
    ],
    "Adafactor": [
        {},
        {"lr": 0.5, "weight_decay": 0.1, "maximize": True},
        {"eps": (1e-4, 0.1), "d": 2.0, "beta2_decay": -0.7},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1, "maximize": True, "lr": 0.1},
        {"initial_accumulator_value": 0.5, "eps": 1e-3, "weight_decay": 0.1},
    ],
    "Adamax": [
        {},
        {"betas": (0.3, 0.4), "eps": 1e-3, "lr": 0.01},
        {"weight_decay": 0.1, "maximize": True},
    ],
    "ASGD": [
        {},
        {"lambd": 0.01, "alpha": 0.5, "t0": 5},
        {"weight_decay": 0.1, "maximize": True, "lr": 1e-3},
    ],
    "Muon": [
        {},
        {"lr": 0.1, "nesterov": False, "ns_steps": 3, "adjust_lr_fn": "original"},
        {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.3, "weight_decay": 0.0, "eps": 1e-3},
        {"ns_coefficients": (1.5, -0.5, 0.0)},
    ],
    "NAdam": [
        {},
        {"momentum_decay": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "lr": 0.01, "maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "RAdam": [
        {},
        {"betas": (0.8, 0.95), "maximize": True, "lr": 0.01},
        {"weight_decay": 0.1, "eps": 1e-3},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "RMSprop": [
        {},
        {"alpha": 0.9, "eps": 1e-3, "lr": 1e-3},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
    ],
    "Rprop": [
        {},
        {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)},
        {"lr": 0.1, "maximize": True},
    ],
    "SparseAdam": [{}, {"lr": 0.1, "betas": (0.3, 0.4), "eps": 1e-3}, {"maximize": True}],
    "LBFGS": [
        {},
        {"line_search_fn": "strong_wolfe"},
        {
            "history_size": 2,
            "max_iter": 4,
            "max_eval": 5,
            "lr": 0.5,
            "tolerance_grad": 1e-6,
            "tolerance_change": 1e-8,
        },
    ],
}


def bound_of(eps: float) -> float:
    """The largest relative difference in a precision whose machine epsilon is `eps`.

    In half precision so many roundings could be any difference, and that is none; what is judged
    there is the error of both sides.

    Examples
    --------
    >>> bound_of(2.0**-52), round(bound_of(2.0**-23), 6), bound_of(2.0**-10)
    (1e-12, 0.000537, inf)
    """
    bound = BOUND * (eps / 2.0**-52)
    return bound if bound < 1 else math.inf
