"""Algorithms that look at a parameter as a whole: Adafactor and Muon."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from arrays import normal, relative_difference
from hypothesis import given
from hypothesis import strategies as st
from specs import BY_NAME, Spec, case_id
from stepping import bits, long_run, params_of

import arrayopt as optim
from arrayopt.interop import from_torch, to_torch
from arrayopt.tensors import torch_as_exact_as_can_be
from arrayopt.whole import named, newton_schulz, rms

WHOLE = [BY_NAME["Adafactor"], BY_NAME["Muon"]]
CASES = [(spec, options) for spec in WHOLE for options in spec.options]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "Adafactor": [(3, 4), (5,), (), (2, 3, 4), (1, 6), (6, 1)],
    "Muon": [(3, 4), (4, 3), (5, 5), (1, 6)],
}

each = pytest.mark.parametrize("spec", WHOLE, ids=case_id)
cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)


def zeros(spec: Spec) -> list[np.ndarray]:
    return [np.zeros(shape) for shape in SHAPES[spec.name]]


def run(
    spec: Spec, options: dict[str, Any], dtype: str, convert: Callable[[Any], Any], steps: int = 30
) -> tuple[list[Any], optim.Optimizer]:
    """Parameters of some library after steps that are the same for all."""
    params = [convert(array) for array in normal(0, SHAPES[spec.name], dtype)]
    optimizer = spec.cls(params, **options)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        optimizer.step(grads=[convert(g) for g in normal(rng, SHAPES[spec.name], dtype)])
    return [param.data for param in optimizer.param_groups[0]["params"]], optimizer


# Agreement


@long_run
@cases
def test_a_thousand_steps_are_torchs(spec: Spec, options: dict[str, Any]) -> None:
    """Of Muon, in double precision: torch's bfloat16 is left out."""
    arrays = normal(0, SHAPES[spec.name], "float64")
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    ours, theirs = spec.cls(arrays, **options), spec.theirs(tensors, **options)
    rng = np.random.default_rng(1)
    with torch_as_exact_as_can_be():
        for _ in range(1000):
            grads = normal(rng, SHAPES[spec.name], "float64")
            for tensor, grad in zip(tensors, grads):
                tensor.grad = torch.tensor(grad)
            ours.step(grads=grads)
            theirs.step()
            for param, tensor in zip(ours.param_groups[0]["params"], tensors):
                assert relative_difference(param.data, tensor.detach().numpy()) <= 1e-12
                mine, its = ours.state[param], theirs.state[tensor]
                assert [*mine] == [*its]
                for name in mine.keys() - {"step"}:
                    assert mine[name].shape == its[name].shape
                    assert relative_difference(mine[name], its[name].numpy()) <= 1e-12


@pytest.mark.parametrize("options", BY_NAME["Muon"].options, ids=case_id)
def test_muon_is_near_torchs_as_it_is(options: dict[str, Any]) -> None:
    """Each step differs by what five products in bfloat16 lose, 2**-8 each time, and is amplified.

    A step is `lr` long in the spectral norm, times the factor of its shape.
    """
    start = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    ours, theirs = start.copy(), torch.tensor(start, requires_grad=True)
    grad = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    theirs.grad = torch.tensor(grad)
    optim.Muon([ours], **options).step(grads=[grad])
    torch.optim.Muon([theirs], **options).step()
    step = np.linalg.norm(ours - start, 2)
    assert step > 0
    assert np.linalg.norm(ours - theirs.detach().numpy(), 2) < 0.1 * step


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("convert", [strict.asarray, torch.tensor], ids=["strict", "torch"])
def test_other_libraries_compute_the_same(
    spec: Spec, options: dict[str, Any], dtype: str, convert: Callable[[Any], Any]
) -> None:
    ours, other = run(spec, options, dtype, convert)
    numpy, optimizer = run(spec, options, dtype, np.array)
    eps = 1e3 * np.finfo(dtype).eps  # (products of matrices)
    for a, b in zip(ours, numpy, strict=True):
        assert relative_difference(a, b) <= eps
    for mine, its in zip(params_of(other), params_of(optimizer), strict=True):
        states = other.state[mine], optimizer.state[its]
        assert [*states[0]] == [*states[1]]
        for name in states[1].keys() - {"step"}:
            assert relative_difference(states[0][name], states[1][name]) <= eps


