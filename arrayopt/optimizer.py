"""The base class of every optimizer: parameter groups, state, saving, and the step."""

from __future__ import annotations

import html
import math
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from arrayopt import loading
from arrayopt.backend import Guard
from arrayopt.batching import Agenda, Reading, Work, build
from arrayopt.capture import Captured, capture, is_captured, renew
from arrayopt.choosing import ImplementationReport, choices, reports
from arrayopt.groups import (
    Group,
    Known,
    check_duplicates,
    check_param,
    given_names,
    is_bare,
    read_params,
)
from arrayopt.hooks import (
    Closure,
    Hooks,
    RemovableHandle,
    evaluate,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
    with_hooks,
)
from arrayopt.inputs import Gradients, Traits, check_array, data_of
from arrayopt.namespace import Array, device, duplicate, is_array, is_sparse
from arrayopt.options import PLAIN, Range, python_number, required
from arrayopt.parameter import Parameter, zero_grad
from arrayopt.scaling import Scaling, Skippable, read_scaling
from arrayopt.state import StateSlot, slots_under
from arrayopt.trace import TraceError, unpack
from arrayopt.wording import counted

__all__ = [
    "Optimizer",
    "StateSlot",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "required",
]

#: Keys of a group that are not hyperparameters of the algorithm.
_NOT_OPTIONS = frozenset({"params", "param_names"})

#: Keys that learning-rate schedulers and their users put into groups.
_ANNOTATIONS = frozenset(
    {
        "capturable",
        "name",
        "initial_lr",
        "max_lr",
        "min_lr",
        "base_momentum",
        "max_momentum",
        "swa_lr",
    }
)

#: Attributes that are not copied or pickled.
_TRANSIENT = frozenset(
    {
        "_captured",
        "_captured_flag",
        "_graphs",
        "_known",
        "_last",
        "_skippable",
        "found_inf",
        "grad_scale",
        "_step_pre_hooks",
        "_step_post_hooks",
        "_state_dict_pre_hooks",
        "_state_dict_post_hooks",
        "_load_pre_hooks",
        "_load_post_hooks",
    }
)


