"""Adagrad: steps that shrink with all that the gradient has been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from arrayopt.algorithms.links import penalize
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    r"""Adagrad: steps scaled by the root of the sum of all squared gradients.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, its decay :math:`\eta` and weight decay
    :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        \gamma_t &= \frac{\gamma}{1 + (t - 1) \eta} \\
        s_t &= s_{t-1} + g_t^2 \\
        d_t &= \sqrt{s_t} + \epsilon \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t g_t}{d_t}

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-2
        Learning rate :math:`\gamma \ge 0`.
    lr_decay : float, default 0
        Decay of the learning rate, :math:`\eta \ge 0`.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    initial_accumulator_value : float, default 0
        :math:`s_0 \ge 0`; a group may have its own.
    eps : float, default 1e-10
        :math:`\epsilon \ge 0`, added to the root, outside it.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    maximize : bool, default False
        Go up the gradient instead of down.
    differentiable : bool, default False
        Run the rule eagerly and rebind ``param.data``, so that an autodiff library sees through.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``sum`` (:math:`s`), an array like the parameter.

    References
    ----------
    Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization", Journal of Machine Learning Research 12, figure 1 (diagonal matrices), without a
    regularizer. There, :math:`\gamma` is called :math:`\eta`, :math:`\epsilon` is :math:`\delta`,
    and :math:`s_t` is what :math:`\sqrt{s_t}` is here. The decays of the rate and of the weights,
    and :math:`s_0`, are torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.Adagrad([w], lr=0.5)
    >>> opt.step(grads=[np.array([3.0, -1.0])])  # the first step has the size of lr
    >>> w
    array([ 2.5, -1.5])
    """

    gradients = "dense or sparse"
    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("sum", initial=itemgetter("initial_accumulator_value")),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("lr_decay", "lr_decay value"),
        Range("weight_decay", "weight_decay value"),
        Range("initial_accumulator_value", "initial_accumulator_value value"),
        Range("eps", "epsilon value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        grad = penalize(grad, param, group["weight_decay"])
        step_size = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        total = state["sum"] + grad * grad
        std = xp.sqrt(total) + group["eps"]
        return param - step_size * grad / std, {"sum": total}