@cases
def test_a_jitted_function_computes_the_same(
    spec: Spec, options: dict[str, Any], jax_in_double_precision: None
) -> None:
    form = optim.functional(spec.cls, **options)
    params = [jnp.asarray(array) for array in normal(0, SHAPES[spec.name], "float64")]
    state, rng = form.init(params), np.random.default_rng(1)
    update = jax.jit(form.update)
    for _ in range(30):
        grads = [jnp.asarray(grad) for grad in normal(rng, SHAPES[spec.name], "float64")]
        params, state = update(params, grads, state)
    numpy, optimizer = run(spec, options, "float64", np.array)
    for a, b in zip(params, numpy, strict=True):
        assert relative_difference(np.asarray(a), b) <= 1e-12
    for index, param in enumerate(optimizer.param_groups[0]["params"]):
        entry = optimizer.state[param]
        for name in (slot.name for slot in spec.cls.state_table if not slot.scalar):
            assert (state[name][index] is None) == (name not in entry)
            if name in entry:
                assert relative_difference(np.asarray(state[name][index]), entry[name]) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@cases
def test_half_precision_is_rounded_once(spec: Spec, options: dict[str, Any], dtype: Any) -> None:
    """A first step is that of float32, which has torch's eps if that of the dtype is meant."""
    floors = {"eps": (float(ml_dtypes.finfo(dtype).eps), 1e-3)} if spec.name == "Adafactor" else {}
    half = [array.astype(dtype) for array in normal(0, SHAPES[spec.name], "float32")]
    single = [array.astype(np.float32) for array in half]
    grads = [array.astype(dtype) for array in normal(1, SHAPES[spec.name], "float32")]
    spec.cls(half, **options).step(grads=grads)
    spec.cls(single, **{**floors, **options}).step(grads=[g.astype(np.float32) for g in grads])
    for a, b in zip(half, single, strict=True):
        assert a.tobytes() == b.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", BY_NAME["Adafactor"].options, ids=case_id)
def test_adafactor_in_half_precision_is_near_torchs(options: dict[str, Any], dtype: Any) -> None:
    """Which rounds after each operation: some ten roundings of a step, and one of the parameter."""
    start = torch.tensor(normal(0, [(3, 4)], "float32")[0]).to(dtype)
    grad = torch.tensor(normal(1, [(3, 4)], "float32")[0]).to(dtype)
    ours, theirs = start.clone(), start.clone()
    theirs.grad = grad
    optim.Adafactor([ours], **options).step(grads=[grad])
    torch.optim.Adafactor([theirs], **options).step()
    step = (theirs - start).abs().max().item()
    eps = torch.finfo(dtype).eps
    assert step > 0
    far = (ours.double() - theirs.double()).abs().max().item()
    assert far <= 10 * eps * step + eps * start.abs().max().item()


