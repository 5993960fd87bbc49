"""A model whose weights are the running average of another one's."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from arrayopt.choosing import ImplementationReport, choices, reports
from arrayopt.inputs import data_of
from arrayopt.namespace import (
    Array,
    array_namespace,
    convert,
    detach,
    duplicate,
    is_floating,
    is_writeable,
    library,
)
from arrayopt.namespace import device as device_of
from arrayopt.parameter import Buffer, Module, assign, mismatch
from arrayopt.swa_utils.averages import (
    AVERAGE,
    Average,
    Averager,
    AveragingFunction,
    EqualAverage,
    approach,
    at_home,
    count_of,
    fixed,
    unlike,
)
from arrayopt.swa_utils.trees import Tree, copied, differences, is_foreign, plain_arrays

__all__ = ["AveragedModel"]


class AveragedModel(Module):
    r"""A copy of a model that keeps the running average of its weights.

    The average :math:`\bar w_n` of :math:`n` models :math:`w_1, \dots, w_n` begins as the first,
    :math:`\bar w_1 = w_1`, and goes on with the weight :math:`\eta_n` of the next one:

    .. math::

        \bar w_{n+1} = \bar w_n + \eta_n (w_{n+1} - \bar w_n)

    By default :math:`\eta_n = 1 / (n + 1)`, so that all models count the same (SWA). With
    `get_ema_multi_avg_fn` it is :math:`1 - \beta` (EMA).

    Parameters
    ----------
    model : Module, or list or dict of arrays
        What is averaged: a `Module`, a list, tuple or dict of arrays (of one library, nested or
        not; a tuple becomes a list), or a module of another library that names its parameters and
        buffers as ``torch.nn.Module`` does. It is copied. Half-precision arrays become float32:
        the steps of an average soon are smaller than half precision resolves.
    device : device, optional
        Where the averages are; by default, where the model is.
    avg_fn : callable, optional
        ``avg_fn(averaged_param, current_param, num_averaged)`` returns the new average of one
        array, and writes to none. See `get_ema_avg_fn`.
    multi_avg_fn : callable, optional
        ``multi_avg_fn(averaged_params, current_params, num_averaged)`` updates a list of averages
        in place, once for each dtype and device. See `get_ema_multi_avg_fn`.
    use_buffers : bool, default False
        Whether buffers are averaged as well. If not, they are copied at each update. Buffers of
        integers or booleans always are.
    foreach, fused : bool, optional
        Which implementation updates the averages, as an optimizer has them; by default, the fastest
        there is. They do not apply to functions of one's own.

    Attributes
    ----------
    module : object
        The averaged model. It is called when the `AveragedModel` is.
    n_averaged : int
        How many models have been averaged.

    Raises
    ------
    AssertionError
        If both functions are given.
    TypeError
        If `model` is or holds something else, or a function is not callable.
    ValueError
        If `model` holds no array of floating-point numbers to average.
    RuntimeError
        If the implementation that was asked for is not there.

    Notes
    -----
    ``state_dict`` holds ``"n_averaged"``, and the arrays of the model under ``"module."``; the
    functions are not part of it. To resume is exact.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), "Averaging weights leads to wider
    optima and better generalization"; Polyak and Juditsky (1992), "Acceleration of stochastic
    approximation by averaging".

    Examples
    --------
    >>> import numpy as np
    >>> weights = {"w": np.array([0.0, 2.0])}
    >>> averaged = AveragedModel(weights)
    >>> for step in range(3):
    ...     averaged.update_parameters(weights)  # w is [0, 2], then [1, 2], then [2, 2]
    ...     weights["w"] += [1.0, 0.0]
    >>> averaged.module
    {'w': array([1., 2.])}
    >>> with averaged.swapped_into(weights):
    ...     print(weights["w"])
    [1. 2.]
    >>> weights["w"]
    array([3., 2.])
    """

    def __init__(
        self,
        model: Any,
        device: Any = None,
        avg_fn: Callable[[Array, Array, int], Array] | None = None,
        multi_avg_fn: Callable[[list[Array], list[Array], int], None] | None = None,
        use_buffers: bool = False,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        for name, function in (("avg_fn", avg_fn), ("multi_avg_fn", multi_avg_fn)):
            if not (function is None or callable(function)):
                raise TypeError(f"{name} must be callable, but got {type(function).__name__}")
        if callable(device):
            raise TypeError(f"expected a device, but got {device!r}; pass it as multi_avg_fn=")
        if not any(is_floating(entry.data) for entry in Tree(model).parameters.values()):
            raise ValueError(f"expected a model with weights, but {type(model).__name__} has none")
        self.module = copied(model, device)
        vars(self)["n_averaged"] = Buffer(np.array(0, np.int64))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers
        self._averager = Averager(foreach=foreach, fused=fused)
        # How many `swapped_into` are being gone through.
        self._swapped = 0
        # The tree of the averages, and the last model that was averaged with its tree; see `_tree`
        # and `_read`.
        self._own: Tree | None = None
        self._seen: tuple[weakref.ref[Module] | None, Tree | None] = (None, None)
        for name, entry in self._tree().parameters.items():
            if is_floating(entry.data):  # can it be averaged, and by what was asked for?
                choices(data_of(entry, name), self._averager.switches, AVERAGE)

    @property
    def n_averaged(self) -> int:
        """How many models have been averaged. Set to zero, it begins anew."""
        return int(vars(self)["n_averaged"].data)

    @n_averaged.setter
    def n_averaged(self, count: int) -> None:
        vars(self)["n_averaged"].data[...] = count_of(count, "n_averaged")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged model."""
        if not callable(self.module):
            raise TypeError(
                f"a {type(self.module).__name__} of arrays cannot be called; the averages are in "
                ".module"
            )
        return self.module(*args, **kwargs)

    # Updating

    def update_parameters(self, model: Any) -> None:
        """Take the weights of a model into the average.

        Parameters
        ----------
        model : Module, or list or dict of arrays
            Of the same names and shapes as the one that was copied. It is not changed.

        Raises
        ------
        ValueError
            If it does not match. Nothing has changed then.
        TypeError
            If it is no model; or if an average cannot be written to, which a `multi_avg_fn` has to.
        RuntimeError
            Inside of `swapped_into`.

        Notes
        -----
        If a `multi_avg_fn` of one's own raises, what it has done to the averages is not undone.
        """
        if self._swapped:
            raise RuntimeError(
                "an average cannot be updated inside of swapped_into: the model there has the "
                "average for its weights"
            )
        own = self._tree()
        values = self._values(own, model)
        count = self.n_averaged
        averaged = {} if count == 0 else self._averaged(own)
        # Whatever is not averaged is copied: all of the first model, and buffers.
        copies = _checked(own.entries, values, len(averaged))
        average = self._average
        if averaged and average is not None:
            self._approach(averaged, values[: len(averaged)], average.weight(count))
        elif averaged:
            copies += self._call(averaged, values[: len(averaged)], count)
        for entry, value in copies:
            assign(entry, value)
        self.n_averaged = count + 1

    def _approach(self, own: dict[str, Any], values: Sequence[Array], weight: float) -> None:
        """Update averages by the rule of arrayopt."""
        averages = [entry.data for entry in own.values()]
        updated = self._averager(averages, values, weight, lambda index: [*own][index])
        if updated is not averages:
            for entry, array in zip(own.values(), updated):
                entry.data = array

    def _call(
        self, own: dict[str, Any], values: Sequence[Array], count: int
    ) -> list[tuple[Any, Array]]:
        """Update averages by a function of the user's own; what is left to be assigned."""
        copies: list[tuple[Any, Array]] = []
        averaged: dict[str, tuple[Any, Array]] = {}
        for name, (entry, value) in zip(own, _checked(own, values)):
            array = entry.data
            if is_floating(array):
                cast = array_namespace(array).astype(detach(value), array.dtype, copy=False)
                averaged[name] = entry, cast
            else:
                copies.append((entry, value))
        if self.multi_avg_fn is not None:
            _average_in_place(self.multi_avg_fn, averaged, count)
            return copies
        assert self.avg_fn is not None
        return copies + _average_each(self.avg_fn, averaged, count)

    @property
    def implementation(self) -> tuple[ImplementationReport, ...]:
        """Which executor updates which averages, and why; empty with functions of one's own.

        Examples
        --------
        >>> import numpy as np
        >>> print(*AveragedModel([np.zeros(3)], foreach=True).implementation)
        1 numpy float64 parameter: foreach (numpy_blocked), foreach=True
        """
        if self._average is None:
            return ()
        options = {"weight": 0.0, **self._averager.switches}
        averages = [entry.data for entry in self._averaged(self._tree()).values()]
        arrays = filter(is_floating, averages)
        return reports(approach, AVERAGE, (), [(None, array, options) for array in arrays])

    @property
    def _average(self) -> Average | None:
        """Which average it is; None with a function of the user's own."""
        function = self.avg_fn or self.multi_avg_fn
        if function is None:
            return EqualAverage()
        return function.average if isinstance(function, AveragingFunction) else None

    def _averaged(self, own: Tree) -> dict[str, Any]:
        """The entries of the averages that are not copied at each update."""
        return own.entries if self.use_buffers else own.parameters

    def _tree(self) -> Tree:
        """The averages."""
        if self._own is None or not self._own.holds(self.module):
            self._own = Tree(self.module)
        return self._own

    def _values(self, own: Tree, model: Any) -> list[Array]:
        """The arrays of another model, in the order of the averages."""
        plain = plain_arrays(model) if own.keys else None
        if plain and [*plain] == own.keys:
            return [*plain.values()]
        if plain and plain.keys() == {*own.keys}:
            return [plain[key] for key in own.keys]
        other = self._read(model)
        _match(other, own)
        if [*other.entries] == [*own.entries]:
            return other.arrays()
        return [other.entries[name].data for name in own.entries]

    def _read(self, model: Any) -> Tree:
        """The tree of another model, which is kept as long as that exists."""
        seen, tree = self._seen
        if tree is None or seen is None or seen() is not model or not tree.holds(model):
            tree = Tree(model)
            if isinstance(model, Module) and not tree.refers_to(model):
                self._seen = weakref.ref(model, self._forget), tree
        return tree

    def _forget(self, _: Any) -> None:
        """Keep nothing of a model that is gone."""
        self._seen = None, None
        self._averager.forget()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_own": None, "_seen": (None, None), "_swapped": 0}

    # Evaluating

    @contextlib.contextmanager
    def swapped_into(self, model: Any) -> Iterator[Any]:
        """Evaluate a model with the averaged weights: a context manager.

        Inside of it, the parameters and buffers of `model` have the values of the averages, in its
        own memory; on leaving it, however that may be, they have the values of before, whatever has
        been written to them meanwhile.

        Parameters
        ----------
        model : Module, or list or dict of arrays
            Of the same names and shapes as the one that was copied.

        Yields
        ------
        model
            The same object.

        Raises
        ------
        ValueError
            If it does not match. Nothing has changed then.

        Notes
        -----
        The weights are kept aside meanwhile, as one more copy. (An array that cannot be written to
        is replaced, and put back.)
        """
        own, other = self._tree(), Tree(model)
        _match(other, own)
        _compare(own.entries, [other.entries[name].data for name in own.entries])
        averages = _checked(other.entries, [own.entries[name].data for name in other.entries])
        with contextlib.ExitStack() as stack:
            stack.callback(self._swap, -1)
            self._swap(1)
            for entry, _ in averages:
                stack.callback(_put_back, entry, entry.data, _content(entry.data))
            for entry, value in averages:
                assign(entry, value)
            yield model

    def _swap(self, change: int) -> None:
        self._swapped += change

    # Being a Module, whatever has been averaged

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        yield from super().named_parameters(prefix, recurse)
        if is_foreign(self.module) and recurse:
            yield from self.module.named_parameters(_below(prefix))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        yield from super().named_buffers(prefix, recurse)
        if is_foreign(self.module) and recurse:
            yield from self.module.named_buffers(_below(prefix))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        yield from super().named_modules(prefix)
        if is_foreign(self.module):
            yield from self.module.named_modules(prefix=_below(prefix))

    def named_children(self) -> Iterator[tuple[str, Any]]:
        yield from super().named_children()
        if is_foreign(self.module):
            yield "module", self.module

    def train(self, mode: bool = True) -> Self:
        if not is_foreign(self.module):
            return super().train(mode)
        self.module.train(mode)
        self.training = mode
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Array], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        if "n_averaged" in state_dict:
            count_of(state_dict["n_averaged"], "n_averaged")
        return super().load_state_dict(state_dict, strict)

    def _entries(self) -> Iterator[tuple[str, Any]]:
        yield "n_averaged", vars(self)["n_averaged"]
        kept = self.module.state_dict() if is_foreign(self.module) else None
        for name, entry in self._tree().entries.items():
            if getattr(entry, "persistent", True) and (kept is None or name in kept):
                yield f"module.{name}", entry

    def __repr__(self) -> str:
        function = self._average or self.avg_fn or self.multi_avg_fn
        own = self._tree()
        contents = (
            f"{type(self.module).__name__} of {len(own.parameters)} parameters and "
            f"{len(own.buffers)} buffers"
        )
        return f"AveragedModel({contents}, {function!r}, n_averaged={self.n_averaged})"


