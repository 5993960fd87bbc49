"""One declarative spec per algorithm, from which the tests are made."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import references
import signum
import torch

import arrayopt as optim
from arrayopt.check.cases import BOUND, OPTIONS, SINGLE
from arrayopt.trace import Structure, trace


@dataclass(frozen=True)
class Bounds:
    """How exact an algorithm is.

    Attributes
    ----------
    double : float
        The largest relative difference from torch in double precision, after 1,000 steps.
    single : float
        The error in single precision against double precision, as a multiple of torch's.
    ulps : int
        The largest distance of for-loop, foreach and fused, in units in the last place.
    """

    double: float = BOUND
    single: float = SINGLE
    ulps: int = 4


@dataclass(frozen=True)
class Spec:
    """What the tests know about an algorithm.

    Attributes
    ----------
    name : str
        What it is called, here and in torch.
    options : list of dict
        Sets of options that are compared with torch; together they take every branch.
    state : dict of str to list of str
        The entries of the state under each option that adds some; ``""`` for those always there.
    kind : str
        "elementwise": each element is updated by itself, from dense gradients. "whole": a parameter
        is looked at as a whole. "matrix": so is a matrix, and nothing else. "sparse": the entries
        that a sparse gradient touches. "closure": all elements together.
    bounds : Bounds
        How far the numbers may be from torch's.
    errors : list of (dict, type, str)
        Options that are refused, the error, and what its message says.
    well : dict
        Options with which it finds the minimum of a quadratic function; a `scheduler` may be among
        them, where steps do not become smaller by themselves.
    runs : list of dict
        Options with which it makes progress on every function of `test_convergence`.
    reference : type of torch.optim.Optimizer, optional
        What it is compared with if torch lacks it. Tests of what torch's own classes alone have,
        such as states that move, leave it out then.
    own : type of Optimizer, optional
        The class, if arrayopt does not export it.
    """

    name: str
    options: list[dict[str, Any]]
    state: dict[str, list[str]] = field(default_factory=dict)
    kind: str = "elementwise"
    bounds: Bounds = Bounds()
    errors: list[Refused] = field(default_factory=list)
    well: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    reference: type[torch.optim.Optimizer] | None = None
    own: type[optim.Optimizer] | None = None

    @property
    def cls(self) -> type[optim.Optimizer]:
        return self.own or getattr(optim, self.name)

    @property
    def theirs(self) -> type[torch.optim.Optimizer]:
        """What it is compared with: torch's class of the same name, or the reference."""
        return self.reference or getattr(torch.optim, self.name)

    def fit(self, array: Any) -> Any:
        """An array with two dimensions, if the algorithm takes matrices alone."""
        if self.kind != "matrix" or array.ndim == 2:
            return array
        return array.reshape((*array.shape, 1)[0], -1)

    @property
    def scalars(self) -> set[str]:
        """The entries of the state that are numbers."""
        return {slot.name for slot in self.cls.state_table if slot.scalar}


Refused = tuple[dict[str, Any], type[Exception], str]
NAN = float("nan")