class Optimizer:
    """Base class of all optimizers.

    A subclass gives its constructor, its `state_table`, its `ranges` and its `rule`; parameter
    groups, checks, state, saving and every way to run it come from here.

    Parameters
    ----------
    params : iterable
        What to optimize: `Parameter` objects, bare arrays (which are wrapped), anything that has
        ``.data`` and ``.grad`` (``torch_model.parameters()``), pairs ``(name, parameter)``, or
        dicts, each a group of parameters with its own options.
    defaults : dict
        The options and their values where a group gives none.

    Attributes
    ----------
    param_groups : list of dict
        Each holds ``"params"``, ``"param_names"`` if they were named, and all options.
    state : dict
        What is remembered between steps, a dict for each parameter.
    defaults : dict
        As passed.
    step_count : int
        How often `step` has been completed, which is what learning-rate schedulers look at. It is
        not part of `state_dict`.
    grad_scale : float or array of one number, optional
        Once it is set (and not None), gradients are divided by it, without being changed: for mixed
        precision, as torch's fused optimizers do it, but by every implementation. torch's
        GradScaler sets it.
    found_inf : float or array of one number, optional
        Once it is set, steps are skipped unless it is zero; they leave parameters and state as they
        are. If it lies on the GPU beside CuPy parameters, the host does not wait to know: the
        device decides, and the step count is put right when the next step begins; see `settle`.

    Raises
    ------
    TypeError
        If `params` is an array, or holds something that is no parameter.
    ValueError
        If `params` is empty, a parameter appears twice or is read-only, or an option is out of
        its range.
    RuntimeError
        If a parameter does not hold floating-point numbers.

    Examples
    --------
    An algorithm of one's own is a constructor and a rule:

    >>> import numpy as np
    >>> class SignDescent(Optimizer):
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def rule(self, xp, param, grad, state, group):
    ...         return param - group["lr"] * xp.sign(grad), {}
    >>> w = np.array([1.0, -1.0])
    >>> SignDescent([w]).step(grads=[w])
    >>> w
    array([ 0.9, -0.9])
    """

    #: The state that the algorithm keeps for each parameter.
    state_table: ClassVar[tuple[StateSlot, ...]] = ()

    _slot_names: ClassVar[frozenset[str]] = frozenset()
    _traits: ClassVar[Traits] = Traits("Optimizer")

    #: The options that are checked, and the intervals in which they have to lie.
    ranges: ClassVar[tuple[Range, ...]] = ()

    #: Which gradients the algorithm takes: "dense", "dense or sparse", or "sparse". Of a parameter
    #: with a sparse gradient, the rule is given the entries that the gradient touches.
    gradients: ClassVar[Gradients] = "dense"

    #: Whether the rule treats each element by itself. One that looks at an array as a whole is run
    #: as a for-loop, on real parameters with dense gradients.
    elementwise: ClassVar[bool] = True

    #: Whether parameters have to be matrices, so that the rule may ask for ``param.shape``.
    matrices: ClassVar[bool] = False

    #: How `arrayopt.explain` writes names of the rule, in LaTeX, where it is not told otherwise:
    #: ``{"speed": "s_{@}"}`` is s_{t-1} before a step, and s_t after it. A pair tells both.
    notation: ClassVar[Mapping[str, str | tuple[str, ...]]] = MappingProxyType({})

    #: Options that a group cannot change.
    fixed_options: ClassVar[Mapping[str, Any]] = {}

    #: What the next steps divide their gradients by, and whether they are skipped: numbers, or
    #: arrays of one. On a GPU, the host does not read them. (There are no such attributes until
    #: they are set, as torch's GradScaler wants it.)
    grad_scale: Any
    found_inf: Any

    #: What has been read of the groups, and what may be done again, by the numbers of the groups.
    _known: dict[int, Known]
    _last: dict[int, Agenda]
    _skippable: Skippable | None
    _captured: list[Captured]
    _captured_flag: Array | None
    _graphs: list[Any]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.step_count = 0
        self._reset()
        if is_array(params):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of arrays, "
                f"parameters or dicts, but got {type(params).__module__}."
                f"{type(params).__qualname__}; put a single array in a list"
            )
        entries = list(params) if isinstance(params, Iterable) else read_params(params)[0]
        if not entries:
            raise ValueError("optimizer got an empty parameter list")
        for group in entries if isinstance(entries[0], dict) else [{"params": entries}]:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._slot_names = frozenset(slot.name for slot in cls.state_table)
        if cls.matrices or any(slot.shape for slot in cls.state_table):
            cls.elementwise = False
        cls._traits = Traits(cls.__name__, cls.gradients, cls.elementwise, cls.matrices)
        if cls.gradients != "dense" and not cls.elementwise:
            raise TypeError(
                f"{cls.__name__} looks at an array as a whole, so that it cannot be given the "
                f'touched entries of a sparse gradient: expected gradients="dense", but got '
                f"{cls.gradients!r}"
            )
        if "step" in vars(cls):
            cls.step = with_hooks(vars(cls)["step"])  # type: ignore[method-assign]

    def _reset(self) -> None:
        """Begin without hooks and without work that could be done again."""
        self._known = {}
        self._last = {}
        self._skippable = None
        self._captured = []
        self._captured_flag = None
        self._graphs = []
        self._step_pre_hooks: Hooks = OrderedDict()
        self._step_post_hooks: Hooks = OrderedDict()
        self._state_dict_pre_hooks: Hooks = OrderedDict()
        self._state_dict_post_hooks: Hooks = OrderedDict()
        self._load_pre_hooks: Hooks = OrderedDict()
        self._load_post_hooks: Hooks = OrderedDict()

    def rule(
        self,
        xp: Any,
        param: Array,
        grad: Array,
        state: Mapping[str, Any],
        group: Mapping[str, Any],
    ) -> tuple[Array, dict[str, Any]]:
        """One step of the algorithm for one parameter, as a pure function.

        Parameters
        ----------
        xp : namespace
            The array library.
        param, grad : array
            The parameter and its gradient: real, of the same shape and dtype. (A complex
            parameter is seen as pairs of reals, a half-precision one as float32.)
        state : mapping
            The entries of `state_table` that exist: arrays like `param`, and Python numbers.
        group : mapping
            The options, as Python numbers.

        Returns
        -------
        param : array
            The new parameter.
        state : dict
            The entries of the state that have changed.

        Notes
        -----
        It is not called at every step. What it does to arrays is run as a compiled program, and
        what it does to numbers as a formula, as long as it would take the same branches; so it
        should depend on nothing but its arguments. (A rule that reads or sets attributes of the
        optimizer is called at every step; a global number, or the ``type`` of a number, may be
        looked at only once.)
        """
        raise NotImplementedError(f"{type(self).__name__} has no rule")

    @classmethod
    def has_rule(cls) -> bool:
        """Whether the algorithm is a rule, and not a step of its own, as that of LBFGS is."""
        return cls.rule is not Optimizer.rule

    def check_group(self, group: Group, where: str = "") -> None:
        """Raise if the options of `group`, given as Python numbers, are invalid.

        A subclass extends this where options depend on each other.

        Raises
        ------
        TypeError, ValueError
            If an option is of the wrong type, or out of its range.
        RuntimeError
            If two options exclude each other.
        """
        for interval in self.ranges:
            interval.check(group, where)
        if group.get("fused"):
            if group.get("differentiable"):
                raise RuntimeError("`fused` does not support `differentiable`")
            if group.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    def moves_all(self, group: Mapping[str, Any]) -> bool:
        """Whether a step moves entries whose gradient is zero, under these options.

        A sparse gradient is made dense then.
        """
        return False

    # Groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, to be optimized from now on.

        Parameters
        ----------
        param_group : dict
            ``"params"``, as the constructor takes them, and options; those that it lacks are
            taken from the defaults. It is copied. Other keys are kept, with a warning.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As the constructor does. Nothing has changed then.
        KeyError
            If there is no ``"params"``.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        number = len(self.param_groups)
        params, names = read_params(param_group["params"])
        names = names or given_names(param_group, len(params))
        earlier = [param for group in self.param_groups for param in group["params"]]
        check_duplicates(params, earlier)
        params = [Parameter(param) if is_bare(param) else param for param in params]

        group: Group = {"params": params}
        if names is not None:
            group["param_names"] = names
        if number and (names is None) == ("param_names" in self.param_groups[0]):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group "
                f"{'without' if names is None else 'with'} names to the optimizer"
            )
        group |= {key: value for key, value in param_group.items() if key not in _NOT_OPTIONS}
        for option, default in self.defaults.items():
            if default is required and option not in group:
                raise ValueError(
                    "parameter group didn't specify a value of required optimization parameter "
                    f"{option}"
                )
            group.setdefault(option, default)
        group |= self.fixed_options
        for index, param in enumerate(params):
            label = self._label(group, number, index)
            check_param(param, label, group)
            check_array(param.data, self._traits, label)
        options = self._options(group, number)
        if options.get("foreach") or options.get("fused"):  # is it there?
            for param in params:
                choices(param.data, options, self._traits)
        unknown = sorted(group.keys() - self.defaults.keys() - _NOT_OPTIONS - _ANNOTATIONS)
        if unknown:
            warnings.warn(
                f"parameter group {number} has {unknown}, which {type(self).__name__} does not "
                f"use; its options are {sorted(self.defaults)}",
                stacklevel=4,
            )
        self.param_groups.append(group)

    def _options(self, group: Group, number: int) -> dict[str, Any]:
        """The checked options of a group, as Python numbers."""
        options = {
            key: value if type(value) in PLAIN else python_number(value)
            for key, value in group.items()
            if key not in _NOT_OPTIONS
        }
        self.check_group(options, f" in parameter group {number}" if number else "")
        if options.get("differentiable"):  # let an autodiff library see through a learning rate
            options |= {k: v for k, v in group.items() if is_array(v)}
        return options

    def _name(self, group: Group, index: int) -> str | None:
        """The name of a parameter, as its group gives it, or else the parameter itself."""
        names = group.get("param_names", ())
        param = group["params"][index]
        return names[index] if index < len(names) else getattr(param, "name", None)

    def _label(self, group: Group, number: int, index: int) -> str:
        """How error messages call a parameter."""
        name = self._name(group, index)
        place = f"parameter {index} of group {number}" if number else f"parameter {index}"
        return f"{place} ({name!r})" if name else place

    def _enumerate(self) -> Iterator[tuple[int, Group, int, Any]]:
        for number, group in enumerate(self.param_groups):
            for index, param in enumerate(group["params"]):
                yield number, group, index, param

    # The step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters.

        Parameters
        ----------
        set_to_none : bool, default True
            Set them to None. If False, set them to zero in place.
        """
        for _, _, _, param in self._enumerate():
            zero_grad(param, set_to_none)

    @with_hooks
    def step(
        self,
        closure: Closure | None = None,
        *,
        grads: Sequence[Array | None] | Mapping[str, Array | None] | None = None,
    ) -> Any:
        """Take one step: update every parameter that has a gradient, in place.

        Parameters
        ----------
        closure : callable, optional
            Called once, before the update. It sets the gradients and returns the loss, or returns
            ``(loss, grads)``.
        grads : sequence or mapping of array, optional
            The gradients, in the order of the parameters (of all groups) or by their names. None
            stands for a parameter that is to be passed over. By default, each parameter's
            ``.grad``.

        Returns
        -------
        loss
            What the closure returned as the loss; None without a closure.

        Raises
        ------
        TypeError
            If the closure is not callable, or a gradient is no array of the parameter's library.
        RuntimeError
            If a gradient has another shape or device, is sparse (or dense) where the algorithm
            takes none, or cannot be cast to the dtype of its parameter; or if the implementation
            that was asked for is not there.
        ValueError
            If the number of gradients is wrong, an option is out of its range, or a parameter
            cannot be written to.

        Notes
        -----
        Everything is checked before anything is changed. Gradients are never changed. (What a
        rule of one's own does while it runs in the for-loop cannot be checked before.)
        """
        loss = None
        if closure is not None:
            loss, grads = evaluate(closure, grads)
        gradients = self._gradients(grads)
        if self._skippable is not None:
            self.settle()
        there = self.__dict__
        scaled = "found_inf" in there or "grad_scale" in there
        scaling = self._scaling() if scaled else None
        plans = [
            self._plan(number, group, gradients[number], scaling)
            for number, group in enumerate(self.param_groups)
        ]
        if scaling is not None and scaling.skips:
            return loss
        works = [work for works, _ in plans for work in works]
        placed = any([work.has_place for work in works])
        if (placed or scaling is not None) and self._is_recorded(plans, scaling):
            return loss
        for work in works:
            work.prepare()
        for work in works:
            work.run(self.state)
        if self._skippable is not None:
            self._skippable.send()
        for number, (_, agenda) in enumerate(plans):
            if agenda.lasting:  # only now, since another thread that steps would take it up
                self._last[number] = agenda
        if len(self._known) > len(plans):  # a group is gone, and so may be its parameters
            self._known.clear()
            self._last = {n: agenda for n, agenda in self._last.items() if n < len(plans)}
        return loss

    def _is_recorded(self, plans: list[tuple[list[Work], Agenda]], scaling: Scaling | None) -> bool:
        """Have the device look at what only it knows; whether the step went into a graph."""
        works = [(number, work) for number, (works, _) in enumerate(plans) for work in works]
        if scaling is not None and scaling.is_on_device:
            self._guard(scaling, [work for _, work in works])
        if not is_captured([work for _, work in works]):
            return False
        self._capture(works, scaling)
        return True

    def _capture(self, works: list[tuple[int, Work]], scaling: Scaling | None) -> None:
        """Record a step in a graph, which is no step yet."""
        self._skippable = None
        captured = capture(works)
        # (a flag is kept by the graph itself, since it may have changed when it is looked at)
        found_inf = (
            None if scaling is None or scaling.found_inf is None else duplicate(scaling.found_inf)
        )
        self._captured, self._captured_flag = captured, found_inf
        self._graphs.append((captured, found_inf))  # what graphs use has to be kept
        self.step_count -= 1

    def prepare_replay(self) -> None:
        """Count a step that is about to be replayed, and let the graph take its numbers.

        A step on CuPy arrays can be captured in a CUDA graph, and replayed: with
        ``capturable=True`` (SGD and Adagrad have no such argument, as torch's have none, and need
        none), kernels read the numbers of a step, such as learning rate and bias corrections, from
        device memory. This computes those of the next step as `step` would, and writes them there,
        on the current stream, on which the graph has to be launched then. Nobody waits for the
        device. Step counts, `step_count` and `state_dict` are those of ordinary steps, and so are
        learning rates and schedules.

        The steps before the first replay have to be ordinary ones, since they make the state and
        compile the kernels. The step that is captured is not carried out, and not counted. Hooks
        are not called. (The numbers of the last capture are written.)

        Raises
        ------
        RuntimeError
            If no step has been captured; or if the next step would not do what was captured:
            an array has been replaced, a state has been loaded, or the rule takes another branch,
            as RAdam does after its first steps. Then a step has to be captured anew. Nothing has
            changed.
        ValueError, TypeError
            If an option is invalid.

        Notes
        -----
        With a `found_inf` on the device, this waits for the replay before, to know whether it was
        skipped.

        Examples
        --------
        .. code-block:: python

            opt = optim.Adam(params, capturable=True)
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                for _ in range(3):
                    compute_grads()
                    opt.step()
                stream.begin_capture()
                compute_grads()
                opt.step()
                graph = stream.end_capture()
                for batch in batches:
                    inputs[...] = batch
                    opt.prepare_replay()
                    graph.launch(stream)
                    scheduler.step()
        """
        if not self._captured:
            raise RuntimeError(
                "no step has been captured: call step() between begin_capture() and end_capture() "
                "of a stream"
            )
        self.settle()
        scaling = self._scaling()
        if scaling is not None and scaling.skips:
            raise RuntimeError("found_inf tells that the step is to be skipped: do not replay it")

        def read(number: int) -> Reading:
            return self._read(self.param_groups[number], number, scaling)

        params = [param for captured in self._captured for param in captured.work.batch.params]
        flag = self._captured_flag
        skippable = None if flag is None else Skippable(flag, self.state, params)
        renew(self._captured, read, self.state)
        self._skippable = skippable
        self.step_count += 1

    def settle(self) -> None:
        """Count the last step only if it was not skipped on the device, for which this may wait.

        With a `found_inf` on a GPU, nobody on the host knows whether a step will be skipped when it
        is launched. It counts as taken, in ``state``, until this is called: by the next step, by
        `state_dict`, or by whoever wants to know. (`step_count`, which schedulers look at, counts
        steps that were skipped as well.)
        """
        if self._skippable is not None:
            skippable, self._skippable = self._skippable, None
            if skippable.settle():
                self._last.clear()

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """What torch's GradScaler asks: whether it may leave `found_inf` and `grad_scale` here."""
        return self.has_rule()

    def _scaling(self) -> Scaling | None:
        """What there is to know of `grad_scale` and `found_inf`."""
        found_inf, grad_scale = vars(self).get("found_inf"), vars(self).get("grad_scale")
        if found_inf is None and grad_scale is None:
            return None
        params = [param for _, _, _, param in self._enumerate()]
        return read_scaling(found_inf, grad_scale, params)

    def _guard(self, scaling: Scaling, works: list[Work]) -> None:
        """Let the device look at what only it knows."""
        places: dict[str, Guard] = {}
        for work in works:
            array = work.batch.arrays[0]
            place = str(device(array))
            if place not in places:
                places[place] = scaling.guard(array)
            work.batch.guard = places[place]
        if scaling.found_inf is not None:
            params = [param for work in works for param in work.batch.params]
            self._skippable = Skippable(scaling.found_inf, self.state, params)

    def _update(
        self, xp: Any, param: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Array, Mapping[str, Any]]:
        """The rule, with what all rules have in common."""
        if group.get("grad_scale"):
            grad = grad / group["grad_scale"]
        if group.get("maximize"):
            grad = -grad
        param, new_state = unpack(self.rule, self.rule(xp, param, grad, state, group))
        if not self._slot_names.issuperset(new_state):
            raise TraceError(
                f"{type(self).__name__}.rule returned the state {sorted(new_state)}, but its "
                f"state_table declares {sorted(slot.name for slot in self.state_table)}"
            )
        return param, new_state

    def _gradients(self, grads: Any) -> list[list[Array | None]]:
        """The gradients of each group; None where a parameter is to be passed over."""
        groups = self.param_groups
        if grads is None:
            return [[param.grad for param in group["params"]] for group in groups]
        if isinstance(grads, Mapping):
            names = [self._name(group, index) for _, group, index, _ in self._enumerate()]
            known = [name for name in names if name is not None]
            unknown = [name for name in grads if name not in known]
            if unknown:
                have = f"are named {known}" if known else "have no names"
                raise ValueError(f"grads names {unknown}, but the parameters {have}")
            ambiguous = [name for name in grads if known.count(name) > 1]
            if ambiguous:
                raise ValueError(f"grads names {ambiguous}, but several parameters have that name")
            grads = [grads.get(name) for name in names]
        elif is_array(grads) or not isinstance(grads, Iterable):
            raise TypeError(
                f"grads must be a sequence or a mapping of arrays, but got {type(grads).__name__}"
            )
        flat = list(grads)
        sizes = [len(group["params"]) for group in groups]
        if len(flat) != sum(sizes):
            raise ValueError(
                f"expected {sum(sizes)} gradients, one a parameter, but got {len(flat)}"
            )
        position = iter(flat)
        return [[next(position) for _ in range(size)] for size in sizes]

    def _plan(
        self, number: int, group: Group, grads: list[Any], scaling: Scaling | None
    ) -> tuple[list[Work], Agenda]:
        """The work on a group, and what of it may be done again.

        It is that of the last step, if nothing but numbers has changed.
        """
        params = group["params"]
        reading = self._read(group, number, scaling)
        agenda = self._last.pop(number, None)
        if agenda is not None and not agenda.adopt(reading):
            agenda = None
        if agenda is not None and agenda.renew(params, grads, self.state):
            return agenda.works, agenda
        works = []
        if self.gradients != "dense" and any(map(is_sparse, grads)):
            sparse = [grad if is_sparse(grad) else None for grad in grads]
            works = self._build(group, number, reading, sparse).works
            grads = [None if is_sparse(grad) else grad for grad in grads]
            if agenda is not None and agenda.renew(params, grads, self.state):
                return works + agenda.works, agenda
        agenda = self._build(group, number, reading, grads)
        return works + agenda.works, agenda

    def _build(self, group: Group, number: int, reading: Reading, grads: list[Any]) -> Agenda:
        """The work on a group, planned from the beginning."""
        return build(
            self._update,
            self._traits,
            group["params"],
            grads,
            lambda index: self._label(group, number, index),
            self.state,
            reading,
            self.moves_all(reading.options),
        )

    def _read(self, group: Group, number: int, scaling: Scaling | None = None) -> Reading:
        """The options of a group and the state under them: read anew if the group has changed."""
        known = self._known.get(number)
        if known is None or not known.holds(group):
            options = self._options(group, number)
            reading = Reading(MappingProxyType(options), slots_under(self.state_table, options))
            known = self._known[number] = Known(group, reading)
        return known.reading if scaling is None else known.reading.scaled(scaling)

    @property
    def implementation(self) -> tuple[ImplementationReport, ...]:
        """Which executor updates which parameters, and why; empty without a `rule`.

        Each report is of one kind of parameters in a group: a line, if printed, with ``group``,
        ``implementation``, ``backend``, ``arrays``, ``parameters`` (how many) and ``reason``.

        Arrays that share memory with each other, or with a gradient, are updated one after another
        whichever it is.

        Examples
        --------
        >>> import arrayopt, numpy as np
        >>> print(*arrayopt.Adam([np.zeros(3)], foreach=True).implementation)
        group 0: 1 numpy float64 parameter: foreach (numpy_blocked), foreach=True
        """
        if not self.has_rule():
            return ()
        return reports(
            self._update,
            self._traits,
            self.state_table,
            (
                (
                    number,
                    data_of(param, self._label(group, number, index)),
                    self._options(group, number),
                )
                for number, group, index, param in self._enumerate()
            ),
        )

    # Hooks

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Run ``hook(optimizer, args, kwargs)`` before each step; see the global one."""
        return RemovableHandle(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Run ``hook(optimizer, args, kwargs)`` after each step."""
        return RemovableHandle(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Run ``hook(optimizer)`` before `state_dict`; first of all, if `prepend`."""
        return RemovableHandle(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Run ``hook(optimizer, state_dict)`` after `state_dict`; it may return another one."""
        return RemovableHandle(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Run ``hook(optimizer, state_dict)`` before loading; it may return another one."""
        return RemovableHandle(self._load_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Run ``hook(optimizer)`` after loading."""
        return RemovableHandle(self._load_post_hooks, hook, prepend)

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with numbers for parameters: torch's layout.

        Returns
        -------
        dict
            ``"state"``: the state of each parameter under its number, the arrays themselves.
            ``"param_groups"``: the groups, ``"params"`` being numbers.
        """
        self.settle()
        for hook in tuple(self._state_dict_pre_hooks.values()):
            hook(self)
        numbers: dict[int, int] = {}
        for _, _, _, param in self._enumerate():
            numbers[id(param)] = len(numbers)
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            | {"params": [numbers[id(param)] for param in group["params"]]}
            for group in self.param_groups
        ]
        state = {
            numbers.get(id(key), key) if not isinstance(key, str) else key: value
            for key, value in self.state.items()
        }
        state_dict: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in tuple(self._state_dict_post_hooks.values()):
            replacement = hook(self, state_dict)
            state_dict = state_dict if replacement is None else replacement
        return state_dict

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        by: Literal["order", "name"] | None = None,
        keep_options: bool = False,
    ) -> None:
        """Load what `state_dict` returned, of this or of an earlier run.

        Parameters
        ----------
        state_dict : mapping
            It is copied: nothing is shared with it afterwards.
        by : {"order", "name"}, optional
            How saved parameters are matched with those here. By default by their order, and if
            both sides have names, these have to agree; ``"order"`` does not look at names;
            ``"name"`` does not look at the order.
        keep_options : bool, default False
            Keep the hyperparameters of the groups as they are now, and load the state alone.

        Raises
        ------
        ValueError, TypeError
            If groups, names, shapes or the entries of the state do not fit. Nothing has changed
            then.
        KeyError
            If ``"state"`` or ``"param_groups"`` is missing.

        Notes
        -----
        State arrays are cast to the dtype of their parameter, and moved to its library and device.
        """
        self.prepare_load(state_dict, by=by, keep_options=keep_options)()

    def prepare_load(
        self,
        state_dict: Mapping[str, Any],
        *,
        by: Literal["order", "name"] | None = None,
        keep_options: bool = False,
    ) -> Callable[[], None]:
        """Check and copy all that `load_state_dict` loads, and change nothing yet.

        A subclass whose saved state has to be checked in other ways overrides this.

        Parameters
        ----------
        state_dict, by, keep_options
            As `load_state_dict` has them.

        Returns
        -------
        callable
            Loads it.

        Raises
        ------
        ValueError, TypeError, KeyError
            As `load_state_dict` does.
        """
        if by not in (None, "order", "name"):
            raise ValueError(f"by must be 'order', 'name' or None, but got {by!r}")
        state_dict = dict(state_dict)
        for hook in tuple(self._load_pre_hooks.values()):
            replacement = hook(self, state_dict)
            state_dict = state_dict if replacement is None else dict(replacement)
        groups, state = loading.read(
            self.param_groups,
            state_dict["param_groups"],
            state_dict["state"],
            self.state_table,
            self.read_state,
            lambda number, index: self._label(self.param_groups[number], number, index),
            by,
        )
        if keep_options:
            groups = [dict(group) for group in self.param_groups]
        else:
            groups = [self.defaults | group | dict(self.fixed_options) for group in groups]
        for number, group in enumerate(groups):
            self._options(group, number)

        def load() -> None:
            self.__setstate__({"state": state, "param_groups": groups})
            for hook in tuple(self._load_post_hooks.values()):
                hook(self)

        return load

    def read_state(self, saved: Any, param: Any, label: str) -> dict[str, Any] | None:
        """The state of a parameter, from what was saved; None if the `state_table` tells all.

        A subclass whose state is something else than arrays like the parameter overrides this.

        Parameters
        ----------
        saved : object
            What `state_dict` had for the parameter. Nothing may be shared with it.
        param : object
            The parameter.
        label : str
            What the parameter is called in messages.

        Raises
        ------
        ValueError, TypeError
            If it does not fit.
        """
        return None

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return {name: value for name, value in vars(self).items() if name not in _TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_last" not in vars(self):
            self._reset()
        self._last.clear()
        self._skippable = None

    # Looking at it

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    def _repr_html_(self) -> str:
        options = sorted({key for group in self.param_groups for key in group} - _NOT_OPTIONS)
        head = "".join(f"<th>group {number}</th>" for number in range(len(self.param_groups)))
        sizes = "".join(
            f"<td>{counted(len(group['params']), 'array')}, "
            f"{counted(sum(math.prod(p.data.shape) for p in group['params']), 'number')}</td>"
            for group in self.param_groups
        )
        rows = "".join(
            f"<tr><th>{html.escape(option)}</th>"
            + "".join(f"<td>{html.escape(str(g.get(option, '')))}</td>" for g in self.param_groups)
            + "</tr>"
            for option in options
        )
        return (
            f"<table><caption>{type(self).__name__}</caption><tr><th></th>{head}</tr>"
            f"<tr><th>params</th>{sizes}</tr>{rows}</table>"
        )
