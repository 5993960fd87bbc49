"""Muon: momentum, made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from arrayopt.algorithms.links import decay_weights, ema
from arrayopt.groups import Group
from arrayopt.namespace import Array
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import Range, check_count
from arrayopt.whole import newton_schulz

__all__ = ["Muon"]


class Muon(Optimizer):
    r"""Muon: steps along the nearest orthogonal matrix to a momentum, for matrices.

    With learning rate :math:`\gamma`, momentum :math:`\mu`, weight decay :math:`\lambda`, and the
    gradient :math:`g_t` of a parameter of :math:`m` rows and :math:`n` columns:

    .. math::

        b_t &= \mu b_{t-1} + (1 - \mu) g_t \\
        \tilde b_t &= \mu b_t + (1 - \mu) g_t \\
        o_t &= \operatorname{newton\_schulz}(\tilde b_t, a, b, c, k, \epsilon) \\
        \gamma_t &= \gamma \sqrt{\max(1, m / n)} \\
        \theta_{t-1} &\leftarrow (1 - \gamma \lambda) \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma_t o_t

    With ``nesterov=False``, :math:`b_t` takes the place of :math:`\tilde b_t`. The singular vectors
    are kept, and the singular values brought near 1, by :math:`k` steps that begin at
    :math:`X_0 = \tilde b_t / \max(\lVert \tilde b_t \rVert, \epsilon)`:

    .. math::

        A_k = X_k X_k^T, \qquad X_{k+1} = a X_k + (b A_k + c A_k^2) X_k

    With ``adjust_lr_fn="match_rms_adamw"``, :math:`\gamma_t = 0.2 \gamma \sqrt{\max(m, n)}`: a step
    is as long as one of `AdamW` then, whose `lr` and `weight_decay` can be taken over.

    Parameters
    ----------
    params : iterable
        What to optimize, matrices; see `Optimizer`. It is meant for the hidden layers of a network:
        leave biases, embeddings and the last layer to an optimizer such as `AdamW`.
    lr : float or 0-d array, default 1e-3
        Learning rate :math:`\gamma \ge 0`.
    weight_decay : float, default 0.1
        Decoupled weight decay :math:`\lambda \ge 0`.
    momentum : float, default 0.95
        :math:`\mu \ge 0`.
    nesterov : bool, default True
        Look one step of the momentum ahead.
    ns_coefficients : tuple of 3 floats, default (3.4445, -4.775, 2.0315)
        :math:`a, b, c`. With the default ones, a singular value :math:`\sigma` grows by a factor of
        3.4 while it is small, and then stays between 0.68 and 1.21; with ``(1.5, -0.5, 0)``, it
        comes to 1, slowly.
    eps : float, default 1e-7
        :math:`\epsilon \ge 0`.
    ns_steps : int, default 5
        :math:`k`, less than 100.
    adjust_lr_fn : {"original", "match_rms_adamw"}, optional
        How the learning rate depends on the shape; ``"original"`` by default.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN, or a parameter is no matrix, or an empty one.
    RuntimeError
        If a parameter is complex, or in a step, if a gradient is sparse.
    TypeError
        If `ns_steps` is not an int. See also `Optimizer`.

    Notes
    -----
    State: ``momentum_buffer`` (:math:`b`), an array like the parameter.

    The rule looks at a matrix as a whole, so that there is no foreach and no fused implementation.
    It computes in the precision of the parameter (half precision in float32), where torch makes the
    momentum orthogonal in bfloat16.

    References
    ----------
    Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks",
    kellerjordan.github.io/posts/muon. Liu et al. (2025), "Muon is scalable for LLM training",
    arXiv:2502.16982, equations 1 to 4 (with weight decay, and steps as long as those of AdamW). As
    in torch, the momentum is an average, where the papers write a sum: what is made of the two is
    the same.

    Examples
    --------
    The step has the singular vectors of the gradient, and almost equal singular values:

    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.zeros((2, 2))
    >>> opt = optim.Muon([w], lr=1.0, ns_coefficients=(1.5, -0.5, 0.0), ns_steps=20)
    >>> opt.step(grads=[np.array([[3.0, 0.0], [0.0, -0.1]])])
    >>> w.round(3) + 0.0
    array([[-1.,  0.],
           [ 0.,  1.]])
    """

    elementwise = False
    matrices = True
    state_table = (StateSlot("momentum_buffer"),)
    ranges = (
        Range("lr", "learning rate"),
        Range("momentum", "momentum value"),
        Range("weight_decay", "weight_decay value"),
        Range("ns_coefficients", "ns_coefficients", low=-math.inf, length=3),
        Range("eps", "epsilon value"),
    )
    notation: ClassVar = {
        "ns_coefficients": ("a", "b", "c"),
        "ns_steps": "k",
        "mixed": r"\tilde b_{@}",
        "ortho": "o_{@}",
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def check_group(self, group: Group, where: str = "") -> None:
        super().check_group(group, where)
        check_count("ns_steps", group["ns_steps"], 0, where, 99)
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"Invalid adjust_lr_fn: {group['adjust_lr_fn']!r} (expected 'original', "
                f"'match_rms_adamw' or None{where})"
            )

    def rule(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        lr, momentum, (a, b, c) = group["lr"], group["momentum"], group["ns_coefficients"]
        rows, columns = param.shape
        momentum_buffer = ema(state["momentum_buffer"], grad, momentum)
        mixed = ema(momentum_buffer, grad, momentum) if group["nesterov"] else momentum_buffer
        ortho = newton_schulz(xp, mixed, a, b, c, group["ns_steps"], group["eps"])
        if group["adjust_lr_fn"] == "match_rms_adamw":
            step_size = 0.2 * lr * max(rows, columns) ** 0.5
        else:
            step_size = lr * max(1, rows / columns) ** 0.5
        param = decay_weights(param, lr, group["weight_decay"])
        return param - step_size * ortho, {"momentum_buffer": momentum_buffer}
