"""Adadelta: steps in the units of the parameters, without a learning rate to tune."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import ema_of_square, penalize
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    r"""Adadelta: steps scaled by the ratio of two running averages.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rate :math:`\rho` and weight
    decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        d_t &= \sqrt{v_t + \epsilon} \\
        \Delta_t &= \frac{\sqrt{u_{t-1} + \epsilon}}{d_t} g_t \\
        u_t &= \rho u_{t-1} + (1 - \rho) \Delta_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \Delta_t

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1.0
        Learning rate :math:`\gamma \ge 0`; the paper has none, which is 1.
    rho : float, default 0.9
        Decay rate :math:`\rho` of both averages, in :math:`[0, 1]`.
    eps : float, default 1e-6
        :math:`\epsilon \ge 0`, added inside both roots.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    capturable : bool, default False
        Accepted as torch accepts it; of no effect on the CPU.
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
    State: ``step``, an int; ``square_avg`` (:math:`v`) and ``acc_delta`` (:math:`u`), arrays like
    the parameter.

    References
    ----------
    Zeiler (2012), "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, algorithm 1, where
    :math:`v_t` is :math:`E[g^2]_t`, :math:`d_t` is :math:`\mathrm{RMS}[g]_t`, :math:`u_t` is
    :math:`E[\Delta x^2]_t`, and :math:`\Delta x_t` has the other sign: it is :math:`-\Delta_t`. The
    learning rate and the weight decay are torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> optim.Adadelta([w], lr=0.5, rho=0.0, eps=1.0).step(grads=[np.array([0.0, 1.0])])
    >>> w  # -2 - 0.5 / sqrt(2)
    array([ 3.        , -2.35355339])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("square_avg"),
        StateSlot("acc_delta"),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("rho", "rho value", high=1.0),
        Range("eps", "epsilon value"),
        Range("weight_decay", "weight_decay value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        rho, eps = group["rho"], group["eps"]
        grad = penalize(grad, param, group["weight_decay"])
        square_avg = ema_of_square(state["square_avg"], grad, rho)
        std = xp.sqrt(square_avg + eps)
        delta = xp.sqrt(state["acc_delta"] + eps) / std * grad
        acc_delta = ema_of_square(state["acc_delta"], delta, rho)
        return param - group["lr"] * delta, {"square_avg": square_avg, "acc_delta": acc_delta}
