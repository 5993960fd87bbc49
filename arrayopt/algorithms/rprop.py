"""Rprop: resilient propagation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from arrayopt.groups import Group
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range

__all__ = ["Rprop"]


class Rprop(Optimizer):
    r"""Rprop: steps whose size follows the agreement of signs, not the gradient's size.

    With gradient :math:`g_t`, factors :math:`\eta^- < 1 < \eta^+` and bounds
    :math:`\Delta_{\min}, \Delta_{\max}`, element by element:

    .. math::

        a_t &= g_t g_{t-1} \\
        \Delta_t &= \begin{cases}
            \eta^+ \Delta_{t-1} & \text{if } a_t > 0 \\
            \eta^- \Delta_{t-1} & \text{if } a_t < 0 \\
            \Delta_{t-1} & \text{otherwise}
        \end{cases} \\
        \Delta_t &\leftarrow \min(\max(\Delta_t, \Delta_{\min}), \Delta_{\max}) \\
        g_t &\leftarrow \begin{cases}
            0 & \text{if } a_t < 0 \\
            g_t & \text{otherwise}
        \end{cases} \\
        \theta_t &= \theta_{t-1} - \operatorname{sign}(g_t) \Delta_t

    Parameters
    ----------
    params : iterable
        What to optimize; see `Optimizer`.
    lr : float or 0-d array, default 1e-2
        The first step size :math:`\Delta_0 \ge 0`. It is read once: a schedule of it has no effect
        after the first step, as in torch.
    etas : pair of float, default (0.5, 1.2)
        The factors :math:`\eta^-` in :math:`(0, 1)` and :math:`\eta^+ > 1`.
    step_sizes : pair of float, default (1e-6, 50)
        The bounds :math:`\Delta_{\min}` and :math:`\Delta_{\max}`.
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
        If an option is out of its range or NaN, or the bounds are out of order.
    TypeError, RuntimeError
        See `Optimizer`.

    Notes
    -----
    State: ``step``, an int; ``prev`` (:math:`g_{t-1}`, zero where the sign changed) and
    ``step_size`` (:math:`\Delta`), arrays like the parameter.

    References
    ----------
    Riedmiller and Braun (1993), "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", ICNN, which takes a step back where the sign of the gradient has changed. The
    variant is iRprop- of Igel and Hüsken (2000), "Improving the Rprop learning algorithm", ICSC
    symposium on neural computation, which does not, and sets the gradient to zero there. As in
    torch, the bounds hold for the first step size, too.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.Rprop([w], lr=0.5)
    >>> for _ in range(2):
    ...     opt.step(grads=[2 * w])  # steps of 0.5 and of 0.5 * 1.2
    >>> w
    array([ 1.9, -0.9])
    """

    state_table = (
        StateSlot("step", initial=0, scalar=True),
        StateSlot("prev"),
        StateSlot("step_size", initial=itemgetter("lr")),
    )
    notation: ClassVar = {"step_size": r"\Delta_{@}"}
    ranges = (
        Range("lr", "learning rate"),
        Range("etas", "eta value", length=2),
        Range("step_sizes", "step size", length=2),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def check_group(self, group: Group, where: str = "") -> None:
        super().check_group(group, where)
        etaminus, etaplus = group["etas"]
        if not 0.0 < etaminus < 1.0 < etaplus:
            raise ValueError(
                f"Invalid eta values: {etaminus}, {etaplus} (expected 0 < etaminus < 1 < "
                f"etaplus){where}"
            )
        smallest, largest = group["step_sizes"]
        if smallest > largest:
            raise ValueError(
                f"Invalid step sizes: {smallest}, {largest} (expected the smaller one first){where}"
            )

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        etaminus, etaplus = group["etas"]
        smallest, largest = group["step_sizes"]
        agreement = grad * state["prev"]
        last = state["step_size"]
        step_size = xp.where(
            agreement > 0, etaplus * last, xp.where(agreement < 0, etaminus * last, last)
        )
        step_size = xp.minimum(xp.maximum(step_size, smallest), largest)
        grad = xp.where(agreement < 0, 0.0, grad)
        return param - xp.sign(grad) * step_size, {"prev": grad, "step_size": step_size}
