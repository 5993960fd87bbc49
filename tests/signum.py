"""Signum, which neither torch nor arrayopt has: by it, the tests show that they take such a one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import arrayopt as optim
from arrayopt.algorithms.links import ema


class Signum(optim.Optimizer):
    """Steps of one size, by the sign of a mean gradient; the reference is in `references`."""

    state_table = (optim.StateSlot("exp_avg"),)
    ranges = (
        optim.Range("lr", "learning rate"),
        optim.Range("momentum", "momentum value", high=1.0, closed=False),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-4,
        momentum: float = 0.9,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "foreach": foreach, "maximize": maximize}
        options |= {"differentiable": differentiable, "capturable": capturable, "fused": fused}
        super().__init__(params, options)

    def rule(
        self, xp: Any, param: Any, grad: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        exp_avg = ema(state["exp_avg"], grad, group["momentum"])
        return param - group["lr"] * xp.sign(exp_avg), {"exp_avg": exp_avg}
