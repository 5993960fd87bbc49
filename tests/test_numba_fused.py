"""Compiled programs against the for-loop, which runs the same rule directly, bit for bit."""

import functools
import logging
import os
import re
import threading
from types import SimpleNamespace

import numpy as np
import programs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import python
from programs import assert_same_bits, momentum, numbers, same_bits
from specs import CASES, case_id
from stepping import long_run

import arrayopt as optim
from arrayopt import get_num_threads, set_num_threads
from arrayopt.backend import Batch
from arrayopt.backends import numba_fused, numba_kernel
from arrayopt.backends.array_api import ForLoop
from arrayopt.backends.numba_fused import NumbaFused
from arrayopt.trace import FUNCTIONS, TraceError, trace

REAL = [np.dtype(kind) for kind in "fd"]
COMPLEX = [np.dtype(kind) for kind in "FD"]

#: The layouts that have no gaps.
DENSE = ["C", "Fortran", "rotated", "odd strides", "memory map", "offset"]


@pytest.fixture(autouse=True, scope="module")
def _small_chunks():
    """Chunks of 128 numbers, so that small examples have many of them."""
    num_threads = get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_fused, "CHUNK", 128)
        patch.setattr(numba_fused, "COPIED", 16)
        yield
    set_num_threads(num_threads)


# Random programs

dense = st.sampled_from(DENSE)
anything = st.sampled_from(sorted(programs.LAYOUTS))
#: Those of the parameter, which has no gaps, of the gradient and of the state.
layouts = st.tuples(dense, anything, anything) | st.tuples(dense, anything).map(
    lambda t: (*t, t[0])
)


@long_run
@programs.examples(60)
@given(
    rule=programs.rules(sorted(set(programs.EXACT) - programs.SIGNS - programs.LEFT)),
    dtypes=st.tuples(st.sampled_from(REAL), st.sampled_from([*REAL, np.dtype("i4")]))
    | st.tuples(st.sampled_from(COMPLEX), st.sampled_from(REAL + COMPLEX)),
    members=st.lists(st.tuples(st.sampled_from(programs.SHAPES), layouts), min_size=1, max_size=3),
    num_threads=st.integers(1, 3),
)
def test_random_programs_on_any_layout(rule, dtypes, members, num_threads):
    assert_same_bits(
        NumbaFused(), rule, programs.makers(rule.states, *dtypes, members), num_threads
    )


@pytest.mark.parametrize("size", [1, 10, 17, 128, 1000])
@pytest.mark.parametrize("rule", programs.RULES)
def test_rules_whose_outputs_are_inputs_masks_or_each_other(rule, size):
    assert_same_bits(NumbaFused(), rule, programs.two_vectors(size))


@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("function", sorted(set(FUNCTIONS) - programs.LEFT))
def test_every_function_is_numpys(function, dtype):
    x, y = programs.pairs(dtype)

    def make():
        return [x.copy()], [y.copy()], {}

    (expected,) = programs.evaluate(ForLoop(), programs.calls(function), make, steps=1)["param"]
    (result,) = programs.evaluate(NumbaFused(), programs.calls(function), make, steps=1)["param"]
    programs.assert_is_numpys(function, result, expected)


# Where the memory is


@pytest.mark.parametrize("grad_layout", programs.LAYOUTS)
@pytest.mark.parametrize("layout", DENSE)
def test_gradients_of_another_layout(layout, grad_layout):
    members = [(shape, (layout, grad_layout)) for shape in [(6, 10, 13), (2, 3, 4), (3, 1, 4)]]
    for dtypes in [("f", "f"), ("f", "d"), ("F", "F"), ("D", "f")]:
        assert_same_bits(
            NumbaFused(), momentum, programs.makers((), *map(np.dtype, dtypes), members)
        )


#: Those of arrays without gaps.
SHARED = [
    name for name in programs.OVERLAPS if name != "tied and reversed" and "interleaved" not in name
]


@pytest.mark.parametrize("size", [7, 300])
def test_arrays_that_are_not_aligned(size):
    def shifted(seed, dtype):
        values = numbers(seed, dtype, (size,))
        memory = np.zeros(values.nbytes + 1, np.uint8)
        array = memory[1:].view(dtype)
        array[...] = values
        assert not array.flags.aligned
        return array

    for dtype in (*REAL, *COMPLEX):

        def make(dtype=dtype):
            return [shifted(1, dtype)], [shifted(2, dtype)], {"buf": [shifted(3, dtype)]}

        assert_same_bits(NumbaFused(), momentum, make)


