"""fused and foreach on arrays of CuPy, on a stand-in: bits, launches, tables, streams, devices."""

from __future__ import annotations

import builtins
import functools
import importlib
import re
import sys
from types import SimpleNamespace

import cupy_standin
import host_kernels
import ml_dtypes
import numpy as np
import programs
import pytest
from cupy_standin import late, waiting
from host_kernels import needs_compiler
from hypothesis import given
from programs import momentum, numbers, same_bits
from specs import CASES, case_id
from stepping import long_run

import arrayopt as optim
from arrayopt import backend
from arrayopt.backend import Batch
from arrayopt.backends.array_api import ForLoop
from arrayopt.backends.cuda_kernel import CHUNK
from arrayopt.backends.numpy_memory import SMALL
from arrayopt.info import info

DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
}
FUSED, FOREACH = "cupy_fused", "cupy_packed"
#: The option that asks for each.
SWITCHES = {FUSED: {"fused": True}, FOREACH: {"foreach": True}}

executors = pytest.mark.parametrize("name", [pytest.param(FUSED, marks=needs_compiler), FOREACH])


def on_device(array):
    """The same memory as an array of the device."""
    return cupy_standin._made(array)


def kernels(log):
    """The launches of kernels that were printed here."""
    return [launch for launch in log.launches if launch[0].startswith("arrayopt_")]


def uploads(log):
    return [name for name, *_ in log.launches if name == "upload"]


def evaluate_on_device(name, rule, make, steps=2):
    """The arrays and the states after some steps by an executor, as arrays of the host."""
    executor = backend.available()[name]
    arrays, grads, states = make()
    before = [grad.tobytes() for grad in grads]
    aliased = [any(np.may_share_memory(grad, array) for array in arrays) for grad in grads]
    columns = {key: [*map(on_device, column)] for key, column in states.items()}
    lifted = [*map(on_device, arrays)], [*map(on_device, grads)]
    batch = Batch(rule, {}, [SimpleNamespace() for _ in arrays], *lifted, columns, {})
    with waiting() as log:
        for _ in range(steps):
            executor.run(batch, executor.prepare(batch))
        assert log.waits == []
    after = [grad.tobytes() for grad in grads]
    assert all(a == b or shared for a, b, shared in zip(before, after, aliased))
    return {"param": arrays} | {
        key: [array._host for array in column] for key, column in batch.states.items()
    }


def assert_same_bits(name, rule, make, steps=2):
    """Whether an executor on the device leaves the bits of the for-loop on NumPy."""
    result = evaluate_on_device(name, rule, make, steps)
    expected = programs.evaluate(ForLoop(), rule, make, steps)
    assert list(result) == list(expected)
    for key, arrays in expected.items():
        for index, (a, b) in enumerate(zip(result[key], arrays, strict=True)):
            assert same_bits(a, b), f"{key} of parameter {index}"


# Every algorithm

SHAPES = [(5, 3), (), (0,), (300,), (SMALL + 9,)]


