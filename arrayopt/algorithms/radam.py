"""RAdam: Adam with a rectified variance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import decay, ema, ema_of_square
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["RAdam"]


class RAdam(Optimizer):
    r"""RAdam: Adam that waits until the second moment is worth trusting.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rates :math:`\beta_1, \beta_2`
    and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= m_t / (1 - \beta_1^t), \qquad c_{2,t} = 1 - \beta_2^t \\
        \rho_\infty &= \frac{2}{1 - \beta_2} - 1, \qquad
        \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{c_{2,t}} \\
        r_t^2 &= \frac{(\rho_t - 4) (\rho_t - 2) \rho_\infty}
            {(\rho_\infty - 4) (\rho_\infty - 2) \rho_t}, \qquad
        l_t = \frac{\sqrt{c_{2,t}}}{\sqrt{v_t} + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t r_t l_t \quad \text{if } \rho_t > 5 \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t \quad \text{if } \rho_t \leq 5

    With `decoupled_weight_decay`, the first line is replaced by
    :math:`\theta_{t-1} \leftarrow (1 - \gamma \lambda) \theta_{t-1}`.

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-3
        Learning rate :math:`\gamma \ge 0`.
    betas : pair of float, default (0.9, 0.999)
        Decay rates :math:`\beta_1, \beta_2`, in :math:`[0, 1)`.
    eps : float, default 1e-8
        :math:`\epsilon \ge 0`, added to the root, outside it and before the bias correction.
    weight_decay : float, default 0
        Weight of an L2 penalty, or of the decoupled decay, :math:`\lambda \ge 0`.
    decoupled_weight_decay : bool, default False
        Decay the weights apart from the gradient, as `AdamW` does.
    foreach, fused : bool, optional
        Which implementation to use; by default the fastest available.
    maximize : bool, default False
        Go up the gradient instead of down.
    capturable : bool, default False
        Accepted as torch accepts it; of no effect on the CPU.
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
    State: ``step``, an int; ``exp_avg`` (:math:`m`) and ``exp_avg_sq`` (:math:`v`), arrays like the
    parameter.

    The rule has the corrections in the step size, which is the same with fewer operations:

    .. math::

        \gamma_t &= \frac{\gamma}{1 - \beta_1^t} \\
        \theta_t &= \theta_{t-1} - \gamma_t m_t \quad \text{if } \rho_t \leq 5 \\
        \gamma_t &\leftarrow \gamma_t \sqrt{r_t^2 c_{2,t}} \quad \text{if } \rho_t > 5 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t m_t}{\sqrt{v_t} + \epsilon}
            \quad \text{if } \rho_t > 5

    References
    ----------
    Liu, Jiang, He, Chen, Liu, Gao and Han (2020), "On the variance of the adaptive learning rate
    and beyond", ICLR, algorithm 2, where :math:`\gamma` is called :math:`\alpha_t`. As in torch,
    the variance is rectified from :math:`\rho_t > 5` on, where the paper has 4; :math:`\epsilon`
    and the weight decay are torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.RAdam([w], lr=0.1)
    >>> opt.step(grads=[np.array([3.0, -1.0])])  # the first steps are those of momentum alone
    >>> w
    array([ 2.7, -1.9])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("exp_avg"),
        StateSlot("exp_avg_sq"),
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
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
            "fused": fused,
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
        bias_correction2 = 1 - beta2**step
        step_size = group["lr"] / (1 - beta1**step)
        rho_inf = 2 / (1 - beta2) - 1
        rho_t = rho_inf - 2 * step * beta2**step / bias_correction2
        if rho_t <= 5:
            return param - step_size * exp_avg, new_state
        rect = (rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t)
        step_size = step_size * (rect * bias_correction2) ** 0.5
        return param - step_size * exp_avg / (xp.sqrt(exp_avg_sq) + group["eps"]), new_state
