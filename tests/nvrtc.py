"""NVRTC, the compiler of CUDA that runs where no GPU is."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

from arrayopt.backends import cuda_kernel

__all__ = ["compile_for", "headers", "missing"]


@functools.cache
def _library() -> Any:
    """The library of the wheel ``nvidia-cuda-nvrtc``; None where there is none."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = {file.name.partition(".so")[0]: str(file.locate()) for file in files}
    if "libnvrtc" not in found:
        return None
    ctypes.CDLL(found["libnvrtc-builtins"])  # which the other looks for by name: 13.0 not beside it
    return ctypes.CDLL(found["libnvrtc"])


def missing() -> str:
    """Why nothing can be compiled here; empty if it can."""
    return "" if _library() else "there is no NVRTC: pip install nvidia-cuda-nvrtc"


@functools.cache
def headers() -> tuple[str, ...]:
    """The options by which CuPy finds its own headers and those of CUDA; none without them."""
    try:
        from cupy._core.core import assemble_cupy_compiler_options
    except ImportError:
        return ()
    options = assemble_cupy_compiler_options(())
    found = [str(file.locate()) for file in _files("nvidia-cuda-runtime", "cuda_fp16.h")]
    return (*options, *(f"-I{path.rpartition('/')[0]}" for path in found))


def _files(package: str, name: str) -> list[Any]:
    try:
        return [f for f in importlib.metadata.files(package) or [] if f.name == name]
    except importlib.metadata.PackageNotFoundError:
        return []


def compile_for(architecture: str, source: str, options: Sequence[str] = ()) -> str:
    """Compile for an architecture, such as ``sm_90``, and return what the compiler has to say.

    The GIL is released meanwhile.
    """
    library = _library()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={architecture}", *cuda_kernel.OPTIONS, *options]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), array)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert failed or size.value > 0
    return log.value.decode() or ("error" if failed else "")