def _average_in_place(
    function: Callable[[list[Array], list[Array], int], None],
    pairs: Mapping[str, tuple[Any, Array]],
    count: int,
) -> None:
    """Call a ``multi_avg_fn`` once for each dtype and device."""
    groups: dict[Any, list[tuple[Array, Array]]] = {}
    for name, (entry, value) in pairs.items():
        array = detach(entry.data)
        if not is_writeable(array):
            raise fixed(name)
        key = (library(array), array.dtype, str(device_of(array)))
        groups.setdefault(key, []).append((array, value))
    for members in groups.values():
        averages, values = zip(*members)
        function([*averages], [*values], count)


def _average_each(
    function: Callable[[Array, Array, int], Array],
    pairs: Mapping[str, tuple[Any, Array]],
    count: int,
) -> list[tuple[Any, Array]]:
    """What an ``avg_fn`` makes of each average, checked; to be assigned."""
    results = []
    for name, (entry, value) in pairs.items():
        new: Any = function(detach(entry.data), value, count)
        new = np.asarray(new) if isinstance(new, np.generic) else new
        problem = mismatch(new, entry.data)
        if problem:
            raise ValueError(f"what avg_fn returned for {name}: {problem}")
        results.append((entry, at_home(new, entry.data)))
    return results


def _below(prefix: str) -> str:
    return f"{prefix}.module" if prefix else "module"


