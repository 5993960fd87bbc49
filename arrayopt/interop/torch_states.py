"""``state_dict``s of torch.optim as ours, and ours as torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from arrayopt.interop import torch_optimizer, torch_scheduler
from arrayopt.interop.arrays import map_arrays, need, to_numpy, to_tensor
from arrayopt.interop.recognition import class_of, in_torch, recognize
from arrayopt.optimizer import Optimizer

__all__ = ["from_torch", "to_torch"]


def from_torch(source: Any) -> dict[str, Any]:
    r"""The state of a torch optimizer, scheduler or average, as our ``load_state_dict`` takes it.

    Parameters
    ----------
    source : mapping or object
        A ``state_dict`` of ``torch.optim``: of one of its fifteen algorithms, of a learning-rate
        scheduler (composed ones too) or of an ``AveragedModel``; or the object that has it, which
        is better: it tells Adam from AdamW, and a scheduler tells the present rates of its
        optimizer.

    Returns
    -------
    dict
        NumPy arrays of the same shapes and dtypes, and Python numbers for what is a number here
        (``step``, an int; ``mu_product``, ``eta`` and ``mu``; what LBFGS keeps beside its vectors).
        The numbers and names of parameters and the options of groups are those of `source`;
        nothing is shared with it. Learning rates that are tensors become 0-d arrays. Sparse tensors
        become dense. bfloat16 becomes float32 where ``ml_dtypes`` is not installed.

    Raises
    ------
    TypeError
        If `source` is none of these.
    ValueError
        If it is an optimizer of an algorithm that there is not here, or a group has an option that
        changes the algorithm and is not known here.
    ImportError
        If torch is not installed.

    See Also
    --------
    to_torch : the way back.

    Notes
    -----
    What is ours already is copied; a ``state_dict`` of an algorithm that is not known is converted
    entry by entry. What an algorithm cannot take is an error where it is loaded.
    Options that an earlier version of torch did not save get their defaults. A scheduler is loaded
    into one that was made with the same arguments; after several schedulers of one optimizer, load
    the optimizer (or pass the schedulers themselves).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import arrayopt as optim
    >>> from arrayopt.interop import from_torch
    >>> weights = torch.nn.Parameter(torch.ones(2))
    >>> theirs = torch.optim.Adam([weights], lr=0.5)
    >>> weights.grad = torch.ones(2)
    >>> theirs.step()
    >>> ours = optim.Adam([weights.detach().numpy()])
    >>> ours.load_state_dict(from_torch(theirs))
    >>> ours.param_groups[0]["lr"], [state["step"] for state in ours.state.values()]
    (0.5, [1])
    """
    need("torch", "from_torch")
    state_dict = _state_dict(source)
    if _is_optimizers(state_dict):
        algorithm = _algorithm(source, state_dict)
        if algorithm is None and hasattr(source, "param_groups"):
            raise ValueError(
                "expected an optimizer of one of the algorithms that are here, too, but "
                f"got a {type(source).__name__}"
            )
        return torch_optimizer.from_torch(state_dict, algorithm)
    if _is_schedulers(state_dict):
        if torch_scheduler.is_ours(state_dict):
            return copy.deepcopy(dict(state_dict))
        state = {**torch_scheduler.from_torch(state_dict), "optimizer_steps": 1}
        if hasattr(source, "optimizer"):
            state |= torch_scheduler.present(source.optimizer, state)
        return state
    return _averages(state_dict, to_numpy)


def to_torch(source: Any) -> dict[str, Any]:
    """Our state of an optimizer, scheduler or average, as torch's ``load_state_dict`` takes it.

    Parameters
    ----------
    source : mapping or object
        A ``state_dict`` of an optimizer, a scheduler or an `AveragedModel`; or the object that has
        it, which is better: it tells Adam from AdamW, and how large a parameter without state is.

    Returns
    -------
    dict
        Tensors on the CPU, of the same shapes and dtypes, and in the forms in which torch keeps
        them: ``step`` as a 0-d tensor (of SparseAdam and LBFGS, an int); ``mu_product``, ``eta``
        and ``mu`` as 0-d tensors. These have torch's default dtype, or float64 where that would
        round them. The numbers and names of parameters and the options of groups are those of
        `source`; nothing is shared with it.

    Raises
    ------
    TypeError
        If `source` is none of these.
    ValueError
        If there is nothing in torch that it could become: an option that the installed version
        does not have (``decoupled_weight_decay`` of Adam before 2.7), a `ReduceLROnPlateau` within
        another scheduler, an Adagrad parameter without state of which only the ``state_dict`` is
        given.
    ImportError
        If torch is not installed.

    See Also
    --------
    from_torch : the way back.

    Notes
    -----
    torch's schedulers go on from the rate that their optimizer has, and do not restore it: load
    both. torch casts all state but ``step`` to the dtype of the parameter when it is loaded.

    What torch has no place for is left out: ``fused`` where torch has none, the rates of a
    scheduler's optimizer, and the point that LBFGS would go back to from one that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import arrayopt as optim
    >>> from arrayopt.interop import to_torch
    >>> array = np.ones(2)
    >>> ours = optim.Adam([array], lr=0.5)
    >>> ours.step(grads=[np.ones(2)])
    >>> theirs = torch.optim.Adam([torch.nn.Parameter(torch.from_numpy(array))])
    >>> theirs.load_state_dict(to_torch(ours))
    >>> theirs.param_groups[0]["lr"], theirs.state_dict()["state"][0]["step"]
    (0.5, tensor(1.))
    """
    need("torch", "to_torch")
    state_dict = _state_dict(source)
    if _is_optimizers(state_dict):
        groups = state_dict["param_groups"]
        params = [p for group in getattr(source, "param_groups", ()) for p in group["params"]]
        numbers = [number for group in groups for number in group["params"]]
        arrays = {number: param.data for number, param in zip(numbers, params)}
        return torch_optimizer.to_torch(state_dict, _algorithm(source, state_dict), arrays)
    if _is_schedulers(state_dict):
        if not torch_scheduler.is_ours(state_dict):
            return copy.deepcopy(dict(state_dict))
        return torch_scheduler.to_torch(state_dict)
    return _averages(state_dict, to_tensor)


def _state_dict(source: Any) -> Mapping[str, Any]:
    """The ``state_dict`` that `source` is or has.

    Raises
    ------
    TypeError
        If it is and has none.
    """
    state_dict = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "expected the state_dict of an optimizer, a scheduler or an AveragedModel, or one of "
            f"these, but got {type(source).__name__}"
        )
    return state_dict


def _algorithm(source: Any, state_dict: Mapping[str, Any]) -> type[Optimizer] | None:
    """Our class of the algorithm, as the optimizer tells it, or else its ``state_dict``.

    None if torch has none of that name: its state is converted as that of one's own.
    """
    if not hasattr(source, "param_groups"):
        return recognize(state_dict["param_groups"])
    cls = class_of(source)
    return cls if cls is not None and in_torch(cls) else None


def _is_optimizers(state_dict: Mapping[str, Any]) -> bool:
    return "param_groups" in state_dict and "state" in state_dict


def _is_schedulers(state_dict: Mapping[str, Any]) -> bool:
    return "_last_lr" in state_dict


def _averages(state_dict: Mapping[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    """The state of an average, whose arrays are converted.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if "n_averaged" not in state_dict:
        raise TypeError(
            "expected the state_dict of an optimizer, a scheduler or an AveragedModel, but got one "
            f"with {sorted(map(str, state_dict))}"
        )
    return {key: map_arrays(convert, value) for key, value in state_dict.items()}
