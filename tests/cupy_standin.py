"""A stand-in for CuPy over NumPy, for tests where no GPU is: a device whose memory is the host's.

`install` puts it into ``sys.modules``; its arrays are a class of their own, which is no NumPy array
and refuses to become one silently. What it is strict about:

- Whatever makes the host wait is written down in `Log.waits`: ``get``, ``item``, ``float``,
  ``bool``, ``asnumpy``, what has a shape that depends on data, and ``synchronize``.
- An array is used on the device where it lies, which has to be the current one.
- Under `late`, nothing that was launched has been done before the host waits: memory of the host
  that is overwritten too early, or a result that is read without waiting, gives wrong numbers.
- While a stream is captured, nothing is done at all: launches are kept, and done in each replay.
  Waiting is an error then, as it is in CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import host_kernels
import numpy as np

__all__ = ["Log", "install", "late", "waiting"]

DEVICES = 2

UFUNCS = (
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_or "
    "bitwise_xor cbrt ceil conj conjugate copysign cos cosh divide equal exp exp2 expm1 "
    "float_power floor floor_divide fmax fmin fmod greater greater_equal hypot invert isfinite "
    "isinf isnan left_shift less less_equal log log10 log1p log2 logaddexp logical_and logical_not "
    "logical_or logical_xor maximum minimum mod multiply negative nextafter not_equal positive "
    "power reciprocal remainder right_shift rint sign signbit sin sinh sqrt square subtract tan "
    "tanh true_divide trunc"
)

#: Functions whose results are made by a launch, or are views of their arguments.
FUNCTIONS = (
    "all any argmax argmin argsort around array_equal ascontiguousarray atleast_1d atleast_2d "
    "allclose broadcast_arrays broadcast_to clip concatenate count_nonzero cross cumprod cumsum "
    "diagonal diff dot einsum expand_dims fix flip full_like imag inner isclose isin matmul max "
    "mean median min moveaxis nan_to_num nanmax nanmin nansum outer permute_dims prod ptp "
    "ravel real repeat reshape roll round searchsorted sort squeeze stack std sum swapaxes take "
    "take_along_axis tensordot tile trace transpose tril triu var vdot vstack hstack where "
    "zeros_like ones_like empty_like"
)

#: Functions whose results have shapes that depend on data, which the host waits for.
DATA_DEPENDENT = "argwhere flatnonzero nonzero unique"

CREATION = "arange empty eye full identity full linspace meshgrid ones zeros"

TYPES = (
    "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
    "complex128 intp dtype generic integer floating inexact number complexfloating newaxis nan inf "
    "pi e"
)

#: Functions that are methods as well.
METHODS = (
    "all any argmax argmin argsort clip conj cumprod cumsum diagonal dot max mean min prod ravel "
    "repeat round squeeze std sum swapaxes take trace var"
)

#: What answers about dtypes and shapes, and touches no element.
PLAIN = "can_cast finfo iinfo isdtype issubdtype result_type broadcast_shapes shape ndim size"


@dataclass
class Log:
    """What has happened on the devices since it was cleared.

    Attributes
    ----------
    waits : list of str
        What made the host wait.
    launches : list of (str, int, int)
        What was launched: its name, the device, and the pointer of the stream.
    """

    waits: list[str] = field(default_factory=list)
    launches: list[tuple[str, int, int]] = field(default_factory=list)

    def clear(self) -> None:
        """Forget it."""
        self.waits.clear()
        self.launches.clear()


class CUDARuntimeError(RuntimeError):
    """An error of the runtime."""


class DeviceSynchronized(RuntimeError):
    """The host waits where it has been told not to."""


class _Machine:
    """The devices: which one is current, what is still to be done, and what is being captured."""

    def __init__(self) -> None:
        self.log = Log()
        self.waiting_allowed = True
        self.device = 0
        self.late = False
        self.pending: list[Callable[[], object]] = []
        self.alive: list[np.ndarray] = []
        self.pinned: dict[int, int] = {}
        self.streams: list[Stream] = []

    @property
    def stream(self) -> Stream:
        return self.streams[-1] if self.streams else Stream.null

    def wait(self, what: str, stream: Stream | None = None) -> None:
        """Do all that is pending, as the host that asks for a result has to."""
        waited_for = [*self.streams] if stream is None else [stream]
        if any(each.captured is not None for each in waited_for):
            raise CUDARuntimeError(
                f"cudaErrorStreamCaptureUnsupported: operation not permitted when stream is "
                f"capturing ({what})"
            )
        if not self.waiting_allowed:
            raise DeviceSynchronized(what)
        self.log.waits.append(what)
        self.flush()

    def flush(self) -> None:
        pending, self.pending = self.pending, []
        for work in pending:
            work()

    def launch(self, name: str, work: Callable[[], object], stream: Stream | None = None) -> None:
        """Do it now, later or in each replay."""
        stream = stream or self.stream
        if stream.captured is not None:
            stream.captured.append((name, work))
            return
        self.log.launches.append((name, self.device, stream.ptr))
        if self.late:
            self.pending.append(work)
        else:
            work()

    @property
    def deferred(self) -> bool:
        return self.late or self.stream.captured is not None


class Device:
    """One of the devices; the current one, within ``with``."""

    def __init__(self, device: Any = None) -> None:
        self.id = machine.device if device is None else int(device)
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._outer: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        self._outer.append(machine.device)
        machine.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        machine.device = self._outer.pop()

    def use(self) -> None:
        machine.device = self.id

    def synchronize(self) -> None:
        machine.wait("Device.synchronize")

    @property
    def compute_capability(self) -> str:
        return "90"

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": 132}

    @property
    def mem_info(self) -> tuple[int, int]:
        return 1 << 33, 1 << 34

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Graph:
    """What was launched while a stream was captured, to be done again."""

    def __init__(self, work: list[tuple[str, Callable[[], object]]]) -> None:
        self.work = work

    def launch(self, stream: Stream | None = None) -> None:
        for name, work in self.work:
            machine.launch(name, work, stream)

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing has to be done beforehand."""