@long_run
@executors
@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_every_algorithm_has_the_bits_of_the_for_loop_and_waits_for_nothing(
    cupy, name, spec, options
):
    if name == FUSED:
        host_kernels.compile_every_algorithm()
    rng = np.random.default_rng(0)
    for dtype in DTYPES.values():
        new = [functools.partial(numbers, dtype=dtype, shape=shape) for shape in SHAPES]
        start = [make(seed) for seed, make in enumerate(new)]
        ours, expected = [*map(cupy.array, start)], [array.copy() for array in start]
        device = spec.cls(ours, **options, **SWITCHES[name])
        loop = spec.cls(expected, **options, foreach=False)
        assert [report.backend for report in device.implementation] == [name]
        for _ in range(7):
            grads = [make(int(rng.integers(1000))) for make in new]
            given = [*map(cupy.array, grads)]
            with waiting() as log:
                device.step(grads=given)
                device.zero_grad()
            assert log.waits == []
            assert name != FUSED or len(kernels(log)) == 1
            loop.step(grads=grads)
        for a, b in zip(ours, expected, strict=True):
            assert same_bits(a._host, b)
        for p, q in zip(device.state.values(), loop.state.values(), strict=True):
            assert list(p) == list(q)
            for a, b in zip(p.values(), q.values()):
                assert same_bits(np.asarray(getattr(a, "_host", a)), np.asarray(b))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_tensor_that_is_alone_has_a_kernel_of_its_own(cupy, dtype):
    host_kernels.compile_every_algorithm()
    start = numbers(1, dtype, (CHUNK + 7,))
    ours, expected = cupy.array(start), start.copy()
    device, loop = optim.AdamW([ours], fused=True), optim.AdamW([expected], foreach=False)
    for step in range(4):
        grad = numbers(2 + step, dtype, start.shape)
        with waiting() as log:
            device.step(grads=[cupy.array(grad)])
        assert len(kernels(log)) == 1
        assert not uploads(log)[1:]  # but for the gradient
        loop.step(grads=[grad])
        assert same_bits(ours._host, expected)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_many_gradients_of_another_precision_are_read_in_one_launch(cupy, dtype):
    start = [numbers(n, np.dtype("f"), (40 + n,)) for n in range(3)]
    ours, expected = [*map(cupy.array, start)], [array.copy() for array in start]
    device, loop = optim.SGD(ours, fused=True), optim.SGD(expected, foreach=False)
    for step in range(3):
        grads = [numbers(10 + n + step, DTYPES[dtype], a.shape) for n, a in enumerate(start)]
        given = [*map(cupy.array, grads)]
        with waiting() as log:
            device.step(grads=given)
        assert len(kernels(log)) == 1
        assert not [name for name, *_ in log.launches if name == "astype"]
        loop.step(grads=grads)
    for a, b in zip(ours, expected, strict=True):
        assert same_bits(a._host, b)


def test_small_arrays_are_packed_up_to_a_size(cupy, monkeypatch):
    monkeypatch.setattr(importlib.import_module("arrayopt.backends.cupy_packed"), "PACK", 70)
    sizes = (30, SMALL + 1, 30, 0, 30, 71, 1)  # packs of 60, 30, 71 and 1 beside the large one
    start = [numbers(n, np.dtype("f"), (size,)) for n, size in enumerate(sizes)]
    ours, expected = [*map(cupy.array, start)], [array.copy() for array in start]
    opt = optim.SGD(ours, lr=0.5, foreach=True)
    for array in expected:
        array -= np.float32(0.5) * np.ones_like(array)
    grads = [cupy.ones_like(array) for array in ours]
    with waiting() as log:
        opt.step(grads=grads)
    assert [name for name, *_ in log.launches].count("subtract") == 5
    for a, b in zip(ours, expected, strict=True):
        assert same_bits(a._host, b)


# Programs


@pytest.mark.parametrize("size", [1, 17, 1000])
@pytest.mark.parametrize("rule", programs.RULES)
@executors
@pytest.mark.usefixtures("cupy")
def test_rules_whose_outputs_are_inputs_masks_or_each_other(name, rule, size):
    assert_same_bits(name, rule, programs.two_vectors(size))


MEMBERS = [((6, 10), ("C", "C", "C")), ((), ("C", "C", "C")), ((17,), ("reversed", "C", "offset"))]


@executors
@pytest.mark.usefixtures("cupy")
def test_random_programs(name):
    exact = sorted(set(programs.EXACT) - programs.SIGNS - programs.LEFT)

    @programs.examples(12 if name == FUSED else 60)
    @given(rule=programs.rules(exact))
    def check(rule):
        assert_same_bits(
            name, rule, programs.makers(rule.states, np.dtype("f"), np.dtype("f"), MEMBERS)
        )

    check()


# Memory


