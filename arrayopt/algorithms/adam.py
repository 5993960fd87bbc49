"""Adam: adaptive moment estimation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import decay, ema, ema_of_square
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["Adam"]


class Adam(Optimizer):
    r"""Adam: steps scaled by running averages of the gradient and of its square.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rates :math:`\beta_1, \beta_2`
    and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= m_t / (1 - \beta_1^t), \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t / \bigl(\sqrt{\hat v_t} + \epsilon\bigr)

    With `amsgrad`, :math:`v^{\max}_t = \max(v^{\max}_{t-1}, v_t)` stands for :math:`v_t` in
    :math:`\hat v_t`. With `decoupled_weight_decay`, the first line is replaced by
    :math:`\theta_{t-1} \leftarrow (1 - \gamma \lambda) \theta_{t-1}`.

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-3
        Learning rate :math:`\gamma \ge 0`.
    betas : pair of float, default (0.9, 0.999)
        Decay rates :math:`\beta_1, \beta_2` of the averages, in :math:`[0, 1)`.
    eps : float, default 1e-8
        :math:`\epsilon \ge 0`, added to the root, outside it and after the bias correction.
    weight_decay : float, default 0
        Weight of an L2 penalty, or of the decoupled decay, :math:`\lambda \ge 0`.
    amsgrad : bool, default False
        Use the variant of Reddi et al.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    maximize : bool, default False
        Go up the gradient instead of down.
    capturable : bool, default False
        Accepted as torch accepts it; of no effect on the CPU.
    differentiable : bool, default False
        Run the rule eagerly and rebind ``param.data``, so that an autodiff library sees through.
    decoupled_weight_decay : bool, default False
        Decay the weights apart from the gradient, as `AdamW` does.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``exp_avg`` (:math:`m`), ``exp_avg_sq`` (:math:`v`) and, with
    `amsgrad`, ``max_exp_avg_sq`` (:math:`v^{\max}`), arrays like the parameter.

    The rule has the bias corrections in the step size, which is the same with fewer operations:

    .. math::

        c_{1,t} &= 1 - \beta_1^t, \qquad \sqrt{c_{2,t}} = \sqrt{1 - \beta_2^t} \\
        \gamma_t &= \frac{\gamma \sqrt{c_{2,t}}}{c_{1,t}}, \qquad
        d_t = \sqrt{v_t} + \epsilon \sqrt{c_{2,t}} \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t m_t}{d_t}

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR, algorithm 1, in the
    order of the end of its section 2; :math:`\gamma` is called :math:`\alpha` there,
    :math:`\gamma_t` is :math:`\alpha_t`, and :math:`\epsilon \sqrt{c_{2,t}}` is
    :math:`\hat\epsilon`. The weight decay is torch's. Reddi, Kale and Kumar (2018), "On the
    convergence of Adam and beyond", ICLR, algorithm 2 (AMSGrad), where :math:`v^{\max}_t` is called
    :math:`\hat v_t`; the bias corrections and :math:`\epsilon` are torch's there.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.Adam([w], lr=0.1)
    >>> for _ in range(2):
    ...     opt.step(grads=[2 * w])  # the gradient of sum(w**2)
    >>> w.round(4)
    array([ 2.8001, -1.8002])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("exp_avg"),
        StateSlot("exp_avg_sq"),
        StateSlot("max_exp_avg_sq", when="amsgrad"),
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
        lr: float | Array = 1e-3,
        betas: tuple[float | Array, float | Array] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        step = state["step"]
        beta1, beta2 = group["betas"]
        param, grad = decay(param, grad, group)
        exp_avg = ema(state["exp_avg"], grad, beta1)
        exp_avg_sq = ema_of_square(state["exp_avg_sq"], grad, beta2)
        new_state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        if group["amsgrad"]:
            exp_avg_sq = xp.maximum(state["max_exp_avg_sq"], exp_avg_sq)
            new_state["max_exp_avg_sq"] = exp_avg_sq
        bias_correction1 = 1 - beta1**step
        bias_correction2_sqrt = (1 - beta2**step) ** 0.5
        step_size = group["lr"] * bias_correction2_sqrt / bias_correction1
        denom = xp.sqrt(exp_avg_sq) + group["eps"] * bias_correction2_sqrt
        return param - step_size * exp_avg / denom, new_state
