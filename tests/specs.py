"""One declarative spec per algorithm, from which the tests are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import arrayopt as optim


@dataclass(frozen=True)
class Spec:
    """What the tests know about an algorithm.

    Attributes
    ----------
    name : str
        What it is called here and in torch.
    options : list of dict
        Sets of options that are compared with torch; together they take every branch. (No mean
        square has a decay rate of exactly 1/2: two roundings are left then, of which torch's fused
        multiply-add saves one, so that the error of NumPy in single precision is 1.3 of torch's.)
    state : dict of str to list of str
        The entries of the state under each option that adds some; ``""`` for those always there.
    kind : str
        "elementwise": each element is updated by itself, from dense gradients. "sparse": the
        entries that a sparse gradient touches. "closure": all elements together.
    """

    name: str
    options: list[dict[str, Any]]
    state: dict[str, list[str]] = field(default_factory=dict)
    kind: str = "elementwise"

    @property
    def cls(self) -> type[optim.Optimizer]:
        return getattr(optim, self.name)

    @property
    def scalars(self) -> set[str]:
        """The entries of the state that are numbers."""
        return {slot.name for slot in self.cls.state_table if slot.scalar}


_ADAM = [
    {},
    {"amsgrad": True},
    {"betas": (0.3, 0.4), "eps": 1e-3},
    {"weight_decay": 0.1, "lr": 0.02},
    {"weight_decay": 0.1, "amsgrad": True, "maximize": True},
    {"betas": (0.0, 0.0), "eps": 0.1},
    {"lr": 0.0},
]
_ADAM_STATE = {"": ["step", "exp_avg", "exp_avg_sq"], "amsgrad": ["max_exp_avg_sq"]}

SPECS = [
    Spec(
        "SGD",
        [
            {},
            {"lr": 0.0},
            {"weight_decay": 0.1, "lr": 0.01},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "maximize": True, "lr": 1e-4},
            {"maximize": True},
        ],
        {"momentum": ["momentum_buffer"]},
    ),
    Spec(
        "Adam",
        [*_ADAM, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
        _ADAM_STATE,
    ),
    Spec("AdamW", [*_ADAM, {"weight_decay": 0.0}], _ADAM_STATE),
    Spec(
        "Adadelta",
        [{}, {"rho": 0.8, "eps": 1e-3}, {"weight_decay": 0.1, "lr": 0.5, "maximize": True}],
        {"": ["step", "square_avg", "acc_delta"]},
    ),
    Spec(
        "Adagrad",
        [
            {},
            {"lr_decay": 0.1, "maximize": True},
            {"initial_accumulator_value": 0.5, "eps": 1e-3, "weight_decay": 0.1},
        ],
        {"": ["step", "sum"]},
    ),
    Spec(
        "Adamax",
        [{}, {"betas": (0.3, 0.4), "eps": 1e-3}, {"weight_decay": 0.1, "maximize": True}],
        {"": ["step", "exp_avg", "exp_inf"]},
    ),
    Spec(
        "ASGD",
        [
            {},
            {"lambd": 0.01, "alpha": 0.5, "t0": 5},
            {"weight_decay": 0.1, "maximize": True, "lr": 1e-3},
        ],
        {"": ["step", "eta", "mu", "ax"]},
    ),
    Spec(
        "NAdam",
        [
            {},
            {"momentum_decay": 0.1, "betas": (0.5, 0.9), "maximize": True},
            {"weight_decay": 0.1},
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        {"": ["step", "mu_product", "exp_avg", "exp_avg_sq"]},
    ),
    Spec(
        "RAdam",
        [
            {},
            {"betas": (0.8, 0.95), "maximize": True},
            {"weight_decay": 0.1, "eps": 1e-3},
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        {"": ["step", "exp_avg", "exp_avg_sq"]},
    ),
    Spec(
        "RMSprop",
        [
            {},
            {"alpha": 0.9, "eps": 1e-3},
            {"momentum": 0.9},
            {"centered": True},
            {"centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
        ],
        {"": ["step", "square_avg"], "momentum": ["momentum_buffer"], "centered": ["grad_avg"]},
    ),
    Spec(
        "Rprop",
        [{}, {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)}, {"lr": 0.1, "maximize": True}],
        {"": ["step", "prev", "step_size"]},
    ),
    Spec(
        "SparseAdam",
        [{}, {"lr": 0.1, "betas": (0.3, 0.4), "eps": 1e-3}, {"maximize": True}],
        {"": ["step", "exp_avg", "exp_avg_sq"]},
        kind="sparse",
    ),
    Spec(
        "LBFGS",
        [{}, {"line_search_fn": "strong_wolfe"}, {"history_size": 2, "max_iter": 4, "lr": 0.5}],
        {"": ["func_evals", "n_iter"]},
        kind="closure",
    ),
]

BY_NAME = {spec.name: spec for spec in SPECS}

ELEMENTWISE = [spec for spec in SPECS if spec.kind == "elementwise"]

CASES = [(spec, options) for spec in ELEMENTWISE for options in spec.options]


def case_id(value: Any) -> str:
    if isinstance(value, Spec):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={option}" for key, option in value.items()) or "defaults"
    return getattr(value, "__name__", str(value))