@pytest.mark.parametrize("grad_layout", programs.LAYOUTS)
@pytest.mark.parametrize("layout", programs.LAYOUTS)
@executors
@pytest.mark.usefixtures("cupy")
def test_arrays_of_any_layout(name, layout, grad_layout):
    members = [
        (shape, (layout, grad_layout, layout))
        for shape in [(6, 10, 13), (2, 3, 4), (3, 1, 4), (5,), (0, 2)]
    ]
    for dtypes in [("f", "f"), ("f", "d"), ("f", "i4"), ("e", "f"), ("F", "F"), ("D", "f")]:
        assert_same_bits(name, momentum, programs.makers(("buf",), *map(np.dtype, dtypes), members))


@executors
@pytest.mark.usefixtures("cupy")
def test_state_of_another_layout(name):
    members = [((6, 10, 13), ("C", "C", "Fortran")), ((4, 5), ("Fortran", "Fortran", "Fortran"))]
    members += [((2, 3, 4), ("C", "C", "every other"))] * 2
    for dtype in map(np.dtype, "fF"):
        assert_same_bits(name, momentum, programs.makers(("buf",), dtype, dtype, members))


@pytest.mark.parametrize("size", [8, 600])
@pytest.mark.parametrize("overlap", programs.OVERLAPS)
@executors
@pytest.mark.usefixtures("cupy")
def test_overlapping_memory_is_updated_in_sequence(name, overlap, size):
    assert_same_bits(
        name, momentum, programs.overlapping(programs.OVERLAPS[overlap], size), steps=3
    )


@executors
@pytest.mark.usefixtures("cupy")
def test_state_that_is_only_read_and_shares_memory_is_read_in_sequence(name):
    assert_same_bits(name, programs.anchored, programs.overlapping_anchor)


def test_small_states_lie_side_by_side_and_are_filled_at_once(cupy):
    arrays = [cupy.zeros(3, complex), cupy.zeros((2, 2), complex), cupy.zeros(SMALL + 1, complex)]
    executor = backend.available()[FOREACH]
    with waiting() as log:
        a, b, large = executor.allocate(arrays, 2.0)
    assert [name for name, *_ in log.launches].count("full") == 1
    assert b.data.ptr == a.data.ptr + a.nbytes
    for array, like in zip((a, b, large), arrays, strict=True):
        assert array.shape == like.shape
        assert (array._host == 2 + 2j).all()
    assert executor.allocate([], 0.0) == []


# Launches


def adam(cupy, count=3, size=10, **options):
    params = [cupy.ones(size, "float32") for _ in range(count)]
    return params, optim.Adam(params, lr=0.5, **options)


@needs_compiler
def test_tables_are_sent_again_only_where_a_pointer_has_changed(cupy):
    params, opt = adam(cupy)
    grads = [cupy.ones(10, "float32") for _ in params]
    sent = []
    for step in range(6):
        if step == 3:
            grads[1] = cupy.ones(10, "float32")
        if step == 4:  # numbers, and not where they are
            opt.param_groups[0]["lr"] = 0.25
            cupy.copyto(grads[0], grads[1])
        with waiting() as log:
            opt.step(grads=grads)
        sent.append(len(uploads(log)))
        assert len(kernels(log)) == 1
        assert log.waits == []
    assert sent == [2, 0, 0, 1, 0, 0]


@needs_compiler
def test_a_changed_learning_rate_is_the_same_kernel(cupy):
    _, opt = adam(cupy)
    names = set()
    for step in range(4):
        opt.param_groups[0]["lr"] = 0.1 * 0.5**step
        with waiting() as log:
            opt.step(grads=[cupy.ones(10, "float32")] * 3)
        names |= {name for name, *_ in kernels(log)}
    assert len(names) == 1


@needs_compiler
def test_launches_go_to_the_current_stream_and_tables_are_used_where_they_were_sent(cupy):
    params, opt = adam(cupy)
    grads = [cupy.ones(10, "float32") for _ in params]
    for _ in range(2):
        opt.step(grads=grads)
    stream = cupy.cuda.Stream(non_blocking=True)
    with waiting() as log, stream:
        opt.step(grads=grads)
    assert {pointer for *_, pointer in log.launches} == {stream.ptr}
    assert len(uploads(log)) == 2
    with waiting() as log, stream:
        opt.step(grads=grads)
    assert not uploads(log)


