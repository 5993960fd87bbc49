"""Algorithms that torch lacks, in plain operations of torch: what takes the place of its classes.

Each is written from its paper, as torch would have it: the name, the options in their order, the
entries of the state, an update in place. Complex numbers are pairs of reals.
"""

from __future__ import annotations

import torch


class Signum(torch.optim.Optimizer):
    """Bernstein et al. (2018), "signSGD: compressed optimisation for non-convex problems"."""

    def __init__(
        self,
        params,
        lr=1e-4,
        momentum=0.9,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        options = {"lr": lr, "momentum": momentum, "foreach": foreach, "maximize": maximize}
        super().__init__(
            params, options | {"differentiable": differentiable, "capturable": capturable}
        )

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["exp_avg"] = torch.zeros_like(param)
                x, g, m = map(as_real, (param, param.grad, state["exp_avg"]))
                m.lerp_(-g if group["maximize"] else g, 1 - group["momentum"])
                x.sub_(group["lr"] * m.sign())


def as_real(tensor):
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
