"""RMSprop: steps scaled by the root of the mean squared gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import ema, ema_of_square, penalize
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    r"""RMSprop: steps scaled by a running root mean square of the gradient.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rate :math:`\alpha`, momentum
    :math:`\mu` and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        \bar g_t &= \alpha \bar g_{t-1} + (1 - \alpha) g_t \\
        \tilde v_t &= \max(v_t - \bar g_t^2, 0) \ \text{(centered)}, \qquad
        \tilde v_t = v_t \ \text{(otherwise)} \\
        d_t &= \sqrt{\tilde v_t} + \epsilon \\
        b_t &= \mu b_{t-1} + \frac{g_t}{d_t} \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-2
        Learning rate :math:`\gamma \ge 0`.
    alpha : float, default 0.99
        Decay rate :math:`\alpha \ge 0` of the averages.
    eps : float, default 1e-8
        :math:`\epsilon \ge 0`, added to the root, outside it.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    momentum : float, default 0
        Momentum :math:`\mu \ge 0`.
    centered : bool, default False
        Scale by the standard deviation of the gradient instead of its root mean square.
    capturable : bool, default False
        Accepted as torch accepts it; of no effect on the CPU.
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
    State: ``step``, an int; ``square_avg`` (:math:`v`) and, with `momentum`, ``momentum_buffer``
    (:math:`b`) and, with `centered`, ``grad_avg`` (:math:`\bar g`), arrays like the parameter.

    A variance that rounding has made negative counts as zero: hence the maximum.

    References
    ----------
    Tieleman and Hinton (2012), "Lecture 6.5, rmsprop: divide the gradient by a running average of
    its recent magnitude", Coursera: Neural networks for machine learning, which has no
    :math:`\epsilon` and no momentum. Graves (2013), "Generating sequences with recurrent neural
    networks", arXiv:1308.0850, equations 38 to 41, for the centered variant with momentum, where
    :math:`v_t` is called :math:`n_i` and :math:`\bar g_t` is :math:`g_i`. As in torch,
    :math:`\epsilon` stands outside the root, where Graves has it inside, and the learning rate is
    applied to the buffer, where he has it inside: the same, as long as the rate does not change.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> optim.RMSprop([w], lr=0.05).step(grads=[np.array([3.0, -1.0])])
    >>> w.round(6)  # the first step is lr / sqrt(1 - alpha) long
    array([ 2.5, -1.5])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("square_avg"),
        StateSlot("momentum_buffer", when="momentum"),
        StateSlot("grad_avg", when="centered"),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("eps", "epsilon value"),
        Range("momentum", "momentum value"),
        Range("weight_decay", "weight_decay value"),
        Range("alpha", "alpha value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        lr, alpha, momentum = group["lr"], group["alpha"], group["momentum"]
        grad = penalize(grad, param, group["weight_decay"])
        variance = square_avg = ema_of_square(state["square_avg"], grad, alpha)
        new_state = {"square_avg": square_avg}
        if group["centered"]:
            new_state["grad_avg"] = grad_avg = ema(state["grad_avg"], grad, alpha)
            variance = xp.maximum(square_avg - grad_avg * grad_avg, 0.0)
        avg = xp.sqrt(variance) + group["eps"]
        if not momentum:
            return param - lr * grad / avg, new_state
        new_state["momentum_buffer"] = buf = momentum * state["momentum_buffer"] + grad / avg
        return param - lr * buf, new_state