def test_the_momentum_of_muon_in_bfloat16_is_not_changed_by_its_step() -> None:
    """As it is in torch without Nesterov's: there, it is its own rounded copy."""
    grad = np.array([[3.0, 0.0], [0.0, 4.0]], ml_dtypes.bfloat16)
    opt = optim.Muon([np.zeros((2, 2), ml_dtypes.bfloat16)], momentum=0.5, nesterov=False)
    opt.step(grads=[grad])
    (state,) = opt.state.values()
    assert state["momentum_buffer"].astype(float).tolist() == [[1.5, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@each
def test_a_gradient_that_is_not_finite_does_what_it_does_in_torch(spec: Spec, bad: float) -> None:
    """After three steps of others: what is NaN, and what is not."""
    ours = normal(0, SHAPES[spec.name][:2], "float64")
    tensors = [torch.tensor(array, requires_grad=True) for array in ours]
    here, there = spec.cls(ours), spec.theirs(tensors)
    with torch_as_exact_as_can_be():
        for step in range(5):
            grads = normal(step, SHAPES[spec.name][:2], "float64")
            if step == 3:
                grads[0][1, 2] = bad
            for tensor, grad in zip(tensors, grads):
                tensor.grad = torch.tensor(grad)
            here.step(grads=grads)
            there.step()
    for array, tensor in zip(ours, tensors):
        expected = tensor.detach().numpy()
        np.testing.assert_array_equal(np.isfinite(array), np.isfinite(expected))
        np.testing.assert_allclose(array, expected, rtol=1e-12)


@cases
def test_cupy_computes_the_same(spec: Spec, options: dict[str, Any], cupy: Any) -> None:
    """On the stand-in."""
    ours, _ = run(spec, options, "float64", cupy.asarray, 5)
    numpy, _ = run(spec, options, "float64", np.array, 5)
    for a, b in zip(ours, numpy, strict=True):
        assert relative_difference(a.get(), b) <= 1e-12


def test_torchs_muon_alone_is_freed_of_its_rounding() -> None:
    """For as long as it is wanted, within itself, and from several places."""
    third = torch.tensor([[1 / 3, 0.0], [0.0, 1.0]], dtype=torch.float64)
    default = torch.get_default_dtype()

    def orthogonal() -> torch.Tensor:
        return torch.optim._muon._zeropower_via_newtonschulz(third, (1.0, 0.0, 0.0), 1, 1e-7)

    with torch_as_exact_as_can_be():
        with torch_as_exact_as_can_be():
            assert orthogonal().dtype == torch.float64
        assert orthogonal().dtype == torch.float64
        assert third.bfloat16().dtype == torch.bfloat16
    assert orthogonal().dtype == torch.bfloat16
    assert torch.get_default_dtype() == default


def test_an_optimizer_that_rounds_to_bfloat16_is_told_from_one_that_does_not() -> None:
    class Rounding(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for param in group["params"]:
                    grad = param.grad.bfloat16().to(param.dtype)
                    param.add_(grad, alpha=-group["lr"])

    report = optim.compare(Rounding, optim.SGD, dtype="float64", steps=3, options={"lr": 0.1})
    assert not report.ok


@cases
def test_the_scale_of_gradients_is_taken_off(spec: Spec, options: dict[str, Any]) -> None:
    plain, scaled = zeros(spec), zeros(spec)
    grads = normal(0, SHAPES[spec.name], "float64")
    a, b = spec.cls(plain, **options), spec.cls(scaled, **options)
    a.step(grads=grads)
    b.grad_scale, b.found_inf = 8.0, 0.0
    b.step(grads=[8 * grad for grad in grads])
    assert bits(a) == bits(b)
    b.found_inf = 1.0
    b.step(grads=grads)
    assert bits(a) == bits(b)


# What is meant


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3_000_000])
def test_a_root_mean_square_is_exact_however_many_there_are(size: int) -> None:
    """In single precision, a sum of one after another would be off by 1e-4, and torch's norm is."""
    array = np.random.default_rng(0).uniform(0.5, 1, size).astype(np.float32)
    wide = array.astype(float)
    expected = np.sqrt(np.sum(wide * wide) / size) if size else 0.0
    for found in (rms(np, array), rms(strict, strict.asarray(array))):
        assert float(found) == pytest.approx(expected, rel=3e-7)


@given(
    st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1, 1e6])
)
def test_newton_schulz_keeps_singular_vectors_and_brings_values_near_one(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    """Whatever the scale. With the coefficients of Muon, values come to between 0.68 and 1.21.

    These are the least value and the largest one of the quintic where it maps an interval into
    itself. Small singular values need more steps: each is multiplied by 3.4445 at least.
    """
    rng = np.random.default_rng(seed)
    matrix = scale * rng.standard_normal((rows, columns))
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    found = newton_schulz(np, matrix, 3.4445, -4.775, 2.0315, 40, 1e-30)
    inner = u.T @ found @ vt.T
    kept = values > 1e-6 * values[0]
    diagonal = np.diag(inner)[kept]
    assert (diagonal > 0.68).all()
    assert (diagonal < 1.21).all()
    inner[np.diag_indices_from(inner)] = 0
    assert np.abs(inner[np.ix_(kept, kept)]).max(initial=0) < 1e-6


def test_a_gradient_of_zeros_moves_nothing() -> None:
    w = np.ones((2, 3))
    optim.Muon([w], weight_decay=0.0).step(grads=[np.zeros((2, 3))])
    assert (w == 1).all()
    for shape in ((2, 3), (3,), ()):
        w = np.ones(shape)
        optim.Adafactor([w]).step(grads=[np.zeros(shape)])
        assert (w == 1).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_adafactor_passes_by_what_has_no_elements(shape: tuple[int, ...]) -> None:
    """torch divides by their number."""
    w, other = np.zeros(shape), np.ones(2)
    optim.Adafactor([w, other], lr=0.5).step(grads=[w, other])
    assert other.tolist() == [0.5, 0.5]


def test_a_step_of_adafactor_is_relative_to_the_parameter() -> None:
    """In the first step, all squares are those of this gradient: of a vector, u is its sign."""
    for size in (1e-6, 1e-2, 1.0, 1e3):
        w = np.full(4, size)
        optim.Adafactor([w], lr=0.25).step(grads=[np.array([1.0, -1.0, 5.0, -7.0])])
        np.testing.assert_allclose(
            np.full(4, size) - w, 0.25 * max(1e-3, size) * np.array([1, -1, 1, -1]), rtol=1e-12
        )


def test_no_update_of_adafactor_is_larger_than_d() -> None:
    """A gradient that grows is far beyond the root of its mean square."""
    for d in (1.0, 1.5):
        w = np.full((3, 2), 1.0)
        opt = optim.Adafactor([w], lr=0.01, d=d)
        for scale in (1e-3, 1e3):
            before = w.copy()
            opt.step(grads=[np.full((3, 2), scale)])
        sizes = [np.sqrt(np.mean(x**2)) for x in (before - w, before)]
        step = sizes[0] / (0.01 * sizes[1])
        assert step == pytest.approx(min(d, (2**-0.8) ** -0.5), rel=1e-5)


@each
def test_it_learns(spec: Spec) -> None:
    """Least squares: the loss comes down by 99%, with a rate that goes to zero."""
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((200, 6)), rng.standard_normal((6, 4))
    w = 0.1 * rng.standard_normal((6, 4))

    def residual() -> np.ndarray:
        return x @ (w - truth)

    first = np.mean(residual() ** 2)
    opt = spec.cls([w], lr=0.1)
    for group in opt.param_groups:
        group["weight_decay"] = 0.0
    schedule = optim.lr_scheduler.LinearLR(opt, 1.0, 0.01, total_iters=200)
    for _ in range(200):
        opt.step(grads=[x.T @ residual() / len(x)])
        schedule.step()
    assert np.mean(residual() ** 2) < 0.01 * first


def test_minimize_takes_a_matrix() -> None:
    target = np.diag([3.0, -2.0])
    result = optim.minimize(
        lambda x: (float(np.sum((x - target) ** 2)), 2 * (x - target)),
        np.ones((2, 2)),
        optim.Muon,
        jac=True,
        maxiter=100,
        lr=0.05,
        weight_decay=0.0,
    )
    assert np.abs(result.x - target).max() < 0.2


# State


def test_the_state_of_adafactor_is_one_number_a_row_and_a_column() -> None:
    params = [np.ones(shape) for shape in SHAPES["Adafactor"]]
    opt = optim.Adafactor(params)
    opt.step(grads=params)
    found = [
        {name: np.shape(value) for name, value in opt.state[param].items() if name != "step"}
        for param in opt.param_groups[0]["params"]
    ]
    assert found == [
        {"row_var": (3, 1), "col_var": (1, 4)},
        {"variance": (5,)},
        {"variance": ()},
        {"row_var": (2, 3, 1), "col_var": (2, 1, 4)},
        {"row_var": (1, 1), "col_var": (1, 6)},
        {"row_var": (6, 1), "col_var": (1, 1)},
    ]


@cases
def test_a_run_goes_on_from_its_state(spec: Spec, options: dict[str, Any]) -> None:
    params, opt = run(spec, options, "float64", np.array, 3)
    loaded = spec.cls([param.copy() for param in params])
    loaded.load_state_dict(opt.state_dict())
    others = [loaded, copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    grads = normal(7, SHAPES[spec.name], "float64")
    for each_of in (opt, *others):
        each_of.step(grads=grads)
    for other in others:
        assert bits(other) == bits(opt)


@pytest.mark.parametrize(
    ("shape", "change", "error", "message"),
    [
        ((3, 4), {"row_var": np.ones((3, 4))}, ValueError, r"'row_var' of shape \(3, 1\), but got"),
        ((3, 4), {"col_var": np.ones(4)}, ValueError, r"'col_var' of shape \(1, 4\), but got"),
        ((3, 4), {"row_var": None}, TypeError, "expected a dense array as state 'row_var'"),
        ((3, 4), {"variance": np.ones((3, 4))}, ValueError, r"\['col_var', 'row_var', 'step'\]"),
        ((3,), {"row_var": np.ones(1)}, ValueError, r"the state \['step', 'variance'\], but got"),
    ],
)
def test_state_that_does_not_fit_is_an_error(
    shape: tuple[int, ...], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    opt = optim.Adafactor([np.ones(shape)])
    opt.step(grads=[np.ones(shape)])
    saved = opt.state_dict()
    saved["state"] = {0: {**saved["state"][0], **change}}
    before = copy.deepcopy(opt.state_dict())
    with pytest.raises(error, match=message):
        opt.load_state_dict(saved)
    assert repr(opt.state_dict()) == repr(before)


def test_state_that_somebody_put_in_is_checked_before_a_step() -> None:
    w, v = np.ones((2, 3)), np.ones(2)
    opt = optim.Adafactor([v, w])
    opt.step(grads=[v, w])
    before = v.copy(), w.copy()
    opt.state[opt.param_groups[0]["params"][1]]["row_var"] = np.ones((2, 3))
    with pytest.raises(
        ValueError, match=r"parameter 1: expected state 'row_var' of shape \(2, 1\)"
    ):
        opt.step(grads=[v, w])
    assert (v == before[0]).all()
    assert (w == before[1]).all()


@cases
def test_a_run_goes_on_on_the_other_side(spec: Spec, options: dict[str, Any]) -> None:
    arrays = normal(0, SHAPES[spec.name], "float64")
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    here: optim.Optimizer = spec.cls(arrays, **options)
    there: Any = spec.theirs(tensors, **options)
    rng = np.random.default_rng(1)
    moved: list[tuple[Any, list[Any]]] = []
    with torch_as_exact_as_can_be():
        for step in range(100):
            grads = normal(rng, SHAPES[spec.name], "float64")
            for optimizer, params in ((here, arrays), (there, tensors), *moved):
                if isinstance(optimizer, optim.Optimizer):
                    optimizer.step(grads=grads)
                else:
                    for tensor, grad in zip(params, grads):
                        tensor.grad = torch.tensor(grad)
                    optimizer.step()
            if step == 49:
                ours = [tensor.detach().numpy().copy() for tensor in tensors]
                its = [torch.tensor(array, requires_grad=True) for array in arrays]
                moved = [(spec.cls(ours), ours), (spec.theirs(its), its)]
                moved[0][0].load_state_dict(from_torch(there))
                moved[1][0].load_state_dict(to_torch(here))
    for _, params in moved:
        for a, b in zip(params, arrays, strict=True):
            found = a.detach().numpy() if isinstance(a, torch.Tensor) else a
            assert relative_difference(found, b) <= 1e-12


# Who runs it, and what is refused


@each
def test_the_for_loop_runs_it_and_says_why(spec: Spec) -> None:
    (report,) = spec.cls([np.ones((2, 2))]).implementation
    assert report.implementation == "for-loop"
    assert report.reason == "the rule looks at a parameter as a whole"


@named
def mean(xp: Any, array: Any) -> Any:
    return xp.mean(array)


class Centred(optim.Optimizer):
    """Gradients without their mean: a rule of the user's that is not elementwise."""

    elementwise = False

    def __init__(self, params: Any, foreach: bool | None = None, fused: bool | None = None) -> None:
        super().__init__(params, {"lr": 0.5, "foreach": foreach, "fused": fused})

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - group["lr"] * (grad - mean(xp, grad)), {}


def test_a_rule_of_ones_own_may_look_at_an_array_as_a_whole() -> None:
    w = np.zeros(2)
    Centred([w]).step(grads=[np.array([3.0, 1.0])])
    assert w.tolist() == [-0.5, 0.5]
    for switch in ("foreach", "fused"):
        with pytest.raises(RuntimeError, match=f"{switch}=True: the rule of Centred looks at a"):
            Centred([w], **{switch: True})  # type: ignore[arg-type]


class Rows(optim.Optimizer):
    """A mean square for each row, which is forgotten to be called not elementwise."""

    state_table = (optim.StateSlot("seen", shape=lambda shape: (*shape[:-1], 1)),)

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.5})

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        seen = state["seen"] + xp.max(xp.abs(grad), axis=-1, keepdims=True)
        return param - group["lr"] * grad / seen, {"seen": seen}


def test_state_of_another_shape_makes_a_rule_one_of_whole_arrays() -> None:
    w = np.zeros((2, 2))
    opt = Rows([w])
    opt.step(grads=[np.array([[2.0, 1.0], [4.0, -1.0]])])
    assert w.tolist() == [[-0.5, -0.25], [-0.5, 0.125]]
    assert opt.implementation[0].implementation == "for-loop"
    assert opt.state_dict()["state"][0]["seen"].tolist() == [[2.0], [4.0]]


def test_a_rule_has_to_keep_the_shape_of_its_state() -> None:
    class Wrong(Rows):
        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - grad, {"seen": grad}

    w = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for the state 'seen' of shape"):
        Wrong([w]).step(grads=[np.ones((2, 2))])
    assert (w == 0).all()


@pytest.mark.parametrize("slot", [{"initial": None}, {"scalar": True}], ids=str)
def test_state_of_a_shape_of_its_own_begins_as_an_array(slot: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="the state 'seen' has a shape of its own, so that it has"):
        optim.StateSlot("seen", shape=lambda shape: shape, **slot)


def test_the_entries_of_a_sparse_gradient_are_no_whole_array() -> None:
    with pytest.raises(TypeError, match=r'expected gradients="dense", but got .dense or sparse.'):
        type("Own", (Centred,), {"gradients": "dense or sparse"})


def test_a_table_of_which_nothing_is_for_this_shape_is_a_table_all_the_same() -> None:
    class Columns(Rows):
        state_table = (optim.StateSlot("seen", shape=lambda s: s[:1] if len(s) > 1 else None),)

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - grad, {}

    opt = Columns([np.ones(2)])
    saved = opt.state_dict() | {"state": {0: {"junk": 5}}}
    with pytest.raises(ValueError, match=r"expected the state \[\], but got \['junk'\]"):
        opt.load_state_dict(saved)


def test_a_parameter_that_has_become_a_matrix_has_no_state_of_a_vector() -> None:
    param = optim.Parameter(np.ones(4))
    opt = optim.Adafactor([param])
    opt.step(grads=[np.ones(4)])
    param.data = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 2\) has no state \['variance'\]"):
        opt.step(grads=[np.ones((2, 2))])
    assert (param.data == 1).all()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3), (3, 0)])
