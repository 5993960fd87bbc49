"""Plain data as JSON, exactly, with the arrays in it apart.

Whatever JSON has no equal for is an object with the key ``"$"``, which tells what it is. Of these
there is a closed list, and nothing in it names code: what is read can only become numbers, strings,
containers of them, and arrays.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from arrayopt.checkpoint.host import Source, host_dtype, memory_of, problem
from arrayopt.namespace import Array, dtype_name, is_array, library

__all__ = ["Encoder", "decode"]

Json = Any
Path = tuple[Any, ...]

#: How deep containers may be nested.
DEPTH = 100

_MAPPINGS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_PLAIN = frozenset({bool, str, type(None)})
_EXPECTED = "expected numbers, strings, arrays, or lists, tuples and dicts of them"


class Encoder:
    """Makes JSON of plain data, and collects the arrays.

    Attributes
    ----------
    arrays : dict of str to array
        Each under a name that is made of its place. The same memory is there once.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._names: dict[Any, str] = {}

    def __call__(self, value: Any, path: Path) -> Json:
        """The JSON of a value.

        Parameters
        ----------
        value : object
            None, booleans, numbers of Python and NumPy, strings, arrays; lists, tuples, dicts,
            OrderedDicts and Counters of them.
        path : tuple
            Its place, for messages and names: a word, and then indices and keys.

        Raises
        ------
        TypeError
            If it is, or holds, something else.
        ValueError
            If containers are nested too deep, as one that holds itself is.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            # (Python refuses to read longer ones from digits)
            return value if abs(value) < 1 << 10000 else {"$": "int", "hex": hex(value)}
        if kind is float:
            finite = value - value == 0
            return value if finite else {"$": "float", "hex": struct.pack("<d", value).hex()}
        if kind is complex:
            return {"$": "complex", "hex": struct.pack("<dd", value.real, value.imag).hex()}
        if isinstance(value, np.generic):
            array = np.asarray(value)
            _check(array, path)
            return {
                "$": "scalar",
                "dtype": dtype_name(array),
                "hex": Source(array)(0, 1).tobytes().hex(),
            }
        if is_array(value):
            return self._array(value, path)
        if len(path) > DEPTH:
            raise ValueError(
                f"{_place(path[:3])}…: expected at most {DEPTH} containers within each other, but "
                "got more; does one hold itself?"
            )
        if kind is list:
            return self._items(value, path)
        if kind is tuple:
            return {"$": "tuple", "items": self._items(value, path)}
        if kind is dict and all(type(key) is str for key in value) and "$" not in value:
            return {key: self(entry, (*path, key)) for key, entry in value.items()}
        if kind in _MAPPINGS.values():
            pairs = [
                [self(key, (*path, "a key")), self(entry, (*path, key))]
                for key, entry in value.items()
            ]
            return {"$": kind.__name__, "pairs": pairs}
        raise TypeError(f"{_place(path)}: {_EXPECTED}, but got {kind.__name__}")

    def _items(self, values: Iterable[Any], path: Path) -> list[Json]:
        return [self(entry, (*path, index)) for index, entry in enumerate(values)]

    def _array(self, array: Array, path: Path) -> Json:
        _check(array, path)
        memory = memory_of(array)
        name = self._names.get(memory)
        if name is None:
            name = self._names[memory] = self._new_name(path)
            self.arrays[name] = array
        return {"$": "array", "name": name, "dtype": dtype_name(array), "library": library(array)}

    def _new_name(self, path: Path) -> str:
        """The name of a place, numbered where another array has it already: keys may hold dots."""
        # (half of a surrogate pair has no UTF-8)
        plain = ".".join(map(str, path)).encode(errors="backslashreplace").decode()
        name, number = plain, 1
        while name in self.arrays:
            number += 1
            name = f"{plain}#{number}"
        return name


def _place(path: Path) -> str:
    return str(path[0]) + "".join(f"[{key!r}]" for key in path[1:])


def _check(array: Array, path: Path) -> None:
    if why := problem(array):
        raise TypeError(f"{_place(path)}: {why}")


def decode(value: Json, fetch: Callable[[str, str, str], Any]) -> Any:
    """The data that an `Encoder` made JSON of.

    Parameters
    ----------
    value : object
        As `json.loads` returns it.
    fetch : callable
        ``fetch(name, dtype, library)`` is an array.
    """
    if isinstance(value, list):
        return [decode(entry, fetch) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$" not in value:
        return {key: decode(entry, fetch) for key, entry in value.items()}
    kind = value["$"]
    if kind == "array":
        return fetch(value["name"], value["dtype"], value["library"])
    if kind == "tuple":
        return tuple(decode(entry, fetch) for entry in value["items"])
    if kind in _MAPPINGS:
        pairs = [(decode(key, fetch), decode(entry, fetch)) for key, entry in value["pairs"]]
        return _MAPPINGS[kind](dict(pairs))
    if kind == "int":
        return int(value["hex"], 16)
    bits = bytes.fromhex(value["hex"])
    if kind == "scalar":
        return np.frombuffer(bits, host_dtype(value["dtype"]))[0]
    numbers = struct.unpack(f"<{len(bits) // 8}d", bits)
    return complex(*numbers) if kind == "complex" else numbers[0]
