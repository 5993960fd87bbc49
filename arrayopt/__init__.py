"""torch.optim for arrays: optimizers on NumPy and every array-API library, without autograd.

>>> import numpy as np
>>> import arrayopt as optim
>>> w = np.array([3.0, -2.0])
>>> opt = optim.Adam([w], lr=0.1)
>>> for _ in range(100):
...     opt.step(grads=[2 * w])  # the gradient of sum(w**2)
>>> bool(np.abs(w).max() < 0.1)
True
"""

from arrayopt import checkpoint, interop, lr_scheduler, swa_utils
from arrayopt.algorithms import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)
from arrayopt.check import compare
from arrayopt.clip_grad import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from arrayopt.explaining import Explanation, Recording, explain, record
from arrayopt.functional_form import Functional, functional
from arrayopt.minimization import MinimizeResult, minimize, scipy_method
from arrayopt.optimizer import (
    Optimizer,
    StateSlot,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from arrayopt.options import Range
from arrayopt.parameter import Buffer, Module, Parameter
from arrayopt.sparse_grad import SparseGrad
from arrayopt.threads import get_num_threads, set_num_threads
from arrayopt.trace import TraceError

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Buffer",
    "Explanation",
    "Functional",
    "MinimizeResult",
    "Module",
    "Muon",
    "NAdam",
    "Optimizer",
    "Parameter",
    "RAdam",
    "RMSprop",
    "Range",
    "Recording",
    "Rprop",
    "SparseAdam",
    "SparseGrad",
    "StateSlot",
    "TraceError",
    "checkpoint",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "compare",
    "explain",
    "functional",
    "get_num_threads",
    "get_total_norm",
    "interop",
    "lr_scheduler",
    "minimize",
    "record",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "scipy_method",
    "set_num_threads",
    "swa_utils",
]
