"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import decay, ema, ema_of_square
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["NAdam"]


class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov momentum.

    With gradient :math:`g_t`, learning rate :math:`\gamma`, decay rates :math:`\beta_1, \beta_2`,
    momentum decay :math:`\psi` and weight decay :math:`\lambda`:

    .. math::

        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \mu_t &= \beta_1 (1 - 0.5 \cdot 0.96^{t \psi}) \\
        \hat m_t &= \frac{\mu_{t+1} m_t}{1 - \prod_{i=1}^{t+1} \mu_i}
            + \frac{(1 - \mu_t) g_t}{1 - \prod_{i=1}^{t} \mu_i}, \qquad
        \hat v_t = \frac{v_t}{1 - \beta_2^t} \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t / \bigl(\sqrt{\hat v_t} + \epsilon\bigr)

    With `decoupled_weight_decay`, the first line is replaced by
    :math:`\theta_{t-1} \leftarrow (1 - \gamma \lambda) \theta_{t-1}`.

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 2e-3
        Learning rate :math:`\gamma \ge 0`.
    betas : pair of float, default (0.9, 0.999)
        Decay rates :math:`\beta_1, \beta_2`, in :math:`[0, 1)`.
    eps : float, default 1e-8
        :math:`\epsilon \ge 0`, added to the root, outside it and after the bias correction.
    weight_decay : float, default 0
        Weight of an L2 penalty, or of the decoupled decay, :math:`\lambda \ge 0`.
    momentum_decay : float, default 4e-3
        Momentum decay :math:`\psi \ge 0`.
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
    State: ``step``, an int; ``mu_product`` (the product of all :math:`\mu_i` so far), a float;
    ``exp_avg`` (:math:`m`) and ``exp_avg_sq`` (:math:`v`), arrays like the parameter.

    The rule has the bias corrections in two step sizes, of :math:`g_t` and of :math:`m_t`, which is
    the same with fewer operations:

    .. math::

        \sqrt{c_{2,t}} &= \sqrt{1 - \beta_2^t}, \qquad
        d_t = \sqrt{v_t} + \epsilon \sqrt{c_{2,t}} \\
        \gamma^g_t &= \frac{\gamma \sqrt{c_{2,t}} (1 - \mu_t)}{1 - \prod_{i=1}^t \mu_i}, \qquad
        \gamma^m_t = \frac{\gamma \sqrt{c_{2,t}} \mu_{t+1}}
            {1 - \left(\prod_{i=1}^t \mu_i\right) \mu_{t+1}} \\
        \theta_t &= \theta_{t-1} - \frac{\gamma^g_t g_t + \gamma^m_t m_t}{d_t}

    References
    ----------
    Dozat (2016), "Incorporating Nesterov momentum into Adam", ICLR workshop, algorithm 2, with the
    schedule of its experiments, where :math:`\psi` is 1/250. There, :math:`\gamma` is called
    :math:`\alpha_t`, :math:`\beta_2` is :math:`\nu`, and :math:`v_t` is :math:`n_t`. As in torch,
    :math:`m_t` decays by :math:`\beta_1`, not by :math:`\mu_t`; :math:`\hat v_t` has no factor
    :math:`\beta_2` above; and there is weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.NAdam([w], lr=0.1)
    >>> for _ in range(200):
    ...     opt.step(grads=[2 * w])  # the gradient of sum(w**2)
    >>> bool(np.abs(w).max() < 0.01)
    True
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("mu_product", initial=1, scalar=True),
        StateSlot("exp_avg"),
        StateSlot("exp_avg_sq"),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("eps", "epsilon value"),
        Range("betas", "beta parameter", high=1.0, closed=False, length=2),
        Range("weight_decay", "weight_decay value"),
        Range("momentum_decay", "momentum_decay value"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        lr, step, psi = group["lr"], state["step"], group["momentum_decay"]
        beta1, beta2 = group["betas"]
        param, grad = decay(param, grad, group)
        exp_avg = ema(state["exp_avg"], grad, beta1)
        exp_avg_sq = ema_of_square(state["exp_avg_sq"], grad, beta2)
        mu = beta1 * (1 - 0.5 * 0.96 ** (step * psi))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * psi))
        mu_product = state["mu_product"] * mu
        bias_correction2_sqrt = (1 - beta2**step) ** 0.5
        denom = xp.sqrt(exp_avg_sq) + group["eps"] * bias_correction2_sqrt
        grad_step = lr * bias_correction2_sqrt * (1 - mu) / (1 - mu_product)
        average_step = lr * bias_correction2_sqrt * mu_next / (1 - mu_product * mu_next)
        param = param - (grad_step * grad + average_step * exp_avg) / denom
        return param, {"mu_product": mu_product, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
