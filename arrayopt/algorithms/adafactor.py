"""Adafactor: gradients divided by roots of mean squares that are kept by row and column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from arrayopt.algorithms.links import decay_weights, running_mean
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range
from arrayopt.state import Shape
from arrayopt.whole import column_mean, larger, machine_epsilon, rms, row_mean

__all__ = ["Adafactor"]


def _of_rows(shape: Shape) -> Shape | None:
    """One number a row of the last two dimensions; a vector has no rows."""
    return (*shape[:-1], 1) if len(shape) > 1 else None


def _of_columns(shape: Shape) -> Shape | None:
    """One number a column."""
    return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else None


def _of_vectors(shape: Shape) -> Shape | None:
    """One number an element, where there are neither rows nor columns."""
    return shape if len(shape) < 2 else None


class Adafactor(Optimizer):
    r"""Adafactor: as Adam without a momentum, with mean squares kept by row and column.

    Of an :math:`m \times n` matrix, :math:`m + n` numbers are kept instead of :math:`2 m n`. With
    learning rate :math:`\gamma`, decay :math:`\tau`, weight decay :math:`\lambda`, the gradient
    :math:`g_t`, and the root of the mean square of all elements, :math:`\operatorname{rms}`:

    .. math::

        \beta_t &= 1 - t^\tau \\
        \alpha_t &= \max(\operatorname{rms}(\theta_{t-1}), \epsilon_2) \min(\gamma, 1 / \sqrt t) \\
        q_t &= g_t^2 \\
        r_t &= \beta_t r_{t-1} + (1 - \beta_t) \operatorname{row\_mean}(q_t) \\
        c_t &= \beta_t c_{t-1} + (1 - \beta_t) \operatorname{column\_mean}(q_t) \\
        v_t &= \frac{r_t c_t}{\max(\operatorname{column\_mean}(r_t), \epsilon_1)} \\
        u_t &= \frac{g_t}{\sqrt{\max(v_t, \epsilon_1^2)}} \\
        \alpha_t &\leftarrow \frac{\alpha_t}{\max(\frac{\operatorname{rms}(u_t)}{d}, 1)} \\
        \theta_{t-1} &\leftarrow (1 - \gamma \lambda) \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \alpha_t u_t

    For a vector (or a number), the mean square of each element is kept:

    .. math::

        v_t = \beta_t v_{t-1} + (1 - \beta_t) q_t

    A parameter of more dimensions is a stack of matrices, the last two dimensions.

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-2
        :math:`\gamma \ge 0`: no step is longer than :math:`d \gamma` times the parameter, as root
        mean squares.
    beta2_decay : float, default -0.8
        :math:`\tau \le 0`. Since :math:`\beta_t = 1 - t^\tau`, averages span more steps as
        :math:`t` grows; with 0, there is no average.
    eps : pair of float, default (None, 1e-3)
        :math:`\epsilon_1 \ge 0`, a floor for the mean of :math:`r_t`, and for the root of
        :math:`v_t`; None for the machine epsilon of the dtype of the parameter.
        :math:`\epsilon_2 \ge 0`, a floor for the size of a parameter.
    d : float, default 1.0
        :math:`d \ge 1`: the largest root mean square of :math:`u_t`, which is scaled down to it.
    weight_decay : float, default 0.0
        Decoupled weight decay :math:`\lambda \ge 0`.
    foreach : bool, optional
        False or None: the rule looks at a parameter as a whole, which the for-loop does.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN.
    RuntimeError
        If a parameter is complex. With ``foreach=True``. In a step, if a gradient is sparse.
    TypeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int. Of a matrix, ``row_var`` (:math:`r`) of shape ``(..., m, 1)``, and
    ``col_var`` (:math:`c`) of shape ``(..., 1, n)``; of a vector, ``variance`` (:math:`v`).

    References
    ----------
    Shazeer and Stern (2018), "Adafactor: adaptive learning rates with sublinear memory cost", ICML,
    algorithms 4 and 5, with the schedules of algorithm 6. As in torch: means, where the paper has
    sums; :math:`\gamma` in the place of its 0.01, and in the weight decay; :math:`\epsilon_1` as a
    floor of what is divided by, where the paper adds 1e-30 to :math:`g_t^2`.

    Examples
    --------
    The state of a matrix is smaller than the matrix:

    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.ones((1000, 2000))
    >>> opt = optim.Adafactor([w], lr=0.1)
    >>> opt.step(grads=[2 * w])
    >>> w[0, :3].round(6)
    array([0.9, 0.9, 0.9])
    >>> state = opt.state_dict()["state"][0]
    >>> state["row_var"].shape, state["col_var"].shape
    ((1000, 1), (1, 2000))
    """

    elementwise = False
    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("row_var", shape=_of_rows),
        StateSlot("col_var", shape=_of_columns),
        StateSlot("variance", shape=_of_vectors),
    )
    ranges = (
        Range("lr", "learning rate"),
        Range("eps", "epsilon", length=2, optional=True),
        Range("beta2_decay", "beta2_decay value", low=-math.inf, high=0.0),
        Range("d", "clipping threshold", low=1.0),
        Range("weight_decay", "weight_decay value"),
    )
    notation: ClassVar = {
        "eps": (r"\epsilon_{1}", r"\epsilon_{2}"),
        "beta2_decay": r"\tau",
        "row_var": "r_{@}",
        "col_var": "c_{@}",
        "variance": "v_{@}",
        "eps1": r"\epsilon_{1}",
        "beta2": r"\beta_{@}",
        "step_size": r"\alpha_{@}",
        "square": "q_{@}",
        "scaled": "u_{@}",
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        lr, step, (eps1, eps2) = group["lr"], state["step"], group["eps"]
        eps1 = machine_epsilon(xp, param) if eps1 is None else eps1
        beta2 = 1 - step ** group["beta2_decay"]
        step_size = larger(xp, rms(xp, param), eps2) * min(lr, 1 / step**0.5)
        square = grad * grad
        if "variance" in state:
            variance = running_mean(state["variance"], square, beta2)
            new_state = {"variance": variance}
        else:
            row_var = running_mean(state["row_var"], row_mean(xp, square), beta2)
            col_var = running_mean(state["col_var"], column_mean(xp, square), beta2)
            variance = row_var * col_var / xp.maximum(column_mean(xp, row_var), eps1)
            new_state = {"row_var": row_var, "col_var": col_var}
        scaled = grad / xp.sqrt(xp.maximum(variance, eps1**2))
        step_size = step_size / larger(xp, rms(xp, scaled) / group["d"], 1.0)
        param = decay_weights(param, lr, group["weight_decay"])
        return param - step_size * scaled, new_state