_LR: list[Refused] = [
    ({"lr": -0.1}, ValueError, "Invalid learning rate: -0.1"),
    ({"lr": NAN}, ValueError, "Invalid learning rate: nan"),
]
_DECAY: list[Refused] = [
    ({"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
    ({"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
]
_EPS: list[Refused] = [({"eps": -1e-8}, ValueError, "Invalid epsilon value: -1e-08")]
_BETAS: list[Refused] = [
    ({"betas": (1.0, 0.9)}, ValueError, "Invalid beta parameter at index 0: 1.0"),
    ({"betas": (0.9, -0.1)}, ValueError, "Invalid beta parameter at index 1: -0.1"),
    ({"betas": (0.9, NAN)}, ValueError, "Invalid beta parameter at index 1: nan"),
    ({"betas": (0.9,)}, ValueError, "Invalid betas: expected 2 numbers, but got"),
    ({"betas": 0.9}, ValueError, "Invalid betas: expected 2 numbers, but got 0.9"),
    ({"betas": (0.9, "x")}, TypeError, "betas at index 1 must be a number .* str: 'x'"),
]
_OF_ADAM = [*_LR, *_DECAY, *_EPS, *_BETAS]

_ADAM_STATE = {"": ["step", "exp_avg", "exp_avg_sq"], "amsgrad": ["max_exp_avg_sq"]}

SPECS = [
    Spec(
        "SGD",
        OPTIONS["SGD"],
        {"momentum": ["momentum_buffer"]},
        errors=[
            *_LR,
            *_DECAY,
            ({"momentum": -0.5}, ValueError, "Invalid momentum value: -0.5"),
            ({"momentum": None}, TypeError, "momentum must be a number .* NoneType"),
            ({"dampening": "x"}, TypeError, "dampening must be a number .* got str"),
            ({"nesterov": True}, ValueError, "Nesterov momentum requires a momentum and zero"),
            (
                {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
                ValueError,
                "momentum=0.9 and dampening=0.1",
            ),
        ],
        well={"lr": 0.1, "momentum": 0.5},
        runs=[
            {"lr": 5e-4},
            {"lr": 5e-4, "momentum": 0.9},
            {"lr": 5e-4, "momentum": 0.9, "nesterov": True},
        ],
    ),
    Spec(
        "Adam",
        OPTIONS["Adam"],
        _ADAM_STATE,
        errors=_OF_ADAM,
        well={"lr": 0.05},
        runs=[{"lr": 0.05}, {"lr": 0.05, "amsgrad": True}],
    ),
    Spec(
        "AdamW",
        OPTIONS["AdamW"],
        _ADAM_STATE,
        errors=_OF_ADAM,
        well={"lr": 0.05, "weight_decay": 0.0},
        runs=[{"lr": 0.05}],
    ),
    Spec(
        "Adadelta",
        OPTIONS["Adadelta"],
        {"": ["step", "square_avg", "acc_delta"]},
        errors=[
            *_LR,
            *_DECAY,
            *_EPS,
            ({"rho": 1.5}, ValueError, "Invalid rho value: 1.5"),
        ],
        well={"lr": 1.0, "eps": 1e-2},
        # (with the default rho, its steps swing, and an error grows by 1e8)
        runs=[{"lr": 0.3, "rho": 0.99, "eps": 1e-4}],
    ),
    Spec(
        "Adafactor",
        OPTIONS["Adafactor"],
        {"": ["step", "row_var", "col_var", "variance"]},
        kind="whole",
        errors=[
            *_LR,
            *_DECAY,
            ({"eps": (-1e-30, 1e-3)}, ValueError, "Invalid epsilon at index 0: -1e-30"),
            ({"eps": (None, NAN)}, ValueError, "Invalid epsilon at index 1: nan"),
            ({"eps": (1e-3, None)}, TypeError, "eps at index 1 must be a number .* NoneType"),
            (
                {"eps": 1e-3},
                ValueError,
                "Invalid eps: expected 2 numbers, of which the first may be",
            ),
            ({"beta2_decay": 0.1}, ValueError, "Invalid beta2_decay value: 0.1"),
            ({"d": 0.5}, ValueError, "Invalid clipping threshold: 0.5"),
            ({"foreach": True}, RuntimeError, "foreach=True: the rule of Adafactor looks at a"),
        ],
        well={"lr": 0.1},
    ),
    Spec(
        "Adagrad",
        OPTIONS["Adagrad"],
        {"": ["step", "sum"]},
        errors=[
            *_LR,
            *_DECAY,
            *_EPS,
            ({"lr_decay": -1}, ValueError, "Invalid lr_decay value: -1"),
            (
                {"initial_accumulator_value": -1},
                ValueError,
                "Invalid initial_accumulator_value value: -1",
            ),
        ],
        well={"lr": 0.5},
        runs=[{"lr": 0.5}],
    ),
    Spec(
        "Adamax",
        OPTIONS["Adamax"],
        {"": ["step", "exp_avg", "exp_inf"]},
        errors=_OF_ADAM,
        well={"lr": 0.05},
        runs=[{"lr": 0.05}],
    ),
    Spec(
        "ASGD",
        OPTIONS["ASGD"],
        {"": ["step", "eta", "mu", "ax"]},
        errors=[
            *_LR,
            *_DECAY,
            ({"lambd": -1}, ValueError, "Invalid lambd value: -1"),
            ({"alpha": NAN}, ValueError, "Invalid alpha value: nan"),
            ({"t0": NAN}, ValueError, "Invalid t0 value: nan"),
        ],
        well={"lr": 0.1, "lambd": 0.0},
        runs=[{"lr": 5e-4, "t0": 50}],
    ),
    Spec(
        "Muon",
        OPTIONS["Muon"],
        {"": ["momentum_buffer"]},
        kind="matrix",
        errors=[
            *_LR,
            *_DECAY,
            *_EPS,
            ({"momentum": -0.5}, ValueError, "Invalid momentum value: -0.5"),
            (
                {"ns_coefficients": (1.5, -0.5)},
                ValueError,
                "Invalid ns_coefficients: expected 3 numbers, but got",
            ),
            (
                {"ns_coefficients": (1.5, NAN, 0)},
                ValueError,
                "Invalid ns_coefficients at index 1: nan",
            ),
            ({"ns_steps": 1.5}, TypeError, "ns_steps must be an int, but got float: 1.5"),
            ({"ns_steps": True}, TypeError, "ns_steps must be an int, but got bool: True"),
            (
                {"ns_steps": -1},
                ValueError,
                "Invalid ns_steps: -1 .expected an int of at least 0 and",
            ),
            ({"ns_steps": 100}, ValueError, "Invalid ns_steps: 100 .* at most 99"),
            ({"adjust_lr_fn": "rms"}, ValueError, "Invalid adjust_lr_fn: 'rms' .expected 'orig"),
        ],
        well={"lr": 0.1},
    ),
    Spec(
        "NAdam",
        OPTIONS["NAdam"],
        {"": ["step", "mu_product", "exp_avg", "exp_avg_sq"]},
        errors=[
            *_OF_ADAM,
            ({"momentum_decay": -1}, ValueError, "Invalid momentum_decay value: -1"),
        ],
        well={"lr": 0.05, "momentum_decay": 0.0},
        runs=[{"lr": 0.05}],
    ),
    Spec(
        "RAdam",
        OPTIONS["RAdam"],
        {"": ["step", "exp_avg", "exp_avg_sq"]},
        errors=_OF_ADAM,
        well={"lr": 0.05},
        # (its first steps are those of SGD, whose rate the quadratic limits to 2e-3)
        runs=[{"lr": 2e-3, "betas": (0.9, 0.99)}],
    ),
    Spec(
        "RMSprop",
        OPTIONS["RMSprop"],
        {"": ["step", "square_avg"], "momentum": ["momentum_buffer"], "centered": ["grad_avg"]},
        errors=[
            *_LR,
            *_DECAY,
            *_EPS,
            ({"alpha": -1}, ValueError, "Invalid alpha value: -1"),
            ({"momentum": -1}, ValueError, "Invalid momentum value: -1"),
        ],
        well={"lr": 0.05, "eps": 1.0},
        runs=[{"lr": 0.01}, {"lr": 0.01, "momentum": 0.5, "centered": True}],
    ),
    Spec(
        "Rprop",
        OPTIONS["Rprop"],
        {"": ["step", "prev", "step_size"]},
        errors=[
            *_LR,
            ({"etas": (1.5, 1.2)}, ValueError, "Invalid eta values: 1.5, 1.2"),
            ({"step_sizes": (2, 1)}, ValueError, "Invalid step sizes: 2, 1"),
        ],
        well={"step_sizes": (1e-9, 1.0)},
        runs=[{}],
    ),
    Spec(
        "SparseAdam",
        OPTIONS["SparseAdam"],
        {"": ["step", "exp_avg", "exp_avg_sq"]},
        kind="sparse",
        errors=[
            *_LR,
            *_EPS,
            *_BETAS,
            ({"lr": 0.0}, ValueError, r"Invalid learning rate: 0.0 \(expected .* \(0, inf\)"),
            ({"eps": 0.0}, ValueError, r"Invalid epsilon value: 0.0 \(expected .* \(0, inf\)"),
        ],
    ),
    Spec(
        "LBFGS",
        OPTIONS["LBFGS"],
        {"": ["func_evals", "n_iter"]},
        kind="closure",
        errors=[
            *_LR,
            ({"tolerance_grad": -1}, ValueError, "Invalid tolerance_grad: -1"),
            ({"tolerance_change": NAN}, ValueError, "Invalid tolerance_change: nan"),
            ({"max_iter": 0}, ValueError, "Invalid max_iter: 0"),
            ({"max_eval": 1.5}, TypeError, "max_eval must be an int, but got float"),
            ({"history_size": -1}, ValueError, "Invalid history_size: -1"),
            ({"line_search_fn": "armijo"}, RuntimeError, "only 'strong_wolfe' is supported"),
        ],
        well={"line_search_fn": "strong_wolfe"},
    ),
]

#: It stands for all that torch lacks, and is here alone.
SIGNUM = Spec(
    "Signum",
    [{}, {"lr": 1e-3, "momentum": 0.95, "maximize": True}],
    {"": ["exp_avg"]},
    errors=[*_LR, ({"momentum": 1.0}, ValueError, "Invalid momentum value: 1.0")],
    runs=[{"lr": 0.005}],
    reference=references.Signum,
    own=signum.Signum,
)

EVERY = [*SPECS, SIGNUM]

BY_NAME = {spec.name: spec for spec in EVERY}

ELEMENTWISE = [spec for spec in EVERY if spec.kind == "elementwise"]

#: Those that can take a point, a vector, for their parameter.
POINTWISE = [spec for spec in SPECS if spec.kind != "matrix"]

#: Those that torch has as well.
TORCHS = [spec for spec in SPECS if spec.reference is None]

CASES = [(spec, options) for spec in ELEMENTWISE for options in spec.options]


#: Every set of options in float32, and one of each algorithm in other dtypes.
DTYPE_CASES = [
    *((spec, options, "float32") for spec, options in CASES),
    *((spec, spec.options[0], dtype) for spec in ELEMENTWISE for dtype in ("float16", "complex64")),
]


def case_id(value: Any) -> str:
    if isinstance(value, Spec):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={option}" for key, option in value.items()) or "defaults"
    return getattr(value, "__name__", str(value))


def structures(spec: Spec, options: dict[str, Any], steps: int = 20) -> set[Structure]:
    """Every program that the rule of an algorithm leaves in its first steps."""
    optimizer = spec.cls([np.zeros(1)], **options)
    reading = optimizer._read(optimizer.param_groups[0], 0)
    arrays = [s.name for s in reading.slots if not s.scalar and s.initial is not None]
    scalars = {s.name: s.start(reading.options) for s in reading.slots if s.scalar}
    found = set()
    for _ in range(steps):
        if "step" in scalars:
            scalars["step"] += 1
        program = trace(optimizer._update, tuple(arrays), scalars, reading.options)
        found.add(program.structure)
        scalars |= program.scalars
        made = [name for name, _ in program.structure.outputs if name != "param"]
        arrays += [name for name in made if name not in arrays]
    return found


@functools.cache
def every_structure() -> list[Structure]:
    """Every program of every algorithm under every set of options."""
    return sorted({s for spec, options in CASES for s in structures(spec, options)})