#: What becomes of the gradients before each step: which of the arrays are others than before, and
#: how they lie; in between, the same arrays hold other numbers.
COMINGS = {
    "the same": [()] * 8,
    "the last is another": [(), (), (), (2,), (), (), ()],
    "the first is another, again and again": [(), (), (), (0,), (), (0,), (), (0,), (), (0,), ()],
    "all others": [(0, 1, 2, 3)] * 5,
    "others, and then the same": [(0, 1, 2), (0, 1, 2), (), (), (), (0,), (), ()],
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("other", ["C", "reversed", "precision"])
@pytest.mark.parametrize("coming", COMINGS)
def test_gradients_that_come_again_are_read_where_they_are(coming, other, dtype):
    rng = np.random.default_rng(0)
    sizes = (3, 0, 14, 40)

    def fresh(size):
        if other == "reversed":
            return np.empty(size, dtype)[::-1]
        if other == "precision" and dtype == "f4":
            return np.empty(size, "f8")
        return np.empty(size, dtype)

    grads = [np.empty(size, dtype) for size in sizes]
    params, expected = ([np.ones(size, dtype) for size in sizes] for _ in range(2))
    fused = optim.SGD(params, lr=0.5, momentum=0.5, fused=True)
    loop = optim.SGD(expected, lr=0.5, momentum=0.5, foreach=False)
    kept = []
    for others in COMINGS[coming]:
        for index in others:
            grads[index] = fresh(sizes[index])
        for grad in grads:
            grad[...] = rng.normal(size=grad.shape)
        for opt in (fused, loop):
            opt.step(grads=grads)
        assert all(map(same_bits, params, expected))
        (plan,) = (plan for work in fused._last[0].works for plan in work.batch.memo.values())
        kept.append(bool(plan.kept))
        assert not plan.kept or all(a() is b for a, b in zip(plan.kept, grads[:3]))
    if coming == "the same":
        assert all(kept[3:])
    if coming == "all others":
        assert not any(kept)


@pytest.mark.parametrize("foreign", [False, True], ids=["own memory", "memory of a buffer"])
@pytest.mark.parametrize("size", [8, 40, 600])
@pytest.mark.parametrize("overlap", SHARED)
def test_overlapping_memory_is_updated_in_sequence(overlap, size, foreign):
    assert_same_bits(
        NumbaFused(), momentum, programs.overlapping(programs.OVERLAPS[overlap], size, foreign)
    )


def tensors(make):
    """`make` with the memory of its arrays seen by torch."""

    def make_tensors():
        arrays, grads, states = make()
        columns = {name: [*map(torch.from_numpy, column)] for name, column in states.items()}
        return [*map(torch.from_numpy, arrays)], [*map(torch.from_numpy, grads)], columns

    return make_tensors


#: Those that torch can have: no steps backwards.
OF_TENSORS = [name for name in SHARED if not {"reversed", "view", "repeated"} & set(name.split())]


@pytest.mark.parametrize("size", [8, 600])
@pytest.mark.parametrize("overlap", OF_TENSORS)
def test_overlapping_tensors_are_updated_in_sequence(overlap, size):
    make = programs.overlapping(programs.OVERLAPS[overlap], size)

    def run(executor, make):
        arrays, grads, states = make()
        batch = Batch(momentum, {}, [SimpleNamespace() for _ in arrays], arrays, grads, states, {})
        for _ in range(3):
            executor.run(batch, executor.prepare(batch))
        return [np.asarray(array) for array in batch.arrays]

    for ours, expected in zip(run(NumbaFused(), tensors(make)), run(ForLoop(), make)):
        assert same_bits(ours, expected)


TENSORS = {
    "contiguous": lambda: torch.linspace(-1, 1, 600).reshape(20, 30),
    "transposed": lambda: torch.linspace(-1, 1, 600).reshape(30, 20).T,
    "channels last": lambda: (
        torch.linspace(-1, 1, 2 * 3 * 4 * 5)
        .reshape(2, 3, 4, 5)
        .to(memory_format=torch.channels_last)
    ),
    "a number": lambda: torch.tensor(0.5),
    "empty": lambda: torch.empty(0, 3),
    "complex": lambda: torch.linspace(-1, 1, 7, dtype=torch.complex64),
    "double": lambda: torch.linspace(-1, 1, 7, dtype=torch.float64),
}
GRADS = {
    "alike": lambda grad: grad,
    "transposed": lambda grad: grad.mT.contiguous().mT if grad.ndim > 1 else grad,
    "with gaps": lambda grad: torch.stack([grad, grad], -1)[..., 0],
    "expanded": lambda grad: torch.ones((), dtype=grad.dtype).expand(grad.shape),
    "single precision": lambda grad: grad if grad.is_complex() else grad.float(),
    "to be conjugated": lambda grad: grad.conj(),
    "to be negated": lambda grad: (
        torch.complex(grad, grad).conj().imag if not grad.is_complex() else grad
    ),
    "in a graph": lambda grad: (grad * 1).requires_grad_() * 1,
}


@pytest.mark.parametrize("how", GRADS)
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_and_gradients_of_every_layout(kind, how):
    params = [TENSORS[kind]() for _ in range(2)]
    arrays = [param.numpy().copy() for param in params]
    ours, expected = optim.Adam(params), optim.Adam(arrays, foreach=False)
    assert [report.backend for report in ours.implementation] == ["numba_fused"]
    for step in range(3):
        for param in params:
            param.requires_grad_(False)
        grad = GRADS[how](torch.full_like(params[0], 0.1 + step))
        ours.step(grads=[grad, grad])
        expected.step(grads=[grad.detach().resolve_conj().resolve_neg().numpy()] * 2)
    for param, array in zip(params, arrays):
        assert not param.requires_grad
        np.testing.assert_array_max_ulp(param.numpy().real, array.real, maxulp=4)
        np.testing.assert_array_max_ulp(param.numpy().imag, array.imag, maxulp=4)
        for a, b in zip(ours.state.values(), expected.state.values()):
            np.testing.assert_allclose(a["exp_avg"], b["exp_avg"], rtol=1e-6)


# Every algorithm


@long_run
@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_every_algorithm_is_the_for_loop_to_the_bit(spec, options):
    rng = np.random.default_rng(0)
    shapes = [(5, 3), (), (0,), (300,), (20, 30)]
    for dtype in (*REAL, *COMPLEX):
        new = [functools.partial(numbers, dtype=dtype, shape=shape) for shape in shapes]
        start = [make(seed) for seed, make in enumerate(new)]
        ours, expected = ([array.copy() for array in start] for _ in range(2))
        fused = spec.cls(ours, **options, fused=True)
        loop = spec.cls(expected, **options, foreach=False)
        assert {report.implementation for report in fused.implementation} == {"fused"}
        for _ in range(7):
            grads = [make(int(rng.integers(1000))) for make in new]
            fused.step(grads=grads)
            loop.step(grads=grads)
        for a, b in zip(ours, expected, strict=True):
            assert same_bits(a, b)
        for p, q in zip(fused.state.values(), loop.state.values(), strict=True):
            assert list(p) == list(q)
            for a, b in zip(p.values(), q.values()):
                assert same_bits(np.asarray(a), np.asarray(b))


# Threads, processes


def model(seed=0, sizes=(7, 300, 5000)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size).astype(np.float32) for size in sizes]