class Stream:
    """A stream; the current one, within ``with``."""

    null: Stream
    _count = 0

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.captured: list[tuple[str, Callable[[], object]]] | None = None
        self.ptr = 0
        if not null:
            Stream._count += 1
            self.ptr = Stream._count

    def __enter__(self) -> Stream:
        machine.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        machine.streams.remove(self)

    def use(self) -> Stream:
        machine.streams[:] = [self]
        return self

    def synchronize(self) -> None:
        machine.wait("Stream.synchronize", self)

    def begin_capture(self, mode: int | None = None) -> None:
        if not self.ptr:
            raise RuntimeError("cannot capture the default stream")
        self.captured = []

    def end_capture(self) -> Graph:
        work, self.captured = self.captured, None
        if work is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is not capturing")
        return Graph(work)

    def is_capturing(self) -> bool:
        return self.captured is not None

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """All streams are one, in the order of launches."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)


class ExternalStream(Stream):
    """A stream of another library."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(null=True)
        self.ptr = ptr


Stream.null = Stream(null=True)


class Event:
    """A place in a stream, and when it was reached."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.done = True
        self.time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.done = False

        def reached() -> None:
            self.done = True
            self.time = time.perf_counter()

        machine.launch("Event.record", reached, stream)

    def synchronize(self) -> None:
        machine.wait("Event.synchronize")


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds from one event to another."""
    return 1e3 * (end.time - start.time)


class PinnedMemory(bytearray):
    """Memory of the host that a device reads by itself."""

    ptr: int


