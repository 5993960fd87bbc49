"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from arrayopt.algorithms.adam import Adam
from arrayopt.namespace import Array

__all__ = ["AdamW"]


class AdamW(Adam):
    r"""AdamW: Adam whose weights decay apart from the gradient.

    The rule is that of `Adam` with `decoupled_weight_decay`: :math:`\lambda \theta_{t-1}` is not
    added to the gradient :math:`g_t`, where the averages would scale it. With learning rate
    :math:`\gamma`, decay rates :math:`\beta_1, \beta_2` and weight decay :math:`\lambda`:

    .. math::

        \theta_{t-1} &\leftarrow (1 - \gamma \lambda) \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= m_t / (1 - \beta_1^t), \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t / \bigl(\sqrt{\hat v_t} + \epsilon\bigr)

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
    weight_decay : float, default 1e-2
        Rate of the decay, :math:`\lambda \ge 0`.
    amsgrad, maximize, foreach, capturable, differentiable, fused
        See `Adam`.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State, and the order of computation: see `Adam`.

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled weight decay regularization", ICLR, algorithm 2. There,
    the step is :math:`\eta_t \alpha` long and the weights decay by :math:`\eta_t \lambda`, with a
    schedule :math:`\eta_t`; as in torch, :math:`\gamma` stands for :math:`\eta_t \alpha` and scales
    the decay as well, so that :math:`\lambda` here is :math:`\lambda / \alpha` of the paper. The
    rest is of the papers that `Adam` lists.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([1.0])
    >>> optim.AdamW([w], lr=0.1, weight_decay=0.5).step(grads=[np.zeros(1)])
    >>> w
    array([0.95])
    """

    fixed_options: ClassVar[Mapping[str, Any]] = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-3,
        betas: tuple[float | Array, float | Array] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
