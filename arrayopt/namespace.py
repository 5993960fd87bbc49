"""Which array library an array belongs to, and what the optimizers need to know about it.

Everything here asks :mod:`array_api_compat` or the array itself, so that any library of the
array API standard is served. The few lines that name a library serve what the standard leaves
out: bfloat16 on NumPy, and the pairs of reals behind a complex array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat as compat
import numpy as np

__all__ = [
    "Array",
    "DType",
    "array_namespace",
    "as_complex",
    "as_real",
    "beside",
    "castable",
    "compute_dtype",
    "conditional",
    "convert",
    "detach",
    "device",
    "dtype_name",
    "duplicate",
    "empty_like",
    "fetch",
    "fill",
    "filled_like",
    "has_place",
    "is_array",
    "is_capturing",
    "is_complex",
    "is_floating",
    "is_masked",
    "is_sparse",
    "is_writeable",
    "library",
    "overlaps_itself",
    "reading_waits",
]

Array: TypeAlias = Any
DType: TypeAlias = Any


def is_array(obj: object) -> bool:
    """Whether `obj` is an array of some array library (NumPy's scalars are not)."""
    return isinstance(obj, np.ndarray) or (
        not isinstance(obj, np.generic) and compat.is_array_api_obj(obj)
    )


def array_namespace(array: Array) -> ModuleType:
    """The array-API namespace of `array`."""
    namespace: ModuleType = compat.array_namespace(array)
    return namespace


def library(array: Array) -> str:
    """The name of the library of `array`, as its users import it: ``"numpy"``, ``"torch"``, …."""
    if _is_numpy(array):
        return "numpy"
    # the namespace knows better than the type: a subclass of an array is the user's own
    return array_namespace(array).__name__.removeprefix("array_api_compat.").partition(".")[0]


def device(array: Array) -> Any:
    """The device that holds `array`, as its library names it; None while jax traces a function."""
    return compat.device(array)


def dtype_name(array: Array) -> str:
    """The name of the dtype of `array` in every library, ``"float32"``, without a byte order."""
    dtype = array.dtype
    return str(dtype.name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2])


def beside(array: Array) -> contextlib.AbstractContextManager[Any]:
    """A context in which the device of `array` is the current one, where a library has one.

    CuPy makes arrays on the current device, and runs its functions there.
    """
    if has_place(array):
        context: contextlib.AbstractContextManager[Any] = array.device
        return context
    return _NOWHERE


_NOWHERE = contextlib.nullcontext()


def has_place(array: Array) -> bool:
    """Whether the library of `array` has a current device, so that `beside` does something."""
    return not _is_numpy(array) and bool(compat.is_cupy_array(array))


def reading_waits(array: Array) -> bool:
    """Whether the host has to wait for a device when it reads an element of `array`."""
    if _is_numpy(array):
        return False
    if compat.is_torch_array(array):
        return array.device.type not in ("cpu", "meta")
    return bool(compat.is_cupy_array(array))


def is_capturing(array: Array) -> bool:
    """Whether what is launched on the device of `array` is recorded in a graph, and not done."""
    if not has_place(array):
        return False
    from cupy.cuda import get_current_stream

    with beside(array):
        return bool(get_current_stream().is_capturing())


def fetch(number: Array) -> Callable[[], float]:
    """Begin to bring a number to the host; what is returned waits for that, and for no more."""
    if not compat.is_cupy_array(number):
        kept = array_namespace(number).reshape(duplicate(number), ())
        return lambda: float(kept)
    from cupy.cuda import get_current_stream
    from cupyx import empty_pinned

    with beside(number):
        stream = get_current_stream()
        host = empty_pinned(number.shape, number.dtype)
        number.get(stream=stream, out=host, blocking=False)
        event = stream.record()

    def wait() -> float:
        if not event.done:
            event.synchronize()
        return float(host.item())

    return wait


def is_writeable(array: Array) -> bool:
    """Whether elements of `array` can be assigned."""
    return bool(compat.is_writeable_array(array))


def is_sparse(obj: object) -> bool:
    """Whether `obj` is a sparse array, of torch, SciPy, CuPy or PyData, or a `SparseGrad`."""
    if _is_numpy(obj):
        return False
    if compat.is_torch_array(obj):
        return "sparse" in str(getattr(obj, "layout", ""))  # is_sparse means COO alone
    homes = (cls.__module__ for cls in type(obj).__mro__)
    return any(".sparse" in f".{home}" for home in homes) and hasattr(obj, "nnz")


def is_masked(obj: object) -> bool:
    """Whether `obj` is an array of NumPy some of whose elements may not count."""
    return isinstance(obj, np.ma.MaskedArray)


def is_floating(array: Array) -> bool:
    """Whether the elements of `array` are real or complex floating-point numbers."""
    if _has_numpy_dtype(array):
        return array.dtype.kind in "fc" or array.dtype.name == "bfloat16"
    xp = array_namespace(array)
    return bool(xp.isdtype(array.dtype, ("real floating", "complex floating")))


def is_complex(array: Array) -> bool:
    """Whether the elements of `array` are complex numbers."""
    if _has_numpy_dtype(array):
        return bool(array.dtype.kind == "c")
    return bool(array_namespace(array).isdtype(array.dtype, "complex floating"))


def compute_dtype(array: Array) -> DType:
    """The real dtype in which an update of `array` is computed.

    That of its real and imaginary parts, and float32 for the half-precision types.
    """
    if _has_numpy_dtype(array):
        dtype = array.real.dtype
        return dtype if dtype.itemsize > 2 else np.dtype(np.float32)
    xp = array_namespace(array)
    if is_complex(array):
        return xp.float64 if array.dtype == xp.complex128 else xp.float32
    return xp.float32 if xp.finfo(array.dtype).bits == 16 else array.dtype