@executors
def test_parameters_on_several_devices(cupy, name):
    params, grads = [], []
    for number in (1, 0, 1, 0, 1):
        with cupy.cuda.Device(number):
            params.append(cupy.ones(10 + number))
            grads.append(cupy.full(10 + number, 2.0))
    opt = optim.SGD(params, lr=0.5, momentum=0.5, **SWITCHES[name])
    with cupy.cuda.Device(1):
        for _ in range(2):
            with waiting() as log:
                opt.step(grads=grads)
        assert cupy.cuda.Device().id == 1
    assert name != FUSED or [device for _, device, _ in kernels(log)] == [1, 0]
    assert log.waits == []
    for param in params:
        assert (param._host == 1 - 0.5 * 2 - 0.5 * 3).all()
        assert opt.state[opt.param_groups[0]["params"][0]]["momentum_buffer"].device.id == 1
    with pytest.raises(RuntimeError, match=r"expected a gradient on .*Device 1.* Device 0"):
        opt.step(grads=[cupy.ones(11), *grads[1:]])


@executors
def test_nothing_is_read_or_used_again_too_early(cupy, name):
    """With all launches put off to the end: gradients and tables of each step are its own."""
    start = [numbers(n, np.dtype("f"), (40 + n,)) for n in range(4)]
    ours, expected = [*map(cupy.array, start)], [array.copy() for array in start]
    device, loop = optim.RMSprop(ours, **SWITCHES[name]), optim.RMSprop(expected, foreach=False)
    with late():
        for step in range(5):
            grads = [numbers(10 * step + n, np.dtype("f"), a.shape) for n, a in enumerate(start)]
            device.step(grads=[*map(cupy.array, grads)])
            loop.step(grads=grads)
    for a, b in zip(ours, expected, strict=True):
        assert same_bits(a._host, b)


@needs_compiler
def test_what_changes_between_steps_is_seen(cupy):
    params, opt = adam(cupy)
    w = [np.ones(10, np.float32) for _ in params]
    loop = optim.Adam(w, lr=0.5, foreach=False)
    for step in range(12):
        group, shadow = opt.param_groups[0]["params"], loop.param_groups[0]["params"]
        if step == 4:  # another array as data
            group[1].data = cupy.full(10, 3.0, "float32")
            shadow[1].data = np.full(10, 3.0, np.float32)
        if step == 6:  # another one as state
            opt.state[group[0]]["exp_avg"] = cupy.full(10, 0.5, "float32")
            loop.state[shadow[0]]["exp_avg"] = np.full(10, 0.5, np.float32)
        gradient = np.linspace(-1, 1, 10).astype("d" if step in (8, 9) else "f")
        present = [gradient * (n + step) if (n, step) != (2, 10) else None for n in range(3)]
        opt.step(grads=[None if g is None else cupy.array(g) for g in present])
        loop.step(grads=present)
        for param, other in zip(group, shadow):
            assert same_bits(param.data._host, other.data)
    with pytest.raises(TypeError, match="expected a gradient of cupy, but got a numpy array"):
        opt.step(grads=[np.ones(10, np.float32)] * 3)
    with pytest.raises(RuntimeError, match="shape"):
        opt.step(grads=[cupy.ones(9, "float32")] * 3)


def test_who_runs_it_is_told(cupy):
    arrays = [cupy.ones(3), cupy.ones(2, "float16"), np.ones(1)]
    opt = optim.Adam(arrays)
    assert [(r.arrays, r.implementation, r.backend) for r in opt.implementation] == [
        ("cupy float64", "fused", FUSED),
        ("cupy float16", "fused", FUSED),
        ("numpy float64", "fused", "numba_fused"),
    ]
    (report,) = optim.Adam([arrays[0]], foreach=True).implementation
    assert (report.implementation, report.backend) == ("foreach", FOREACH)
    (report,) = optim.Adam([arrays[0]], foreach=False).implementation
    assert (report.implementation, report.backend) == ("for-loop", "array_api")