def alloc_pinned_memory(size: int) -> PinnedMemory:
    """Memory that a copy reads when it is done, not when it is asked for."""
    memory = PinnedMemory(size)
    memory.ptr = np.frombuffer(memory, np.uint8).ctypes.data
    machine.pinned[memory.ptr] = size
    return memory


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    """An array of NumPy in such memory."""
    count, dtype = int(np.prod(shape)), np.dtype(dtype)
    memory = alloc_pinned_memory(max(1, count * dtype.itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    """Zeros in such memory."""
    array = empty_pinned(shape, dtype, order)
    array[...] = 0
    return array


@contextlib.contextmanager
def allow_synchronize(allow: bool) -> Iterator[None]:
    """Whether the host may wait within the block."""
    before, machine.waiting_allowed = machine.waiting_allowed, allow
    try:
        yield
    finally:
        machine.waiting_allowed = before


def _is_pinned(pointer: int) -> bool:
    return any(start <= pointer < start + size for start, size in machine.pinned.items())


def _copy_bytes(target: int, source: int, size: int, stream: Stream | None = None) -> None:
    """A copy on a stream; out of memory that is not pinned, the driver reads at once."""
    if not _is_pinned(source) and machine.deferred:
        kept = ctypes.string_at(source, size)
        machine.launch("copy", lambda: ctypes.memmove(target, kept, size), stream)
    else:
        machine.launch("copy", lambda: ctypes.memmove(target, source, size), stream)


class _Memory:
    """``array.data``."""

    def __init__(self, host: np.ndarray, device: int) -> None:
        self.ptr: int = host.ctypes.data
        self.device_id = device
        self.device = Device(device)
        self._host = host

    def copy_from_host_async(self, pointer: Any, size: int, stream: Stream | None = None) -> None:
        _copy_bytes(self.ptr, getattr(pointer, "value", pointer), size, stream)

    def memset_async(self, value: int, size: int, stream: Stream | None = None) -> None:
        machine.launch("memset", lambda: ctypes.memset(self.ptr, value, size), stream)


class _Flags:
    """``array.flags``, which say nothing of writing."""

    def __init__(self, host: np.ndarray) -> None:
        self.c_contiguous = host.flags.c_contiguous
        self.f_contiguous = host.flags.f_contiguous
        self.forc = host.flags.forc
        self.owndata = host.flags.owndata


class ndarray:
    """An array on a device."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("__weakref__", "_device", "_host")

    def __new__(cls, shape: Any, dtype: Any = float) -> ndarray:
        return _made(np.empty(shape, dtype))

    def __del__(self) -> None:
        if machine.pending:  # memory is not used again before all is done that knows its address
            machine.alive.append(self._host)

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: _Flags(self._host))
    data = property(lambda self: _Memory(self._host, self._device))
    device = property(lambda self: Device(self._device))
    T = property(lambda self: _made(self._host.T, self._device))
    mT = property(lambda self: _made(self._host.mT, self._device))
    base = property(
        lambda self: None if self._host.base is None else _made(self._host.base, self._device)
    )

    @property
    def real(self) -> ndarray:
        return _made(self._host.real, self._device)

    @property
    def imag(self) -> ndarray:
        return _made(self._host.imag, self._device)

    # What leaves the device

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def get(
        self, stream: Stream | None = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        if blocking:
            machine.wait("get")
            host: np.ndarray = self._host.copy(order)
            if out is None:
                return host
            out[...] = host
            return out
        out = np.empty_like(self._host) if out is None else out
        machine.launch("get", lambda: np.copyto(out, self._host), stream)
        return out

    def item(self, *args: Any) -> Any:
        machine.wait("item")
        return self._host.item(*args)

    def tolist(self) -> Any:
        machine.wait("tolist")
        return self._host.tolist()

    def __bool__(self) -> bool:
        machine.wait("bool")
        return bool(self._host)

    def __float__(self) -> float:
        machine.wait("float")
        return float(self._host)

    def __int__(self) -> int:
        machine.wait("int")
        return int(self._host)

    def __complex__(self) -> complex:
        machine.wait("complex")
        return complex(self._host)

    def __index__(self) -> int:
        machine.wait("index")
        return self._host.__index__()

    def __repr__(self) -> str:
        machine.wait("repr")
        return repr(self._host)

    def __str__(self) -> str:
        machine.wait("str")
        return str(self._host)

    def __format__(self, spec: str) -> str:
        machine.wait("format")
        return format(self._host, spec)

    def __reduce__(self) -> Any:
        machine.wait("pickle")
        return _array, (self._host.copy(),)

    def __deepcopy__(self, _: Any) -> ndarray:
        with Device(self._device):
            return self.copy()

    # What arrives there

    def set(self, array: Any, stream: Stream | None = None) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if array.dtype != self.dtype or array.shape != self.shape:
            raise ValueError(f"dtype or shape mismatch: {array.dtype}, {array.shape}")
        stream = stream or machine.stream
        if stream.ptr == 0 and stream.captured is None:
            machine.wait("set without a stream")
        source = array if _is_pinned(array.ctypes.data) else array.copy()
        machine.launch("set", lambda: np.copyto(self._host, source), stream)

    # Elements

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> ndarray:
        key = _key(key)
        if any(_is_mask(part) for part in key):
            machine.wait("a boolean index")
        return _launch("getitem", lambda array, *key: array[key], (self, *key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _key(key)
        if any(_is_mask(part) for part in key) and getattr(value, "ndim", 0):
            machine.wait("a boolean index")
        target, value, *key = _hosts((self, value, *key), "setitem")

        def assign() -> None:
            with np.errstate(all="ignore"):
                target[tuple(key)] = value

        machine.launch("setitem", assign)

    def fill(self, value: Any) -> None:
        self[...] = value

    # Forms

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        if not copy and self.dtype == dtype:
            return self
        return _launch("astype", lambda a: a.astype(dtype, order=order, copy=True), (self,), {})

    def view(self, dtype: Any = None) -> ndarray:
        return _made(self._host if dtype is None else self._host.view(dtype), self._device)

    def copy(self, order: str = "C") -> ndarray:
        return _launch("copy", lambda array: array.copy(order), (self,), {})

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(cupy, ufunc.__name__, None)
        if method != "__call__" or function is None:
            return NotImplemented
        return function(*args, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = getattr(cupy, function.__name__, None)
        return NotImplemented if function is None else function(*args, **kwargs)


def _made(host: Any, device: int | None = None) -> ndarray:
    array = object.__new__(ndarray)
    array._host = np.asarray(host)
    array._device = machine.device if device is None else device
    return array


def _key(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _is_mask(part: Any) -> bool:
    return isinstance(part, ndarray) and part.dtype == bool


def _hosts(args: Any, name: str) -> list[Any]:
    """The memory of arguments, all of which have to be on the current device, or plain numbers."""

    def host(value: Any) -> Any:
        if isinstance(value, ndarray):
            if value._device != machine.device:
                raise ValueError(
                    f"{name}: the device where the array resides ({value._device}) is different "
                    f"from the current device ({machine.device})"
                )
            return value._host
        if isinstance(value, np.ndarray):
            raise TypeError(f"{name}: Unsupported type {type(value)}")
        return type(value)(map(host, value)) if type(value) in (list, tuple) else value

    return [host(value) for value in args]


def _launch(name: str, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Call a function of NumPy: now, or when the machine comes to it."""
    args = _hosts(args, name)
    kwargs = dict(zip(kwargs, _hosts(kwargs.values(), name)))
    out = kwargs.get("out")

    def call() -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    if out is not None:
        machine.launch(name, call)
        return _made(out)
    result = call()
    if not isinstance(result, np.ndarray | np.generic):
        return type(result)(map(_made, result)) if isinstance(result, tuple | list) else result
    if any(np.may_share_memory(result, arg) for arg in args if isinstance(arg, np.ndarray)):
        return _made(result)  # a view, for which nothing is launched
    result = np.asarray(result)
    if not machine.deferred:
        machine.launch(name, lambda: None)
        return _made(result)
    later = np.empty_like(result)
    later[...] = 99  # what nobody should read
    machine.launch(name, lambda: np.copyto(later, call()))
    return _made(later)


def _lifted(name: str) -> Callable[..., Any]:
    function = getattr(np, name)
    if name == "take":  # an index that is out of range wraps around
        function = functools.partial(np.take, mode="wrap")

    def lifted(*args: Any, **kwargs: Any) -> Any:
        if name == "where" and len(args) == 1:
            machine.wait("where of one argument")
        return _launch(name, function, args, kwargs)

    lifted.__name__ = name
    return lifted


def _waits(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def waits(*args: Any, **kwargs: Any) -> Any:
        machine.wait(name)
        return _launch(name, function, args, kwargs)

    waits.__name__ = name
    return waits


def _creates(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def creates(*args: Any, **kwargs: Any) -> Any:
        return _launch(name, function, args, kwargs)

    creates.__name__ = name
    return creates


def _array(
    obj: Any, dtype: Any = None, copy: bool = True, order: str = "K", ndmin: int = 0, **_: Any
) -> ndarray:
    """An array of this device, of whatever is given; memory of the host is read at once."""
    if isinstance(obj, ndarray):
        host = obj._host
        if obj._device != machine.device:  # device to device
            later = np.empty_like(host, dtype=dtype)
            machine.launch("copy", lambda: np.copyto(later, host, casting="unsafe"))
            return _made(later)
        if not copy and (dtype is None or obj.dtype == dtype):
            return obj
        return obj.astype(dtype or obj.dtype)
    if isinstance(obj, list | tuple) and any(isinstance(each, ndarray) for each in obj):
        return _launch("array", lambda *each: np.array(each, dtype), tuple(obj), {})
    host = np.array(obj, dtype, ndmin=ndmin)
    if host.dtype.kind not in "biufc" and host.dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    later = np.empty_like(host)
    machine.launch("upload", lambda: np.copyto(later, host))
    return _made(later)


def _asarray(a: Any, dtype: Any = None, order: Any = None, **kwargs: Any) -> ndarray:
    return _array(a, dtype, copy=False)


def _asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None) -> np.ndarray:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def _copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    target, source, mask = _hosts((dst, src, where), "copyto")
    machine.launch("copyto", lambda: np.copyto(target, source, casting=casting, where=mask))


def _get_array_module(*args: Any) -> Any:
    return cupy if any(isinstance(arg, ndarray) for arg in args) else np


def _methods() -> None:
    """The operators and methods of arrays, out of the functions."""

    def operator(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
        def apply(self: ndarray, other: Any) -> Any:
            if not isinstance(other, ndarray | np.generic | int | float | complex):
                if isinstance(other, np.ndarray):
                    raise TypeError(f"Unsupported type {type(other)}")
                return NotImplemented
            pair = (other, self) if reflected else (self, other)
            return getattr(cupy, name)(*pair)

        return apply

    def in_place(name: str) -> Callable[[Any, Any], Any]:
        def apply(self: ndarray, other: Any) -> Any:
            getattr(cupy, name)(self, other, out=self)
            return self

        return apply

    binary = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
        "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "matmul": "matmul",
        "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
        "lshift": "left_shift", "rshift": "right_shift",
    }  # fmt: skip
    for sign, name in binary.items():
        setattr(ndarray, f"__{sign}__", operator(name))
        setattr(ndarray, f"__r{sign}__", operator(name, reflected=True))
        setattr(ndarray, f"__i{sign}__", in_place(name))
    for sign, name in {
        "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
        "ne": "not_equal",
    }.items():  # fmt: skip
        setattr(ndarray, f"__{sign}__", operator(name))
    for sign, name in {
        "neg": "negative", "pos": "positive", "abs": "abs", "invert": "invert"
    }.items():  # fmt: skip
        setattr(ndarray, f"__{sign}__", lambda self, name=name: getattr(cupy, name)(self))
    for name in _names(METHODS):
        setattr(
            ndarray,
            name,
            lambda self, *args, name=name, **kw: getattr(cupy, name)(self, *args, **kw),
        )
    ndarray.nonzero = lambda self: cupy.nonzero(self)
    ndarray.flatten = lambda self, order="C": _launch(
        "flatten", lambda array: array.flatten(order), (self,), {}
    )
    ndarray.reshape = lambda self, *shape, **kw: _launch(
        "reshape", lambda array: array.reshape(*shape, **kw), (self,), {}
    )
    ndarray.transpose = lambda self, *axes: _made(self._host.transpose(*axes), self._device)


class RawKernel:
    """A kernel that is compiled for the host."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        self.name = name
        self.kernel = host_kernels.RawKernel(code, name, options)

    def compile(self) -> None:
        self.kernel.compile()

    def __call__(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        args = tuple(_hosts(args, self.name))
        machine.launch(self.name, lambda: self.kernel(grid, block, args))


class ElementwiseKernel:
    """The same for a kernel that is given arrays of any layout."""

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str, **options: Any
    ) -> None:
        self.name = name
        self.kernel = host_kernels.ElementwiseKernel(
            in_params, out_params, operation, name, **options
        )

    def __call__(self, *args: Any) -> None:
        args = tuple(_hosts(args, self.name))
        machine.launch(self.name, lambda: self.kernel(*args))


def _names(*lists: str) -> list[str]:
    return [name for names in lists for name in names.split()]


def _modules() -> dict[str, ModuleType]:
    """The modules that are imported instead of CuPy's."""
    cupy.__dict__.update({name: getattr(np, name) for name in _names(TYPES, PLAIN)})
    cupy.__dict__.update({name: _lifted(name) for name in _names(UFUNCS, FUNCTIONS)})
    cupy.__dict__.update({name: _waits(name) for name in _names(DATA_DEPENDENT)})
    cupy.__dict__.update({name: _creates(name) for name in _names(CREATION)})
    cupy.__dict__.update(
        ElementwiseKernel=ElementwiseKernel,
        RawKernel=RawKernel,
        ndarray=ndarray,
        array=_array,
        asarray=_asarray,
        asanyarray=_asarray,
        asnumpy=_asnumpy,
        copyto=_copyto,
        get_array_module=_get_array_module,
        is_available=lambda: True,
        __version__="14.0.0",
        __path__=[],
    )
    ndarray.__module__ = "cupy"
    runtime = _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        deviceSynchronize=lambda: machine.wait("deviceSynchronize"),
        driverGetVersion=lambda: 13000,
        getDevice=lambda: machine.device,
        getDeviceCount=lambda: DEVICES,
        getDeviceProperties=lambda _: {"name": b"stand-in", "multiProcessorCount": 132},
        is_hip=False,
        memcpyAsync=lambda target, source, size, kind, stream: _copy_bytes(target, source, size),
        memcpyDeviceToDevice=3,
        memcpyHostToDevice=1,
        runtimeGetVersion=lambda: 13000,
        setDevice=lambda device: setattr(machine, "device", device),
        streamCaptureModeGlobal=0,
        streamCaptureModeRelaxed=2,
        streamCaptureModeThreadLocal=1,
        streamSynchronize=lambda _: machine.wait("streamSynchronize"),
    )
    cuda = _module(
        "cupy.cuda",
        Device=Device,
        Event=Event,
        ExternalStream=ExternalStream,
        Graph=Graph,
        Stream=Stream,
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=lambda device_id=-1: machine.stream,
        get_elapsed_time=get_elapsed_time,
        is_available=lambda: True,
        runtime=runtime,
        __path__=[],
    )
    cuda.device = _module("cupy.cuda.device", Device=Device)
    cuda.stream = _module("cupy.cuda.stream", Stream=Stream, Event=Event)
    linalg = _module("cupy.linalg", lstsq=None, __all__=[])
    fft = _module("cupy.fft", __all__=[])
    cupyx = _module(
        "cupyx",
        DeviceSynchronized=DeviceSynchronized,
        allow_synchronize=allow_synchronize,
        empty_pinned=empty_pinned,
        zeros_pinned=zeros_pinned,
        __path__=[],
    )
    cupy.cuda, cupy.linalg, cupy.fft = cuda, linalg, fft
    found = (cupy, cuda, cuda.device, cuda.stream, runtime, linalg, fft, cupyx)
    return {module.__name__: module for module in found}


def _module(name: str, **names: Any) -> Any:
    module = ModuleType(name)
    module.__dict__.update(names)
    return module


machine = _Machine()
cupy: Any = _module("cupy")
_methods()
MODULES = _modules()


@contextlib.contextmanager
def install() -> Iterator[Any]:
    """Make ``import cupy`` find the stand-in, for array_api_compat and for the backends as well."""
    kept = {name: sys.modules.pop(name) for name in [*sys.modules] if _of_cupy(name)}
    sys.modules.update(MODULES)
    _forget()
    machine.__init__()  # type: ignore[misc]
    try:
        yield cupy
    finally:
        for name in [*sys.modules]:
            if _of_cupy(name):
                del sys.modules[name]
        sys.modules.update(kept)
        _forget()


def _of_cupy(name: str) -> bool:
    """Whether a module is CuPy's, or has been imported over it."""
    root, _, rest = name.partition(".")
    return root in ("cupy", "cupyx") or (
        root in ("array_api_compat", "arrayopt") and "cupy" in rest
    )


def _forget() -> None:
    """Let nobody go on with what was found out about the CuPy that has been there."""
    from array_api_compat.common import _helpers

    from arrayopt import backend

    for found in vars(_helpers).values():
        if callable(getattr(found, "cache_clear", None)):
            found.cache_clear()
    backend._load.cache_clear()


@contextlib.contextmanager
def waiting() -> Iterator[Log]:
    """What the devices are asked for within the block."""
    machine.log.clear()
    yield machine.log


@contextlib.contextmanager
def late() -> Iterator[None]:
    """Let everything that is launched be done as late as possible."""
    machine.late = True
    try:
        yield
    finally:
        machine.flush()
        machine.late = False
        machine.alive.clear()