def test_muon_takes_matrices_alone(shape: tuple[int, ...]) -> None:
    message = r"parameter 1 .'b'.: Muon takes matrices that have elements, .* has shape \("
    with pytest.raises(ValueError, match=message):
        optim.Muon([("a", np.ones((2, 2))), ("b", np.ones(shape))])
    form = optim.functional(optim.Muon)
    with pytest.raises(ValueError, match=r"params\['w'\]: Muon takes matrices that have"):
        form.init({"w": np.ones(shape)})


@each
def test_complex_and_sparse_are_refused(spec: Spec) -> None:
    with pytest.raises(RuntimeError, match=f"{spec.name} does not support complex parameters"):
        spec.cls([np.ones((2, 2), complex)])
    w = np.ones((2, 2))
    sparse = optim.SparseGrad([0], np.ones((1, 2)), (2, 2))
    with pytest.raises(RuntimeError, match=f"{spec.name} does not support sparse gradients"):
        spec.cls([w]).step(grads=[sparse])
    assert (w == 1).all()


def test_an_array_that_took_the_place_of_a_matrix_is_refused_before_anything_changes() -> None:
    first, second = optim.Parameter(np.ones((2, 2))), optim.Parameter(np.ones((2, 2)))
    opt = optim.Muon([first, second])
    second.data = np.ones(3)
    with pytest.raises(ValueError, match=r"parameter 1: Muon takes matrices that"):
        opt.step(grads=[np.ones((2, 2)), np.ones(3)])
    assert (first.data == 1).all()
    assert not opt.state


