"""Schedules of the learning rate: torch's sixteen classes, and warm-ups.

>>> import numpy as np
>>> import arrayopt as optim
>>> from arrayopt.lr_scheduler import CosineWarmupLR
>>> opt = optim.SGD([np.zeros(2)], lr=0.1)
>>> scheduler = CosineWarmupLR(opt, warmup_steps=2, total_steps=6)
>>> for _ in range(4):
...     opt.step(grads=[np.ones(2)])
...     scheduler.step()
>>> [round(rate, 6) for rate in scheduler.get_last_lr()]
[0.05]
>>> scheduler.lr_at([0, 1, 2, 6]).round(6)
array([[0.033333, 0.066667, 0.1     , 0.      ]])
"""

from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.composed import ChainedScheduler, SequentialLR
from arrayopt.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from arrayopt.lr_scheduler.cycles import CyclicLR, OneCycleLR
from arrayopt.lr_scheduler.decays import ExponentialLR, LinearLR, PolynomialLR
from arrayopt.lr_scheduler.lambdas import LambdaLR, MultiplicativeLR
from arrayopt.lr_scheduler.plateau import ReduceLROnPlateau
from arrayopt.lr_scheduler.steps import ConstantLR, MultiStepLR, StepLR
from arrayopt.lr_scheduler.warmup import CosineWarmupLR, WarmupLR, WarmupStableDecayLR

#: The name that torch had for it before, and still knows.
_LRScheduler = LRScheduler

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CosineWarmupLR",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
    "WarmupStableDecayLR",
]