def _match(other: Tree, own: Tree) -> None:
    """Raise if a model has other names than the averages."""
    if other.entries.keys() != own.entries.keys():
        raise unlike(differences(own.entries, other.entries))


def _compare(entries: Mapping[str, Any], values: Sequence[Array], first: int = 0) -> None:
    """Raise if a value, from the first on, does not fit its entry.

    Raises
    ------
    ValueError
    """
    rows = itertools.islice(zip(entries.items(), values), first, None)
    problems = [
        f"{name}: {problem}"
        for (name, entry), value in rows
        if (problem := mismatch(value, entry.data))
    ]
    if problems:
        raise unlike(problems)


def _checked(
    entries: Mapping[str, Any], values: Sequence[Array], first: int = 0
) -> list[tuple[Any, Array]]:
    """Entries and the values that they are to be given, from the first on.

    Raises
    ------
    ValueError
        If one does not fit.
    """
    _compare(entries, values, first)
    return [
        (
            entry,
            at_home(value, entry.data) if is_writeable(entry.data) else convert(value, entry.data),
        )
        for entry, value in itertools.islice(zip(entries.values(), values), first, None)
    ]


def _content(array: Array) -> Array | None:
    """A copy of an array; None if it cannot change."""
    return duplicate(array) if is_writeable(array) else None


def _put_back(entry: Any, array: Array, content: Array | None) -> None:
    if content is not None:
        detach(array)[...] = content
    entry.data = array