# Looking at it


def test_an_optimizer_is_explained_for_the_shapes_of_its_parameters() -> None:
    tall, wide = (optim.explain(optim.Muon([np.ones(s)])) for s in ((3, 2), (2, 3)))
    assert "γₜ = γ·√(m / n)\n" in tall.text
    assert "γₜ = γ\n" in wide.text
    assert "m = param.shape[0]" in tall.text
    both = optim.explain(optim.Muon([np.ones((3, 2)), np.ones((2, 3))]))
    assert "γₜ = γ·√(m / n)  if m / n > 1,  otherwise γ\n" in both.text
    assert len(both.sections) == 1

    opt = optim.Adafactor([np.ones(3), np.ones((2, 2)), np.ones(())])
    opt.step(grads=[np.ones(3), np.ones((2, 2)), np.ones(())])
    vectors, matrices = optim.explain(opt).sections
    assert vectors.heading == ", group 0, parameters 0, 2, step 2"
    assert matrices.heading == ", group 0, parameter 1, step 2"
    assert "vₜ = βₜ·vₜ₋₁ + (1 − βₜ)·qₜ" in vectors.text
    assert "row_mean" not in vectors.text
    assert "rₜ = βₜ·rₜ₋₁ + (1 − βₜ)·row_mean(qₜ)" in matrices.text


def test_a_named_function_of_ones_own_is_written_by_its_name() -> None:
    explanation = optim.explain(Centred)
    assert "θₜ = θₜ₋₁ − γ·(gₜ − mean(gₜ))" in explanation.text
    assert r"\operatorname{mean}" in explanation.latex
    scope: dict[str, Any] = {}
    exec(explanation.python, scope)
    grad = np.array([3.0, 1.0])
    assert scope["centred"](np, np.zeros(2), grad, {}, {"lr": 0.5})[0].tolist() == [-0.5, 0.5]


@each
def test_there_is_no_kernel_of_it(spec: Spec) -> None:
    for language in ("numba", "cuda"):
        with pytest.raises(optim.TraceError, match="cannot be traced"):
            getattr(optim.explain(spec.cls), language)


def test_a_step_is_recorded() -> None:
    w = np.array([[3.0, 0.0], [0.0, -2.0]])
    opt = optim.Adafactor([w])
    with optim.record(opt) as recording:
        opt.step(grads=[w])
    assert recording["row_var"].shape == (1, 2, 1)
    np.testing.assert_allclose(recording["row_var"][0], [[4.5], [2.0]])
