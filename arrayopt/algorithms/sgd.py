"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from arrayopt.algorithms.links import penalize
from arrayopt.groups import Group
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum, dampening and Nesterov's variant.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, momentum :math:`\mu`, dampening
    :math:`\tau` and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        b_t &= \begin{cases}
            \mu b_{t-1} + (1 - \tau) g_t & \text{if } b_{t-1} \text{ exists} \\
            g_t & \text{otherwise}
        \end{cases} \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    With `nesterov`, the last line is replaced by

    .. math::

        g_t &\leftarrow g_t + \mu b_t \\
        \theta_t &= \theta_{t-1} - \gamma g_t

    and without a momentum, the last two lines are replaced by the second one of these.

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-3
        Learning rate :math:`\gamma \ge 0`.
    momentum : float, default 0
        Momentum :math:`\mu \ge 0`.
    dampening : float, default 0
        Dampening :math:`\tau` of the momentum; it does not act on the first step.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    nesterov : bool, default False
        Use Nesterov's momentum; needs a momentum and zero dampening.
    maximize : bool, default False
        Go up the gradient instead of down.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    differentiable : bool, default False
        Run the rule eagerly and rebind ``param.data``, so that an autodiff library sees through.

    Raises
    ------
    ValueError
        If an option is negative or NaN, or `nesterov` lacks what it needs.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``momentum_buffer``, an array like the parameter, from the first step with momentum on;
    it begins as the gradient.

    References
    ----------
    Robbins and Monro (1951), "A stochastic approximation method", Annals of Mathematical Statistics
    22. Polyak (1964), "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4. Sutskever, Martens, Dahl and Hinton
    (2013), "On the importance of initialization and momentum in deep learning", ICML, equations 1
    and 2, and 3 and 4 for Nesterov's, where :math:`\gamma` is called :math:`\epsilon`. As in
    torch, the learning rate is applied to the buffer, not inside it: their :math:`v_t` is
    :math:`-\gamma b_t` as long as the rate does not change. With `nesterov`, :math:`\theta_t`
    stands for their :math:`\theta_t + \mu v_t`, where the gradient is taken. The dampening is
    torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     opt.step(grads=[2 * w])  # the gradient of sum(w**2)
    >>> w
    array([ 1.38, -0.92])
    """

    gradients = "dense or sparse"
    state_table = (StateSlot("momentum_buffer", initial=None, when="momentum"),)
    notation: ClassVar = {"update": "g_{t}"}
    ranges = (
        Range("lr", "learning rate"),
        Range("momentum", "momentum value"),
        Range("dampening", "dampening value", low=-math.inf),
        Range("weight_decay", "weight_decay value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def check_group(self, group: Group, where: str = "") -> None:
        super().check_group(group, where)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "Nesterov momentum requires a momentum and zero dampening, but got momentum="
                f"{group['momentum']} and dampening={group['dampening']}{where}"
            )

    def moves_all(self, group: Mapping[str, Any]) -> bool:
        return bool(group["momentum"])

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        momentum, dampening = group["momentum"], group["dampening"]
        grad = penalize(grad, param, group["weight_decay"])
        if not momentum:
            return param - group["lr"] * grad, {}
        if "momentum_buffer" in state:
            momentum_buffer = momentum * state["momentum_buffer"] + (
                (1 - dampening) * grad if dampening else grad
            )
        else:
            momentum_buffer = grad
        update = grad + momentum * momentum_buffer if group["nesterov"] else momentum_buffer
        return param - group["lr"] * update, {"momentum_buffer": momentum_buffer}
