"""Averages of weights (SWA and EMA), and what goes with them.

>>> import numpy as np
>>> import arrayopt as optim
>>> from arrayopt.swa_utils import AveragedModel, get_ema_multi_avg_fn
>>> weights = [np.array([1.0])]
>>> averaged = AveragedModel(weights, multi_avg_fn=get_ema_multi_avg_fn(0.75))
>>> opt = optim.SGD(weights, lr=0.5)
>>> for _ in range(2):
...     opt.step(grads=[weights[0]])  # 1 -> 0.5 -> 0.25
...     averaged.update_parameters(weights)  # 0.5, then 0.75 * 0.5 + 0.25 * 0.25
>>> averaged.module
[array([0.4375])]
"""

from arrayopt.swa_utils.averaged_model import AveragedModel
from arrayopt.swa_utils.averages import (
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
)
from arrayopt.swa_utils.batch_norm import update_bn
from arrayopt.swa_utils.swalr import SWALR

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]
