"""The autograd-free container: an array, its gradient, and a tree of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from arrayopt.namespace import (
    Array,
    DType,
    array_namespace,
    beside,
    castable,
    convert,
    detach,
    is_array,
    is_floating,
    is_masked,
    is_sparse,
    is_writeable,
    overlaps_itself,
)
from arrayopt.sparse_grad import SparseGrad

__all__ = ["Buffer", "Module", "Parameter"]


class Parameter:
    """An array to be optimized, and its gradient.

    Parameters
    ----------
    data : array of any shape
        Real or complex floating-point numbers, of any library of the array API standard. The
        memory is the caller's own: it is not copied, and an optimizer writes to it. (An immutable
        array, as JAX has, is replaced: read ``param.data`` after the step.)
    name : str, optional
        A name for error messages, and for ``optimizer.step(grads={name: ...})``.
    requires_grad : bool, default True
        An optimizer passes over a parameter that does not require a gradient.

    Attributes
    ----------
    grad : array or None
        The gradient of the loss, of the shape of `data`; None, the default, until it is set. An
        optimizer passes over a parameter without one.

    Raises
    ------
    TypeError
        If `data` is not an array.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.zeros(3)
    >>> p = Parameter(w, name="w")
    >>> p.data is w, p.shape, p.grad is None
    (True, (3,), True)
    """

    def __init__(self, data: Array, *, name: str | None = None, requires_grad: bool = True) -> None:
        self.data = _checked(data, type(self).__name__)
        self.grad: Array | None = None
        self.name = name
        self.requires_grad = requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> DType:
        """The dtype of `data`."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions of `data`."""
        return len(self.data.shape)

    @property
    def size(self) -> int:
        """The number of elements of `data`."""
        return math.prod(self.data.shape)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient, or set it to zero in place."""
        zero_grad(self, set_to_none)

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}, "
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"{type(self).__name__}({name}shape={self.shape}, dtype={self.dtype}{frozen})"


class Buffer:
    """An array that belongs to a `Module` and is not optimized: a running mean, a mask.

    Parameters
    ----------
    data : array of any shape and dtype
        The memory is the caller's own; it is not copied.
    persistent : bool, default True
        Whether it is part of the module's ``state_dict``.

    Raises
    ------
    TypeError
        If `data` is not an array.

    Examples
    --------
    >>> import numpy as np
    >>> Buffer(np.arange(3)).data
    array([0, 1, 2])
    """

    def __init__(self, data: Array, *, persistent: bool = True) -> None:
        self.data = _checked(data, type(self).__name__)
        self.persistent = persistent

    def __repr__(self) -> str:
        return f"Buffer(shape={tuple(self.data.shape)}, dtype={self.data.dtype})"


class Module:
    """A tree of parameters, buffers and modules.

    Whatever is an attribute, or stands in a list, tuple or dict that is an attribute, belongs to
    the tree, under the name of the attribute, index or key. An object that stands in several
    places (tied weights) is listed once, under its first name.

    Attributes
    ----------
    training : bool
        Whether the module is being trained; see `train` and `eval`.

    Examples
    --------
    >>> import numpy as np
    >>> class Linear(Module):
    ...     def __init__(self, inputs, outputs):
    ...         self.weight = Parameter(np.zeros((inputs, outputs)))
    ...         self.bias = Parameter(np.zeros(outputs))
    >>> class MLP(Module):
    ...     def __init__(self):
    ...         self.layers = [Linear(4, 8), Linear(8, 2)]
    >>> [name for name, _ in MLP().named_parameters()]
    ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'layers.1.bias']
    """

    training: bool = True

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield every module of the tree with its name, this one first."""
        yield prefix, self
        yield from survey(self, prefix).modules

    def modules(self) -> Iterator[Module]:
        """Yield every module of the tree, this one first."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly below this one with their names."""
        yield from survey(self, recurse=False).modules

    def children(self) -> Iterator[Module]:
        """Yield the modules directly below this one."""
        return (child for _, child in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter of the tree (or of this module alone) with its name."""
        for name, entry in survey(self, prefix, recurse).entries:
            if isinstance(entry, Parameter):
                yield name, entry

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield every parameter of the tree (or of this module alone)."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """Yield every buffer of the tree (or of this module alone) with its name."""
        for name, entry in survey(self, prefix, recurse).entries:
            if isinstance(entry, Buffer):
                yield name, entry

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Yield every buffer of the tree (or of this module alone)."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def train(self, mode: bool = True) -> Self:
        """Set the training flag of every module of the tree."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be a bool, but got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Clear the training flag of every module of the tree."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for parameter in self.parameters():
            zero_grad(parameter, set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze (True) all parameters of the tree."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def state_dict(self) -> dict[str, Array]:
        """The data of all parameters and persistent buffers by name; the arrays themselves."""
        return {name: entry.data for name, entry in self._entries()}

    def load_state_dict(
        self, state_dict: Mapping[str, Array], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy arrays into the parameters and buffers of the same names.

        Parameters
        ----------
        state_dict : mapping of str to array
            As `state_dict` returns it. Each array is cast to the dtype, and moved to the device,
            of the entry that it is copied to.
        strict : bool, default True
            Whether the names must be the same on both sides.

        Returns
        -------
        missing_keys, unexpected_keys : list of str
            Names that only the module has, and that only `state_dict` has.

        Raises
        ------
        RuntimeError
            If something is no array, or differs in shape, or cannot be cast without losing its
            kind, or if `strict` and the names differ. Nothing has changed then.
        """
        entries = dict(self._entries())
        missing = [name for name in entries if name not in state_dict]
        unexpected = [name for name in state_dict if name not in entries]
        problems = []
        if strict and missing:
            problems.append(f"missing keys: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected keys: {', '.join(unexpected)}")
        values = {}
        for name, entry in entries.items():
            if name in state_dict:
                problem = mismatch(state_dict[name], entry.data)
                if problem:
                    problems.append(f"{name}: {problem}")
                else:
                    values[name] = convert(state_dict[name], entry.data)
        if problems:
            raise RuntimeError(
                f"cannot load the state_dict into {type(self).__name__}: {'; '.join(problems)}"
            )
        for name, value in values.items():
            assign(entries[name], value)
        return missing, unexpected

    def _entries(self) -> Iterator[tuple[str, Parameter | Buffer]]:
        yield from self.named_parameters()
        yield from ((name, buffer) for name, buffer in self.named_buffers() if buffer.persistent)

    def __repr__(self) -> str:
        def tree(module: Module, indent: str) -> str:
            parts = survey(module, recurse=False)
            entries = sorted(parts.entries, key=lambda entry: isinstance(entry[1], Buffer))
            lines = [f"{indent}  {name}: {entry!r}" for name, entry in entries] + [
                f"{indent}  {name}: {tree(child, indent + '  ')}" for name, child in parts.modules
            ]
            body = "\n".join(lines)
            return (
                f"{type(module).__name__}(\n{body}\n{indent})"
                if lines
                else f"{type(module).__name__}()"
            )

        return tree(self, "")


def zero_grad(parameter: Any, set_to_none: bool) -> None:
    """Forget the gradient of anything that has ``.grad``, or set it to zero in place."""
    grad = parameter.grad
    if set_to_none or grad is None:
        parameter.grad = None
    elif isinstance(grad, SparseGrad):
        parameter.grad = grad.zeroed()
    elif is_sparse(grad) and hasattr(grad, "zero_"):  # torch's cannot be assigned to
        parameter.grad = detach(grad).zero_()
    elif is_sparse(grad):
        grad.data[...] = 0
    elif is_writeable(grad):
        with beside(grad):
            detach(grad)[...] = 0
    else:
        parameter.grad = array_namespace(grad).zeros_like(grad)


def check_numbers(data: Array, label: str) -> None:
    """Raise if `data` does not hold numbers that can be optimized.

    Raises
    ------
    TypeError
        If it is sparse.
    RuntimeError
        If its elements are not real or complex floating-point numbers.
    """
    if not is_floating(data):
        raise RuntimeError(
            f"{label}: expected real or complex floating-point numbers, but got dtype "
            f"{data.dtype}; convert it with astype, or keep it as a Buffer"
        )
    if is_sparse(data):
        raise TypeError(f"{label}: expected a dense array, but got a sparse one")


def check_data(data: Array, label: str) -> None:
    """Raise if `data` cannot be optimized where it is.

    Raises
    ------
    TypeError, RuntimeError
        As `check_numbers` does; and a RuntimeError if its elements share memory.
    ValueError
        If it is a NumPy array that cannot be written to.
    """
    check_numbers(data, label)
    if overlaps_itself(data):
        raise RuntimeError(
            f"{label}: expected elements with memory of their own, but several share some (an "
            "expanded or broadcast array); copy it"
        )
    flags = getattr(data, "flags", None)
    if flags is not None and not getattr(flags, "writeable", True):
        raise ValueError(f"{label}: expected an array that can be written to, but it is read-only")


def assign(entry: Any, value: Array) -> None:
    """Write `value` into ``entry.data``, or rebind that if it cannot be written to."""
    if is_writeable(entry.data):
        with beside(entry.data):
            detach(entry.data)[...] = value
    else:
        entry.data = value


def mismatch(value: Any, like: Array) -> str:
    """Why `value` cannot be copied into `like`; empty if it can."""
    if not is_array(value) or is_sparse(value) or is_masked(value):
        return f"expected a dense array, but got {type(value).__name__}"
    if tuple(value.shape) != tuple(like.shape):
        return f"expected shape {tuple(like.shape)}, but got {tuple(value.shape)}"
    if not castable(value, like):
        return f"dtype {value.dtype} cannot be cast to {like.dtype}"
    return ""


def _checked(data: Array, kind: str) -> Array:
    if not is_array(data):
        raise TypeError(
            f"{kind} expects an array of NumPy or of another array-API library, but got "
            f"{type(data).__name__}; numpy.asarray makes an array of a list or a number"
        )
    return data


class Survey(NamedTuple):
    """What there is in a tree, each entry under its first name.

    Attributes
    ----------
    modules : list of (str, Module)
        The modules below the root, each before what is below it.
    entries : list of (str, object)
        The parameters and buffers, and whatever else was asked for.
    owners : list
        The root, and every module and container that was gone through.
    """

    modules: list[tuple[str, Module]]
    entries: list[tuple[str, Any]]
    owners: list[Any]


#: What makes an entry of something in a container that is none by itself.
Leaf = Callable[[Any, Any, str], Any]


def survey(owner: Any, prefix: str = "", recurse: bool = True, leaf: Leaf | None = None) -> Survey:
    """Go through a tree, depth first.

    Parameters
    ----------
    owner : Module, or list, tuple or mapping
        The root.
    prefix : str
        Its name.
    recurse : bool, default True
        Whether modules below it are gone through. Containers always are.
    leaf : callable, optional
        ``leaf(container, key, name)`` returns an entry, or None, for what is in a container that is
        no part of a module, and neither a container itself nor a `Parameter`, `Buffer` or `Module`.
    """
    found = Survey([], [], [])
    modules, entries, owners = found
    seen = set()

    def enter(owner: Any, prefix: str, leaf: Leaf | None) -> None:
        seen.add(id(owner))
        owners.append(owner)
        if isinstance(owner, Module):
            items: Any = vars(owner).items()
            leaf = None
        else:
            items = owner.items() if isinstance(owner, Mapping) else enumerate(owner)
        prefix = f"{prefix}." if prefix else ""
        for key, value in items:
            if isinstance(value, _ENTRIES):
                if id(value) not in seen:
                    seen.add(id(value))
                    entries.append((f"{prefix}{key}", value))
            elif isinstance(value, _OWNERS):
                if id(value) in seen:
                    continue
                if isinstance(value, Module):
                    seen.add(id(value))
                    modules.append((f"{prefix}{key}", value))
                    if not recurse:
                        continue
                enter(value, f"{prefix}{key}", leaf)
            elif leaf is not None:
                entry = leaf(owner, key, f"{prefix}{key}")
                if entry is not None:
                    entries.append((f"{prefix}{key}", entry))

    enter(owner, prefix, leaf)
    return found


def is_part(value: Any) -> bool:
    """Whether an attribute of a module belongs to its tree, or may hold what does."""
    return isinstance(value, _ENTRIES + _OWNERS)


_ENTRIES = (Parameter, Buffer)
_OWNERS = (Module, list, tuple, dict)