def as_real(array: Array) -> Array:
    """A complex array of shape ``s`` as real pairs of shape ``(*s, 2)``; a real one as it is."""
    if not is_complex(array):
        return array
    if compat.is_torch_array(array):
        return array_namespace(array).view_as_real(array.resolve_conj())
    xp = array_namespace(array)
    return xp.stack([xp.real(array), xp.imag(array)], axis=-1)


def as_complex(pairs: Array, dtype: DType) -> Array:
    """The inverse of `as_real`: pairs of shape ``(*s, 2)`` as a complex array of shape ``s``."""
    xp = array_namespace(pairs)
    if compat.is_torch_array(pairs):
        return xp.view_as_complex(pairs if pairs.stride()[-1] == 1 else pairs.contiguous())
    if compat.is_numpy_array(pairs) or compat.is_cupy_array(pairs):
        native = np.dtype(dtype).newbyteorder("=")
        return xp.ascontiguousarray(pairs).view(native)[..., 0].astype(dtype, copy=False)
    real, imag = (xp.astype(pairs[..., part], dtype) for part in (0, 1))
    return real + imag * 1j


def castable(value: Array, like: Array) -> bool:
    """Whether `value` can be cast to the dtype of `like` without losing its kind.

    A float64 can become a float32, a complex number cannot become a real one.
    """
    if _is_numpy(value) and _is_numpy(like):
        return np.can_cast(value.dtype, like.dtype, "same_kind")
    return _kind(value) <= _kind(like)


def _kind(array: Array) -> int:
    """0 for booleans, 1 for integers, 2 for real, 3 for complex numbers; 4 for anything else."""
    if isinstance(array.dtype, np.dtype):
        if array.dtype.name == "bfloat16":
            return 2
        return {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}.get(array.dtype.kind, 4)
    xp = array_namespace(array)
    kinds = ("bool", "integral", "real floating", "complex floating")
    return next((rank for rank, kind in enumerate(kinds) if xp.isdtype(array.dtype, kind)), 4)


def overlaps_itself(array: Array) -> bool:
    """Whether elements of `array` share memory, as those of an expanded torch tensor do."""
    if compat.is_torch_array(array):
        strides = array.stride()
    elif _is_numpy(array):
        strides = array.strides
    else:
        return False
    repeated = any(step == 0 and length > 1 for step, length in zip(strides, array.shape))
    return repeated and 0 not in array.shape


def detach(array: Array) -> Array:
    """`array` outside any graph that its library may record (the same memory)."""
    return array.detach() if compat.is_torch_array(array) else array


def duplicate(array: Array) -> Array:
    """A copy of `array` with memory of its own, outside any graph."""
    with beside(array):
        return array_namespace(array).astype(detach(array), array.dtype, copy=True)


def empty_like(array: Array, shape: tuple[int, ...]) -> Array:
    """A new array of this shape, like `array` in all else."""
    with beside(array):
        return array_namespace(array).empty(shape, dtype=array.dtype, device=compat.device(array))


def filled_like(array: Array, fill: Any) -> Array:
    """A new array like `array`, filled with a number (both parts, if it is complex).

    The number may be a 0-d array of the same library, which an autodiff library sees.
    """
    xp = array_namespace(array)
    with beside(array):
        if is_array(fill):
            value = fill * (1 + 1j) if is_complex(array) else fill
            return xp.astype(xp.zeros_like(array) + value, array.dtype, copy=False)
        return xp.full_like(array, complex(fill, fill) if is_complex(array) else fill)


def conditional(
    condition: Array, one: Callable[[], dict[str, Any]], other: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `one` returns where `condition` holds, and what `other` returns where it does not.

    Parameters
    ----------
    condition : 0-d array of booleans
        It need not be known yet.
    one, other : callable
        Pure functions that return arrays or numbers under the same names. In jax, only one of them
        is carried out, and differentiated; elsewhere, and in ``jax.vmap`` over the condition, both
        are, and then one is selected.
    """
    if compat.is_jax_array(condition):
        from jax.lax import cond

        chosen: dict[str, Any] = cond(condition, one, other)
        return chosen
    xp, results = array_namespace(condition), one()
    return {name: xp.where(condition, results[name], value) for name, value in other().items()}


def convert(value: Any, like: Array) -> Array:
    """`value`, an array of any library, as an array of the library, dtype and device of `like`."""
    xp = array_namespace(like)
    if hasattr(value, "detach"):
        value = value.detach()
    if not is_array(value) or library(value) != library(like):
        value = xp.asarray(_plain(value))
    with beside(value):
        value = xp.astype(value, like.dtype)
    return compat.to_device(value, device(like))


def fill(array: Array, value: Array) -> None:
    """Write `value`, an array of any library, or one that is still in a file, into `array`."""
    if hasattr(value, "read_into"):
        value.read_into(array)
    else:
        with beside(array):
            detach(array)[...] = convert(value, array)


def _plain(value: Any) -> Any:
    """`value` as a NumPy array that any library takes: in C order, writeable, no bfloat16."""
    if compat.is_torch_array(value):
        value = value.cpu().resolve_conj().resolve_neg()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    elif compat.is_cupy_array(value):  # which does not become NumPy's unless it is told to
        value = value.get()
    value = np.asarray(value)
    dtype = np.float32 if value.dtype.name == "bfloat16" else value.dtype.newbyteorder("=")
    return np.array(value, dtype, order="C")


def _has_numpy_dtype(array: Array) -> bool:
    """Whether the dtype is NumPy's, which may be bfloat16, unknown to the standard."""
    return _is_numpy(array) or bool(compat.is_cupy_array(array))


def _is_numpy(array: Array) -> bool:
    return isinstance(array, np.ndarray)