def train(params, steps=20):
    opt = optim.RAdam(params, lr=0.01, weight_decay=0.1)
    assert [report.backend for report in opt.implementation] == ["numba_fused"]
    for step in range(steps):
        opt.step(grads=[np.sin(3 * param + step) for param in params])
    return [param.tobytes() for param in params]


def test_the_number_of_threads_does_not_change_a_bit():
    results = []
    for num_threads in (1, 2, 3):
        set_num_threads(num_threads)
        results.append(train(model()))
    assert results[0] == results[1] == results[2]


def test_two_threads_that_step_two_optimizers_do_what_one_does():
    set_num_threads(2)
    expected = [train(model(seed)) for seed in range(2)]
    results = [None, None]
    barrier = threading.Barrier(2, timeout=60)

    def work(seed):
        barrier.wait()
        results[seed] = train(model(seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_step():
    code = """
import os, sys, threading, warnings, numpy as np, arrayopt as optim
from arrayopt.backends import numba_kernel
optim.set_num_threads(2)
def bits(cls):
    w = np.linspace(0, 1, 1_000_000)
    opt = cls([w], fused=True)
    for _ in range(3):
        opt.step(grads=[np.sin(w)])
    return w.tobytes()
adam, sgd = bits(optim.Adam), bits(optim.SGD)
numba_kernel._kernels.clear()
bits(optim.Adam)
held = threading.Event()
def hold():  # another thread compiles while this one forks
    with numba_kernel._lock:
        held.set()
        threading.Event().wait(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process of several threads
child = os.fork()
if child == 0:
    os._exit(0 if bits(optim.Adam) == adam and bits(optim.SGD) == sgd else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    python(code, ARRAYOPT_CACHE_DIR="")


# Compiling


def structure(expression, states=("buf",)):
    return trace(lambda xp, p, g, s, group: (expression(xp, p, g), {}), states, {}, {}).structure


def test_a_kernel_is_compiled_once_by_whichever_thread_and_logged(caplog, monkeypatch):
    monkeypatch.delenv("ARRAYOPT_CACHE_DIR")  # as it is by default
    new = structure(lambda xp, p, g: p - 3 * g + xp.sqrt(p) * 7)
    kernels = []
    barrier = threading.Barrier(4, timeout=60)

    def work():
        barrier.wait()
        kernels.append(numba_kernel.kernel(new, "float32"))

    with caplog.at_level(logging.DEBUG, logger="arrayopt"):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({id(kernel) for kernel in kernels}) == 1
    (record,) = [each for each in caplog.records if each.name.startswith("arrayopt")]
    assert record.levelno == logging.DEBUG
    assert re.fullmatch(r"arrayopt_\w+: 5 operations in float32, ready in .* s", record.message)


def test_other_numbers_need_no_other_kernel(monkeypatch):
    opt = optim.Adam([w := np.ones(3)], fused=True)
    opt.step(grads=[w])
    monkeypatch.setattr(numba_kernel, "_compile", None)
    opt.param_groups[0] |= {"lr": 0.5, "betas": (0.8, 0.4), "eps": 1e-3}
    opt.step(grads=[w])


def test_compiled_kernels_are_kept_on_disk(tmp_path):
    code = """
import logging, numpy as np, arrayopt as optim, numba
import numba.core.dispatcher as dispatcher
compiled = []
original = dispatcher._FunctionCompiler.compile
dispatcher._FunctionCompiler.compile = lambda self, *a: compiled.append(1) or original(self, *a)
w = np.linspace(1, 2, 5, dtype=np.float32)
opt = optim.NAdam([w], lr=0.5, fused=True)
for _ in range(3):
    opt.step(grads=[w])
print(len(compiled), w.tobytes().hex())
"""
    folder = tmp_path / "kernels"

    def run(folder):
        return python(code, ARRAYOPT_CACHE_DIR=str(folder)).split()

    without, first, second = run(""), run(folder), run(folder)
    assert [int(count) > 0 for count, _ in (without, first, second)] == [True, True, False]
    assert without[1] == first[1] == second[1]
    (source,) = folder.glob("*.py")
    assert "exp_avg = load(exp_avg_at" in source.read_text()
    source.write_text("raise SystemExit('somebody else wrote here')")
    assert run(folder)[1] == without[1]


def test_the_source_of_a_kernel_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ARRAYOPT_CACHE_DIR", str(tmp_path / "new"))
    new = structure(lambda xp, p, g: p - xp.sqrt(xp.sqrt(g * g)) * 5)
    times = []
    for _ in range(2):
        numba_kernel._kernels.pop((new, "float64"), None)
        numba_kernel.kernel(new, "float64")
        (file,) = (tmp_path / "new").glob("*.py")
        times.append(file.stat().st_mtime_ns)
    assert times[0] == times[1]
    assert not list((tmp_path / "new").glob("*.tmp"))


def test_a_folder_that_cannot_be_written_to_is_told_and_not_needed(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("ARRAYOPT_CACHE_DIR", str(file / "folder"))
    w = np.ones(3)
    opt = optim.Adam([w], lr=0.25, fused=True, betas=(0.0, 0.5), weight_decay=2.0, amsgrad=True)
    numba_kernel._kernels.clear()
    with pytest.warns(UserWarning, match=r"ARRAYOPT_CACHE_DIR has to name a folder .*folder"):
        opt.step(grads=[np.ones(3)])
    np.testing.assert_allclose(w, 0.75, rtol=1e-6)


def test_the_source_has_the_names_of_the_rule():
    opt = optim.SGD([np.ones(2)], momentum=0.9)
    opt.step(grads=[np.ones(2)])
    opt.step(grads=[np.ones(2)])
    source = opt._last[0].works[0].batch.memo["numba_fused"].kernel.source
    for line in (
        "momentum_buffer = load(momentum_buffer_at, i, 2, 3, one)",
        "new_param = param - t2",
        "store(momentum_buffer_at, i, 2, 3, one, new_momentum_buffer)",
    ):
        assert line in source


def test_names_that_are_no_names_or_taken_are_replaced():
    names = ("row", "c0", "no name", "lambda", "new_row", "np", "t3", "param_at", "operand_3")
    # (some of these, Python reads as i, c0 and fi)
    names += ("not ok", "\u2170", "\uff43\uff10", "\ufb01", "fi", "__debug__")

    def rule(xp, param, grad, state, group):
        total = param + grad
        for name in names:
            total = total + state[name]
        return 2.0 * total, {name: total * number for number, name in enumerate(names)}

    def make():
        states = {name: [np.full(3, float(k))] for k, name in enumerate(names)}
        return [np.ones(3)], [np.ones(3)], states

    assert_same_bits(NumbaFused(), rule, make)


LEFT_TO_FOREACH = {
    "booleans as numbers": lambda xp, p, g: (p > 0) * (g > 0) * p,
    "a choice of booleans": lambda xp, p, g: xp.where(p > 0, p > 1, g > 1) * p,
    "a floored quotient": lambda xp, p, g: p // g,
    "a remainder": lambda xp, p, g: p % g,
}


@pytest.mark.parametrize("expression", LEFT_TO_FOREACH.values(), ids=LEFT_TO_FOREACH)
def test_what_cannot_be_fused_is_left_to_foreach_and_it_is_told(expression):
    class Mine(optim.Optimizer):
        state_table = (optim.StateSlot("buf", initial=None),)

        def __init__(self, params, **options):
            super().__init__(params, {"fused": None, "foreach": None, **options})

        def rule(self, xp, param, grad, state, group):
            param = expression(xp, param, grad)
            return param, {"buf": 0.5 * state["buf"] + grad if "buf" in state else grad}

    w, g = np.array([1.5, -2.0, 3.0]), np.array([2.0, 3.0, -2.0])
    with pytest.raises(TraceError, match=r"cannot be fused.* leave fused at None"):
        Mine([w], fused=True).step(grads=[g])
    assert w.tolist() == [1.5, -2.0, 3.0]
    ours, expected = w.copy(), w.copy()
    opt, loop = Mine([ours]), Mine([expected], foreach=False)
    ((_, implementation, *_, reason),) = opt.implementation
    assert implementation == "foreach"
    assert "cannot be fused" in reason
    for _ in range(4):
        opt.step(grads=[g])
        loop.step(grads=[g])
        assert same_bits(ours, expected)
        ((a,), (b,)) = (each.values() for each in (*opt.state.values(), *loop.state.values()))
        assert same_bits(a, b)


def test_a_float_is_true_where_it_is_not_zero():
    def rule(xp, param, grad, state, group):
        return xp.where(xp.logical_and(param, grad > 0), param * (param > 0), -param), {}

    assert_same_bits(NumbaFused(), rule, lambda: ([np.array([0.0, 1.0, np.nan])], [np.ones(3)], {}))


def test_a_value_of_another_type_is_not_stored():
    from numba import njit
    from numba.core.errors import TypingError

    with pytest.raises(TypingError, match="expected a float32 to store, but got a float64"):
        njit("void(intp)")(lambda at: numba_kernel.store(at, 0, 0, 1, np.float32(1), 1.0))


# Who runs it


def reports(opt):
    return [(r.arrays, r.backend, r.reason) for r in opt.implementation]


def test_half_precision_and_gaps_are_left_to_foreach_and_it_is_told():
    arrays = [np.ones(3), np.ones(3, np.float16), np.ones((3, 2))[:, 0], np.ones(3, ">f8")]
    arrays += [np.ones(3, np.longdouble)]
    longdouble = f"numpy {np.dtype(np.longdouble)}"
    since = "numba_fused takes no"
    for fused, why in ((None, "the fastest available, since "), (True, "fused=True, but ")):
        opt = optim.Adam(arrays, lr=0.5, fused=fused)
        assert reports(opt) == [
            ("numpy float64", "numba_fused", "fused=True" if fused else "the fastest available"),
            ("numpy float16", "numpy_blocked", f"{why}{since} float16 arrays"),
            ("numpy float64", "numpy_blocked", f"{why}{since} arrays with gaps"),
            ("numpy >f8", "numpy_blocked", f"{why}{since} >f8 arrays"),
            (longdouble, "numpy_blocked", f"{why}{since} {np.dtype(np.longdouble)} arrays"),
        ]
    opt.step(grads=[np.ones(3)] * 5)
    for array in arrays:
        np.testing.assert_allclose(array, 0.5, rtol=1e-3)


def test_tensors_that_are_no_memory_of_this_machine_are_left_to_the_for_loop():
    whole = torch.ones(3, 4)
    for tensor in (torch.ones(2, device="meta"), torch.ones(2, dtype=torch.bfloat16), whole[:, 0]):
        assert not NumbaFused().accepts(tensor)
    opt = optim.Adam([whole[:, 0], torch.ones(2, dtype=torch.bfloat16)], fused=True)
    assert reports(opt) == [
        ("torch float32", "array_api", "fused=True, but numba_fused takes no arrays with gaps"),
        ("torch bfloat16", "array_api", "fused=True, but numba_fused takes no bfloat16 arrays"),
    ]


def test_state_of_another_layout_is_left_to_foreach():
    ours, expected = np.ones((30, 20)), np.ones((30, 20))
    opt, loop = optim.Adam([ours]), optim.Adam([expected], foreach=False)
    for step in range(4):
        if step == 2:  # a checkpoint that was made of a transposed copy
            (entry,) = opt.state.values()
            entry["exp_avg"] = np.asfortranarray(entry["exp_avg"])
        grad = np.sin(ours + step)
        opt.step(grads=[grad])
        loop.step(grads=[grad])
        assert ours.tobytes() == expected.tobytes()


def test_a_tensor_that_is_pointed_to_other_memory_is_seen():
    def run(tensor):
        param = torch.nn.Parameter(tensor)
        opt = optim.Adam([param], lr=0.1)
        for step in range(6):
            param.grad = torch.sin(param.detach() + step)
            if step == 2:  # what moving a model and its optimizer does
                param.data = param.data.clone()
            if step == 4:
                for value in opt.state[param].values():
                    if torch.is_tensor(value):
                        value.data = value.data.clone() * 2
            opt.step()
        return param.detach().numpy()

    ours = run(torch.linspace(0, 1, 10))
    w = np.linspace(0, 1, 10, dtype=np.float32)
    opt = optim.Adam([w], lr=0.1, foreach=False)
    for step in range(6):
        if step == 4:
            (entry,) = opt.state.values()
            entry["exp_avg"] *= 2
            entry["exp_avg_sq"] *= 2
        opt.step(grads=[np.sin(w + step)])
    np.testing.assert_allclose(ours, w, rtol=1e-6)


def test_a_tensor_that_is_no_plain_one_is_left_to_the_for_loop_and_it_is_told():
    class Own(torch.Tensor):
        pass

    opt = optim.SGD([optim.Parameter(torch.ones(2).as_subclass(Own))], fused=True)
    assert reports(opt) == [
        ("torch float32", "array_api", "fused=True, but numba_fused takes plain tensors only")
    ]


def test_a_gradient_without_memory_is_left_to_the_for_loop():
    w = torch.ones(4)
    opt = optim.SGD([optim.Parameter(w)], lr=0.5, momentum=0.5)
    for grad in (torch.ones(4), torch._efficientzerotensor(4), torch.ones(4)):
        opt.step(grads=[grad])
    assert w.tolist() == [1 - 0.5 - 0.25 - 0.5 * 1.25] * 4
    with pytest.raises(TraceError, match="no plain memory cannot be fused"):
        optim.SGD([w], fused=True).step(grads=[torch._efficientzerotensor(4)])


def test_inside_of_vmap_nothing_is_changed_before_the_error():
    p, q = torch.ones(3), torch.ones(2)
    opt = optim.SGD([{"params": [q]}, {"params": [p]}], lr=0.5)

    def step(grad):
        opt.step(grads=[torch.ones(2), grad])
        return grad

    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(step)(torch.ones(5, 3))
    assert p.tolist() == [1] * 3


def test_state_that_is_only_read_and_shares_memory_is_read_in_sequence():
    assert_same_bits(NumbaFused(), programs.anchored, programs.overlapping_anchor)


def test_kernels_of_another_version_are_not_taken_from_disk(monkeypatch):
    new = structure(lambda xp, p, g: p - 11 * g)
    names = []
    for stamp in (b"1", b"2"):
        monkeypatch.setattr(numba_kernel, "_stamp", lambda stamp=stamp: stamp)
        names.append(numba_kernel._compile(new, "float32").source.split("def ")[1][:30])
    assert names[0] != names[1]
