"""Averaged stochastic gradient descent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from arrayopt.algorithms.links import decay_weights, penalize
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["ASGD"]


class ASGD(Optimizer):
    r"""Averaged stochastic gradient descent: plain steps, and the average of the way.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay :math:`\lambda_d` (`lambd`),
    power :math:`\alpha`, start of averaging :math:`t_0` and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        \theta_t &= (1 - \eta_t \lambda_d) \theta_{t-1} - \eta_t g_t \\
        \bar\theta_t &= \bar\theta_{t-1} + \mu_t (\theta_t - \bar\theta_{t-1}) \\
        \eta_{t+1} &= \frac{\gamma}{(1 + \lambda_d \gamma t)^\alpha}, \qquad \eta_1 = \gamma \\
        \mu_{t+1} &= 1 / \max(1, t - t_0), \qquad \mu_1 = 1

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-2
        Learning rate :math:`\gamma \ge 0`. A change of it takes effect one step late, as in torch.
    lambd : float, default 1e-4
        Decay :math:`\lambda_d \ge 0`, of the weights and of the step size.
    alpha : float, default 0.75
        Power :math:`\alpha` with which the step size decays.
    t0 : float, default 1e6
        The average is over the steps after :math:`t_0 + 1`; until then, it is the parameter.
    weight_decay : float, default 0
        Weight of an L2 penalty, :math:`\lambda \ge 0`.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    maximize : bool, default False
        Go up the gradient instead of down.
    differentiable : bool, default False
        Run the rule eagerly and rebind ``param.data``, so that an autodiff library sees through.
    capturable : bool, default False
        Let steps on CuPy arrays be captured in a CUDA graph; see `Optimizer.prepare_replay`. Of no
        effect on other arrays.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``eta`` (:math:`\eta_{t+1}`) and ``mu`` (:math:`\mu_{t+1}`), floats;
    ``ax`` (:math:`\bar\theta`), an array like the parameter: the average, to be used in its place.

    References
    ----------
    Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging", SIAM
    Journal on Control and Optimization 30. The schedule is that of Bottou (2010), "Large-scale
    machine learning with stochastic gradient descent", COMPSTAT, :math:`\gamma_t = \gamma_0 (1 +
    \lambda \gamma_0 t)^{-0.75}` for a loss with the penalty :math:`\lambda \theta^2 / 2`, which is
    why `lambd` decays both: :math:`\eta_{t+1}` is :math:`\gamma_t` there, :math:`\gamma` is
    :math:`\gamma_0`, and :math:`\lambda_d` is :math:`\lambda`. :math:`t_0` and the other weight
    decay are torch's; the papers average from the first step on, as :math:`t_0 = -1` does.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.ASGD([w], lr=0.1, lambd=0.0, t0=20)
    >>> rng = np.random.default_rng(0)
    >>> for _ in range(200):
    ...     opt.step(grads=[2 * w + rng.normal(size=2)])  # of sum(w**2), with noise
    >>> (state,) = opt.state.values()
    >>> np.abs(w) > 0.09, np.abs(state["ax"]) < 0.05
    (array([ True,  True]), array([ True,  True]))
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("eta", initial=itemgetter("lr"), scalar=True),
        StateSlot("mu", initial=1, scalar=True),
        StateSlot("ax"),
    )
    notation: ClassVar = {"eta": (r"\eta_{t}", r"\eta_{t+1}"), "mu": (r"\mu_{t}", r"\mu_{t+1}")}
    ranges = (
        Range("lr", "learning rate"),
        Range("lambd", "lambd value"),
        Range("alpha", "alpha value", low=-math.inf),
        Range("t0", "t0 value", low=-math.inf),
        Range("weight_decay", "weight_decay value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
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
        lr, lambd = group["lr"], group["lambd"]
        step, eta, mu, ax = state["step"], state["eta"], state["mu"], state["ax"]
        grad = penalize(grad, param, group["weight_decay"])
        param = decay_weights(param, eta, lambd) - eta * grad
        ax = param if mu == 1 else ax + mu * (param - ax)
        eta = lr / (1 + lambd * lr * step) ** group["alpha"]
        mu = 1 / max(1, step - group["t0"])
        return param, {"eta": eta, "mu": mu, "ax": ax}
