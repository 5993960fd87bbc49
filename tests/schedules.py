"""Schedulers of all kinds, and what rates they come by."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import arrayopt as optim
from arrayopt import lr_scheduler as L
from arrayopt import swa_utils

STEPS = 1000


class Decay:
    """A callable object, whose attributes are saved."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate**step


def sequence(opt):
    return L.SequentialLR(
        opt, [L.LinearLR(opt, 0.1, 1, 50), L.CosineAnnealingLR(opt, 300, 1e-3)], [50]
    )


def chain(opt):
    return L.ChainedScheduler([L.ExponentialLR(opt, 0.999), L.ConstantLR(opt, 0.3, 70)])


def mixed_chain(opt):
    return L.ChainedScheduler([L.CosineAnnealingLR(opt, 77, 0.01), L.ExponentialLR(opt, 0.999)])


def plateaus(opt):
    plateau = L.ReduceLROnPlateau(opt, factor=0.9, patience=2, cooldown=3)
    return L.ChainedScheduler([sequence(opt), plateau])


def deep(opt):
    inner = L.SequentialLR(opt, [chain(opt), L.StepLR(opt, 90, 0.7)], [200])
    middle = L.ChainedScheduler([inner, L.PolynomialLR(opt, 1500)])
    outer = L.SequentialLR(opt, [L.OneCycleLR(opt, 0.5, 100), middle], [100])
    return L.ChainedScheduler([outer, L.MultiStepLR(opt, [500], 0.5)])


def averaging(opt):
    members = [
        L.CosineAnnealingLR(opt, 300),
        swa_utils.SWALR(opt, [0.05, 0.01], 500),
        L.StepLR(opt, 40, 0.9),
    ]
    return L.SequentialLR(opt, members, [200, 800])


def nested_averaging(opt):
    return L.ChainedScheduler([averaging(opt), L.ExponentialLR(opt, 0.999)])


MAKE = {
    "LambdaLR": lambda o: L.LambdaLR(o, Decay(0.99)),
    "MultiplicativeLR": lambda o: L.MultiplicativeLR(o, lambda t: 1 - 1 / (t + 5)),
    "StepLR": lambda o: L.StepLR(o, 37, 0.9),
    "MultiStepLR": lambda o: L.MultiStepLR(o, [5, 300, 300, 800], 0.5),
    "ConstantLR": lambda o: L.ConstantLR(o, 0.3, 500),
    "LinearLR": lambda o: L.LinearLR(o, 0.1, 0.9, 777),
    "ExponentialLR": lambda o: L.ExponentialLR(o, 0.997),
    "PolynomialLR": lambda o: L.PolynomialLR(o, 1200, 0.7),
    "CosineAnnealingLR": lambda o: L.CosineAnnealingLR(o, 130, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: L.CosineAnnealingWarmRestarts(o, 7, 2, 1e-3),
    "CyclicLR": lambda o: L.CyclicLR(o, 0.01, 0.7, 30, 50, mode="exp_range", gamma=0.999),
    "CyclicLR, a scale of one's own": lambda o: L.CyclicLR(o, 0.01, 0.7, 30, scale_fn=Decay(0.9)),
    "OneCycleLR": lambda o: L.OneCycleLR(o, [0.5, 0.7], 1000, three_phase=True),
    "ReduceLROnPlateau": lambda o: L.ReduceLROnPlateau(o, factor=0.9, patience=2, cooldown=3),
    "SWALR": lambda o: swa_utils.SWALR(o, [0.05, 0.01], 700),
    "WarmupLR": lambda o: L.WarmupLR(o, 30, L.StepLR(o, 100, 0.5)),
    "WarmupStableDecayLR": lambda o: L.WarmupStableDecayLR(o, 30, 500, 300, 0.01),
    "CosineWarmupLR": lambda o: L.CosineWarmupLR(o, 30, 900),
    "a sequence": sequence,
    "a chain": chain,
    "a chain that is no product": mixed_chain,
    "a chain of a sequence and a plateau": plateaus,
    "four deep": deep,
    "a sequence with weight averaging": averaging,
    "a chain with weight averaging": nested_averaging,
}
WITH_METRICS = {"ReduceLROnPlateau", "a chain of a sequence and a plateau"}


def numpys(kind=float):
    groups = [{"params": [np.zeros(1)], "lr": kind(rate)} for rate in (0.1, 2.5)]
    return optim.Adam(groups)


def torchs(kind=float):
    groups = [{"params": [torch.zeros(1)], "lr": kind(rate)} for rate in (0.1, 2.5)]
    return torch.optim.Adam(groups)


def float32(rate):
    return np.array(rate, np.float32)


def present(opt):
    return [(float(group["lr"]), float(group["betas"][0])) for group in opt.param_groups]


METRICS = np.abs(np.random.default_rng(0).standard_normal(STEPS)).tolist()


def advance(name, opt, scheduler, first, last):
    """The rates and momenta from step `first` to `last`, changed by hand on the way."""
    opt.step()
    seen = []
    for step in range(first, last):
        scheduler.step(*((METRICS[step],) if name in WITH_METRICS else ()))
        if step in (150, 600):
            group = opt.param_groups[1]
            if isinstance(group["lr"], np.ndarray):
                group["lr"] *= 0.5
            else:
                group["lr"] = group["lr"] * 0.5
        seen.append((present(opt), [float(rate) for rate in scheduler.get_last_lr()]))
    return seen


@cache
def straight(name, kind):
    """All steps, without saving and loading."""
    opt = numpys(kind)
    return advance(name, opt, MAKE[name](opt), 0, STEPS)
