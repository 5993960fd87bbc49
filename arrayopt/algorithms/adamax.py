"""Adamax: Adam with the largest gradient in the place of the mean square."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import ema, penalize
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["Adamax"]


class Adamax(Optimizer):
    r"""Adamax: Adam with the infinity norm in the place of the second moment.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rates :math:`\beta_1, \beta_2`
    and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \gamma_t &= \frac{\gamma}{1 - \beta_1^t} \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t m_t}{u_t}

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 2e-3
        Learning rate :math:`\gamma \ge 0`.
    betas : pair of float, default (0.9, 0.999)
        Decay rates :math:`\beta_1, \beta_2`, in :math:`[0, 1)`.
    eps : float, default 1e-8
        :math:`\epsilon \ge 0`, added to the size of the gradient.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    maximize : bool, default False
        Go up the gradient instead of down.
    differentiable : bool, default False
        Run the rule eagerly and rebind ``param.data``, so that an autodiff library sees through.
    capturable : bool, default False
        Accepted as torch accepts it; of no effect on the CPU.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``exp_avg`` (:math:`m`) and ``exp_inf`` (:math:`u`), arrays like the
    parameter.

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR, algorithm 2, where
    :math:`\gamma` is called :math:`\alpha`. :math:`\epsilon` and the weight decay are torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.Adamax([w], lr=0.5)
    >>> opt.step(grads=[np.array([3.0, -1.0])])  # the first step has the size of lr
    >>> w
    array([ 2.5, -1.5])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("exp_avg"),
        StateSlot("exp_inf"),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("eps", "epsilon value"),
        Range("betas", "beta parameter", high=1.0, closed=False, length=2),
        Range("weight_decay", "weight_decay value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        beta1, beta2 = group["betas"]
        grad = penalize(grad, param, group["weight_decay"])
        exp_avg = ema(state["exp_avg"], grad, beta1)
        exp_inf = xp.maximum(beta2 * state["exp_inf"], xp.abs(grad) + group["eps"])
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        return param - step_size * exp_avg / exp_inf, {"exp_avg": exp_avg, "exp_inf": exp_inf}