class Floored(optim.Optimizer):
    """A rule that has no kernel."""

    def __init__(self, params, **options):
        super().__init__(params, {"foreach": None, "fused": None, **options})

    def rule(self, xp, param, grad, state, group):
        return param // grad, {}


def test_what_has_no_kernel_is_left_to_foreach_and_it_is_told(cupy):
    w = cupy.array([5.0, 7.0])
    opt = Floored([w])
    (report,) = opt.implementation
    assert report.backend == FOREACH
    assert "floor_divide cannot be fused" in report.reason
    opt.step(grads=[cupy.array([2.0, 2.0])])
    assert w._host.tolist() == [2.0, 3.0]
    with pytest.raises(optim.TraceError, match="floor_divide cannot be fused"):
        Floored([w], fused=True).step(grads=[w])


# Where there is no GPU


class RuntimeFails(RuntimeError):
    pass


def pretend(monkeypatch, devices, driver=13000, compiler=True):
    """A CuPy that finds so many devices; an error if None."""

    def version():
        if not compiler:
            raise RuntimeError("CuPy failed to load libnvrtc.so.13")
        return 13, 0

    def count():
        if devices is None:
            raise RuntimeFails("cudaErrorInitializationError: initialization error")
        return devices

    runtime = SimpleNamespace(
        getDeviceCount=count, CUDARuntimeError=RuntimeFails, driverGetVersion=lambda: driver
    )
    nvrtc = SimpleNamespace(getVersion=version)
    module = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, nvrtc=nvrtc))
    monkeypatch.setitem(sys.modules, "cupy", module)


def absent(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    found = builtins.__import__

    def find(name, *args, **kwargs):
        if name == "cupy":
            raise ImportError("No module named 'cupy'")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", find)


TROUBLES = {
    "CuPy": (absent, r'No module named .cupy..*pip install "arrayopt\[cuda13\]"'),
    "a driver": (lambda m: pretend(m, None, driver=0), "no NVIDIA driver is: install one"),
    "what works": (lambda m: pretend(m, None), "cannot be used: cudaErrorInitializationError"),
    "a device": (lambda m: pretend(m, 0), "there is no device"),
    "a compiler": (lambda m: pretend(m, 1, compiler=False), r"load libnvrtc.*13x\[ctk\]"),
}


@pytest.mark.parametrize("name", [FUSED, FOREACH])
@pytest.mark.parametrize(("arrange", "message"), TROUBLES.values(), ids=TROUBLES)
def test_what_is_missing_is_told(monkeypatch, name, arrange, message):
    arrange(monkeypatch)
    assert re.search(message, backend.available()[name].trouble())
    text = " ".join(info().split())
    assert "Backends that cannot be used here:" in text
    listed = text.partition("Backends that cannot be used here:")[2]
    assert f"{name} (" in listed
    assert "array_api" not in listed.partition("Optional extras")[0]


def test_with_a_device_nothing_is_missing(monkeypatch):
    pretend(monkeypatch, 1)
    assert backend.available()[FUSED].trouble() == ""
    text = info()
    assert "cupy_fused (fused)" in text.partition("Backends that cannot")[0]


def test_cupy_itself_is_imported_and_says_what_it_lacks():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    real = importlib.import_module("cupy")
    trouble = backend.available()[FUSED].trouble()
    assert bool(trouble) is not real.cuda.is_available()


def test_an_explanation_prints_the_kernel_without_cupy(monkeypatch):
    absent(monkeypatch)
    text = optim.explain(optim.SGD, momentum=0.9).cuda
    for line in (
        'extern "C" __global__ void __launch_bounds__(512) kernel(',
        "const float momentum_buffer = momentum_buffer_at;",
        "momentum_buffer_at = new_momentum_buffer;",
    ):
        assert line in text
    double = optim.explain(optim.SGD([np.ones(2)])).cuda
    assert "const double param = param_at;" in double
