"""The benchmark on a GPU: who takes part there, and how it is timed.

Time is what the device takes from one event to another, with the steps of a turn between them. So a
host that launches too slowly is seen, and the last wait is not. Several sets of parameters and
gradients take turns, lest small ones be in the caches of the device already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from arrayopt import backend
from arrayopt.bench.averaging import torch_average
from arrayopt.bench.comparison import Place
from arrayopt.bench.contenders import Contender, Ours, Side, Torch
from arrayopt.bench.measure import YARDSTICK, Step
from arrayopt.bench.workloads import Problem, Shapes, problem
from arrayopt.sparse_grad import SparseGrad

__all__ = ["CONTENDERS", "device_name", "home", "numbers", "place", "trouble"]

#: How many sets of parameters and gradients take turns.
SETS = 3


def trouble() -> str:
    """Why there can be no benchmark on a GPU here; empty if there can."""
    return backend.available()["cupy_fused"].trouble()


def device_name() -> str:
    """What the current device is called, and who drives it."""
    import cupy

    name: bytes = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return f"{name.decode()} (CuPy {cupy.__version__})"


class OursOnCuda(Ours):
    """arrayopt on CuPy arrays."""

    library = "cupy"

    def sample(self) -> Any:
        import cupy

        return cupy.zeros(1, "float32")

    def offers(self, algorithm: str, sparse: bool) -> bool:
        # (LBFGS is timed with a function that NumPy computes)
        return algorithm != "LBFGS" and super().offers(algorithm, sparse)

    def make(self, algorithm: str, problem: Problem) -> Side:
        side = super().make(algorithm, problem)
        there: Callable[[], Sequence[Any]] = side.arrays
        return Side(side.step, lambda: [array.get() for array in there()], side.moved)


class TorchOnCuda(Torch):
    """torch.optim on tensors of the same GPU."""

    def offers(self, algorithm: str, sparse: bool) -> bool:
        return algorithm != "LBFGS" and bool(home()) and super().offers(algorithm, sparse)

    def make(self, algorithm: str, problem: Problem) -> Side:
        import torch

        def tensor(array: Any) -> Any:
            return torch.tensor(array.get(), device=home())

        grads: list[Any] = [
            torch.sparse_coo_tensor(
                tensor(grad.indices), tensor(grad.values), grad.shape, check_invariants=True
            )
            if isinstance(grad, SparseGrad)
            else tensor(grad)
            for grad in problem.grads
        ]
        starts = [tensor(start) for start in problem.starts]
        if algorithm == "EMA":
            return Side(*torch_average(starts, grads, multi=self.options["foreach"]))
        for start, grad in zip(starts, grads):
            start.requires_grad_().grad = grad
        optimizer = self.cls(algorithm)(starts, **self.options)
        return Side(optimizer.step, lambda: [start.detach().cpu().numpy() for start in starts])


def home() -> str:
    """The device of torch's tensors; empty if torch has no CUDA."""
    try:
        import torch
    except ImportError:
        return ""
    return "cuda" if torch.cuda.is_available() else ""


CONTENDERS: dict[str, Contender] = {
    "arrayopt": OursOnCuda("arrayopt"),
    "torch": TorchOnCuda("torch\ndefault"),
    "torch-for-loop": TorchOnCuda("torch\nfor-loop", foreach=False),
    "torch-foreach": TorchOnCuda("torch\nforeach", foreach=True),
    "torch-fused": TorchOnCuda("torch\nfused", fused=True),
    "for-loop": OursOnCuda("arrayopt\nfor-loop", foreach=False),
    "foreach": OursOnCuda("arrayopt\nforeach", foreach=True),
    "fused": OursOnCuda("arrayopt\nfused", fused=True),
}


def timed(step: Step, steps: int) -> float:
    """The seconds that the device takes for so many steps."""
    from cupy.cuda import Event, get_elapsed_time

    start, end = Event(), Event()
    start.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return float(get_elapsed_time(start, end)) / 1e3


def copy(_: int) -> Step:
    """A step that copies an array of `YARDSTICK` bytes on the device."""
    import cupy

    source = cupy.ones(YARDSTICK // 4, "float32")
    target = cupy.empty_like(source)
    return lambda: cupy.copyto(target, source)


def rewrite(_: int) -> Step:
    """A step that negates an array of `YARDSTICK` bytes in place."""
    import cupy

    array = cupy.ones(YARDSTICK // 4, "float32")
    return lambda: cupy.negative(array, out=array)


def free_memory() -> int:
    """The bytes of the device that can be allocated: those that CuPy keeps are given back."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    return int(cupy.cuda.Device().mem_info[0])


def numbers(shapes: Shapes, rows: int | None = None) -> Problem:
    """Numbers for parameters of these shapes, in several sets, on the device."""
    first, *others = (_moved(problem(shapes, rows=rows, seed=seed)) for seed in range(SETS))
    first.others.extend(others)
    return first


def _moved(problem: Problem) -> Problem:
    import cupy

    def moved(grad: Any) -> Any:
        if isinstance(grad, SparseGrad):
            return SparseGrad(grad.indices, cupy.asarray(grad.values), grad.shape)
        return cupy.asarray(grad)

    return Problem([*map(cupy.asarray, problem.starts)], [*map(moved, problem.grads)])


def place() -> Place:
    """The current device, as a place to measure on."""
    return Place(
        device=device_name(),
        arrays={"arrayopt": "CuPy"},
        contenders=CONTENDERS,
        yardsticks={"copy": copy, "in place": rewrite},
        timed=timed,
        memory=free_memory,
        numbers=numbers,
    )
