"""SparseAdam: Adam for the entries that a sparse gradient touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.algorithms.links import ema
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["SparseAdam"]


class SparseAdam(Optimizer):
    r"""SparseAdam: Adam whose averages move only where the gradient has an entry.

    For the entries that the gradient :math:`g_t` has, with learning rate :math:`\gamma` and decay
    rates :math:`\beta_1, \beta_2`:

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \gamma_t &= \frac{\gamma \sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \\
        d_t &= \sqrt{v_t} + \epsilon \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{m_t}{d_t}

    Everything else stays as it is, parameter and averages; the steps :math:`t` are counted for the
    parameter as a whole. The time that a step takes depends on the number of entries, not on the
    size of the parameter.

    Parameters
    ----------
    params : iterable
        What to optimize, dense arrays; see `Optimizer`.
    lr : float or 0-d array, default 1e-3
        Learning rate :math:`\gamma > 0`.
    betas : pair of float, default (0.9, 0.999)
        Decay rates :math:`\beta_1, \beta_2` of the averages, in :math:`[0, 1)`.
    eps : float, default 1e-8
        :math:`\epsilon > 0`, added to the root before the bias is corrected (in `Adam`, after).
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    RuntimeError
        In a step, if a gradient is dense.
    TypeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``exp_avg`` (:math:`m`) and ``exp_avg_sq`` (:math:`v`), dense arrays
    like the parameter. An average :math:`v` that has overflowed stays infinite.

    Gradients are `SparseGrad`, sparse tensors of torch, or sparse arrays of SciPy. Entries with the
    same index are summed first.

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR, algorithm 1 with the
    last lines that the end of section 2 gives it, where :math:`\gamma` is called :math:`\alpha`,
    :math:`\gamma_t` is :math:`\alpha_t`, and :math:`\epsilon` is :math:`\hat\epsilon`. That
    averages wait for their entry is torch's.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> embedding = np.ones((1000, 2))
    >>> opt = optim.SparseAdam([embedding], lr=0.5)
    >>> opt.step(grads=[optim.SparseGrad([3], np.array([[4.0, -4.0]]), embedding.shape)])
    >>> embedding[2:5].round(6)
    array([[1. , 1. ],
           [0.5, 1.5],
           [1. , 1. ]])
    """

    gradients = "sparse"
    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("exp_avg"),
        StateSlot("exp_avg_sq"),
    )
    ranges = (
        Range("lr", "learning rate", low_closed=False),
        Range("betas", "beta parameter", high=1.0, closed=False, length=2),
        Range("eps", "epsilon value", low_closed=False),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        step = state["step"]
        beta1, beta2 = group["betas"]
        exp_avg = ema(state["exp_avg"], grad, beta1)
        last_sq = state["exp_avg_sq"]  # one that has overflowed stays: inf - inf would be NaN
        exp_avg_sq = last_sq + (1 - beta2) * (grad * grad - last_sq)
        exp_avg_sq = xp.where(xp.isinf(last_sq), last_sq, exp_avg_sq)
        step_size = group["lr"] * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        denom = xp.sqrt(exp_avg_sq) + group["eps"]
        new_state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        return param - step_size * (exp_avg / denom), new_state
