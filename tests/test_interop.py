"""Optimizers that begin in torch and go on here, and the other way: the same as in either."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from specs import BY_NAME, TORCHS, Spec, case_id
from stepping import long_run
from test_lbfgs import Run, distance, logistic
from test_parity import Ours, Theirs, gradients, relative_difference

import arrayopt as optim
from arrayopt import SparseGrad, swa_utils
from arrayopt.interop import arrays, from_torch, recognition, to_torch

in_double = pytest.mark.usefixtures("torch_in_double_precision")
each = pytest.mark.parametrize("spec", TORCHS, ids=case_id)
ALL = [(spec, options) for spec in TORCHS for options in spec.options]
everything = pytest.mark.parametrize(("spec", "options"), ALL, ids=case_id)
dense = [case for case in ALL if case[0].kind == "elementwise"]
cases = pytest.mark.parametrize(("spec", "options"), dense, ids=case_id)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DTYPES += [torch.complex64, torch.complex128]


def same(a: Any, b: Any) -> bool:
    """Whether two states are the same: keys, types, dtypes, and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b)


def holds_no_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(holds_no_tensor, value.values()))
    if isinstance(value, list | tuple):
        return all(map(holds_no_tensor, value))
    return not isinstance(value, torch.Tensor)


# From torch to here, and from here to torch


def goes_on_here(theirs: Theirs, spec: Spec) -> Ours:
    """An optimizer of ours, made without options, that has taken over."""
    ours = Ours(spec, {}, theirs.dtype)
    for array, tensor in zip(ours.arrays, theirs.tensors, strict=True):
        array[...] = tensor.detach().numpy()
    ours.optimizer.load_state_dict(from_torch(theirs.optimizer.state_dict()))
    return ours


def goes_on_in_torch(ours: Ours, spec: Spec) -> Theirs:
    """torch's optimizer, made without options, that has taken over."""
    theirs = Theirs(spec, {}, ours.dtype)
    with torch.no_grad():
        for array, tensor in zip(ours.arrays, theirs.tensors, strict=True):
            tensor.copy_(torch.tensor(array))
    theirs.optimizer.load_state_dict(to_torch(ours.optimizer.state_dict()))
    return theirs


@cache
def thousand() -> list[list[np.ndarray]]:
    """The gradients of all steps, which every case takes."""
    return list(gradients(np.float64, 1000))


@long_run
@in_double
@cases
def test_500_steps_there_and_500_here_are_1000_in_either(
    spec: Spec, options: dict[str, Any]
) -> None:
    theirs, ours = Theirs(spec, options, np.float64), Ours(spec, options, np.float64)
    moved: list[Any] = []
    for step, grads in enumerate(thousand(), 1):
        for side in (theirs, ours, *moved):
            side.step(grads)
        if step == 500:
            moved = [goes_on_here(theirs, spec), goes_on_in_torch(ours, spec)]
    for side in moved:
        for whole in (theirs, ours):
            assert relative_difference(side.values(), whole.values()) <= spec.bounds.double


def test_what_torch_rounds_by_default_is_not_rounded_when_it_is_handed_over() -> None:
    """torch keeps eta, mu and mu_product in float32: ours arrive there in float64."""
    for spec in (BY_NAME["NAdam"], BY_NAME["ASGD"]):
        ours = Ours(spec, {}, np.float64)
        for grads in gradients(np.float64, 50):
            ours.step(grads)
        state = to_torch(ours.optimizer)["state"][0]
        (kept, *_) = ours.optimizer.state.values()
        for name in ("mu_product", "eta", "mu"):
            if name in kept:
                assert state[name].item() == kept[name]
        assert state["step"].dtype == torch.float32


@in_double
@pytest.mark.parametrize("fused", [None, True])
def test_steps_have_the_dtype_that_torch_gives_them(fused: bool | None) -> None:
    state_dict = torchs(BY_NAME["Adam"], {"fused": fused}, torch.float64).state_dict()
    assert state_dict["state"][0]["step"].dtype == (torch.float32 if fused else torch.float64)
    assert same(to_torch(from_torch(state_dict)), state_dict)


@pytest.mark.parametrize("options", BY_NAME["SparseAdam"].options, ids=case_id)
def test_sparse_adam_goes_on(options: dict[str, Any]) -> None:
    def step(optimizer: Any, param: Any, number: int) -> None:
        rng = np.random.default_rng(number)
        grad = SparseGrad(rng.integers(9, size=4), rng.standard_normal((4, 2)), (9, 2))
        if isinstance(param, np.ndarray):
            optimizer.step(grads=[grad])
        else:
            with torch.sparse.check_sparse_tensor_invariants(enable=False):
                indices, values = torch.tensor(grad.indices), torch.tensor(grad.values)
                param.grad = torch.sparse_coo_tensor(indices, values, (9, 2))
                optimizer.step()

    array, tensor = np.ones((9, 2)), torch.ones(9, 2, dtype=torch.float64, requires_grad=True)
    whole = [(optim.SparseAdam([array], **options), array)]
    whole += [(torch.optim.SparseAdam([tensor], **options), tensor)]
    for number in range(500):
        for pair in whole:
            step(*pair, number)
    ours = tensor.detach().numpy().copy()
    theirs = torch.tensor(array, requires_grad=True)
    moved = [(optim.SparseAdam([ours]), ours), (torch.optim.SparseAdam([theirs]), theirs)]
    moved[0][0].load_state_dict(from_torch(whole[1][0].state_dict()))
    moved[1][0].load_state_dict(to_torch(whole[0][0].state_dict()))
    for number in range(500, 1000):
        for pair in (*whole, *moved):
            step(*pair, number)
    assert type(moved[1][0].state[theirs]["step"]) is int
    for _, param in moved:
        for _, other in whole:
            here, there = (np.asarray(p.detach() if hasattr(p, "detach") else p)
                           for p in (param, other))  # fmt: skip
            assert np.abs(here - there).max() <= 1e-12 * np.abs(there).max()


#: One iteration a step, and short ones, so that 500 steps do not come to the minimum.
SLOW = {"lr": 0.002, "max_iter": 1}


@pytest.mark.parametrize("options", [SLOW, *BY_NAME["LBFGS"].options], ids=case_id)
def test_lbfgs_goes_on(options: dict[str, Any]) -> None:
    half = 500 if options is SLOW else 3
    ours = Run(optim.LBFGS, logistic, options).steps(half)
    theirs = Run(torch.optim.LBFGS, logistic, options, "torch").steps(half)
    here, there = Run(optim.LBFGS, logistic, {}), Run(torch.optim.LBFGS, logistic, {}, "torch")
    for array, tensor in zip(here.params, theirs.params, strict=True):
        array[...] = tensor.detach().numpy()
    with torch.no_grad():
        for tensor, array in zip(there.params, ours.params, strict=True):
            tensor.copy_(torch.tensor(array))
    here.optimizer.load_state_dict(from_torch(theirs.optimizer.state_dict()))
    there.optimizer.load_state_dict(to_torch(ours.optimizer.state_dict()))
    for run in (ours, theirs, here, there):
        run.steps(half)
    assert options is not SLOW or ours.losses[500] - ours.losses[-1] > 1e-4
    for run in (here, there):
        for whole in (ours, theirs):
            assert distance(run.iterates, whole.iterates[half:]) <= 1e-12
            assert run.state["func_evals"] == whole.state["func_evals"]
            assert run.state["n_iter"] == whole.state["n_iter"]


# Round trips


def torchs(spec: Spec, options: dict[str, Any], dtype: Any, steps: int = 3) -> Any:
    """torch's optimizer after some steps: two groups, names, and one parameter never trained."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 2), (), (3,), (2, 2)]
    drawn = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    params = [spec.fit(tensor).requires_grad_() for tensor in drawn]
    named = list(zip("abcd", params))
    groups = [{"params": named[:2], "lr": 0.01, "name": "first"}, {"params": named[2:]}]
    if spec.kind == "closure":
        groups = [{"params": named[:3]}]
    optimizer = spec.theirs(groups, **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum((param.abs() ** 4).sum() + (param + 1).abs().sum() for param in params[:3])
        loss.backward()
        if spec.kind == "sparse":
            for param in (params[0], params[2]):
                param.grad = param.grad.to_sparse(1)
            params[1].grad = None
        return loss

    for _ in range(steps):
        if spec.kind == "closure":
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return optimizer


def numpys(source: Any, spec: Spec) -> optim.Optimizer:
    """Our optimizer with the parameters of one of torch's, their names, and its state."""
    groups = [
        {"params": [(n, arrays.to_numpy(p)) for n, p in zip(g["param_names"], g["params"])]}
        for g in source.param_groups
    ]
    ours = spec.cls(groups)
    ours.load_state_dict(from_torch(source))
    return ours


dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str
)


def supported(spec: Spec, dtype: Any) -> bool:
    whole = ("whole", "matrix")  # which are real
    real = (torch.float32, torch.float64, *([torch.bfloat16] if spec.kind in whole else []))
    return spec.kind == "elementwise" or dtype in real


@everything
@dtypes
def test_from_torch_and_back_is_the_identity(
    spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    if not supported(spec, dtype):
        dtype = torch.float64
    theirs = torchs(spec, options, dtype)
    state_dict = theirs.state_dict()
    before = copy.deepcopy(state_dict)
    for source in (state_dict, theirs):
        ours = from_torch(source)
        assert holds_no_tensor(ours)
        back = to_torch(ours)
        assert same(back, state_dict)
    assert same(state_dict, before)
    assert spec.name == "SGD" or all(type(s.get("step", 0)) is int for s in ours["state"].values())


@everything
@dtypes
def test_to_torch_and_back_is_the_identity(spec: Spec, options: dict[str, Any], dtype: Any) -> None:
    if not supported(spec, dtype):
        dtype = torch.float64
    ours = numpys(torchs(spec, options, dtype), spec)
    if spec.kind in ("elementwise", "whole", "matrix"):
        for _ in range(3):
            params = [param.data for group in ours.param_groups for param in group["params"]]
            ours.step(grads=[*(np.sin(p.astype(p.dtype)) for p in params[:3]), None])
    state_dict = ours.state_dict()
    before = copy.deepcopy(state_dict)
    theirs = to_torch(ours)
    back = from_torch(theirs)
    if "fused" in state_dict["param_groups"][0] and "fused" not in back["param_groups"][0]:
        for group in before["param_groups"]:  # what torch has no such option for
            del group["fused"]
    after = {"state": state_dict["state"], "param_groups": before["param_groups"]}
    if spec.name == "Adagrad":  # torch keeps the state of those never trained
        start = after["param_groups"][1]["initial_accumulator_value"]
        start = complex(start, start) if dtype.is_complex else start
        assert back["state"].pop(3)["sum"].tolist() == np.full((2, 2), start).tolist()
        after["state"].pop(3, None)
    for entry in after["state"].values():
        entry.pop("origin", None)
    assert same(back, after)


def spoil(value: Any) -> None:
    """Change every array and list."""
    if isinstance(value, np.ndarray | torch.Tensor):
        value[...] = 77
    elif isinstance(value, list | tuple | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            spoil(entry)
        if isinstance(value, list):
            value.append(77)


@everything
@pytest.mark.parametrize("convert", [from_torch, to_torch])
def test_nothing_is_shared(spec: Spec, options: dict[str, Any], convert: Any) -> None:
    theirs = torchs(spec, options, torch.float64)
    for source in (theirs, numpys(theirs, spec)):
        source.param_groups[0]["lr"] = 0.5 * torch.ones(())
        state_dict = source.state_dict()
        before = copy.deepcopy(state_dict)
        spoil(convert(state_dict))
        assert same(state_dict, before)


@each
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=case_id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_torch_goes_on_as_if_the_state_had_never_left(
    spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    known = spec.theirs([torch.zeros(1, 1)]).defaults
    if options.keys() - known.keys() or not supported(spec, dtype):
        options, dtype = {}, torch.float64
    theirs = torchs(spec, options, dtype)
    by_torch, by_us = torchs(spec, {}, dtype, 0), torchs(spec, {}, dtype, 0)
    for other, state_dict in (
        (by_torch, copy.deepcopy(theirs.state_dict())),
        (by_us, to_torch(from_torch(theirs))),
    ):
        other.load_state_dict(state_dict)
        for group in other.param_groups:
            for param in group["params"]:
                param.grad = (torch.ones_like(param) / 3).to_sparse(param.ndim and 1)
                if spec.kind != "sparse":
                    param.grad = param.grad.to_dense()
        if spec.kind == "closure":
            params = other.param_groups[0]["params"]
            other.step(lambda params=params: sum(float((p.detach() ** 2).sum()) for p in params))
        else:
            other.step()
    assert same(by_us.state_dict(), by_torch.state_dict())
    for mine, its in zip(by_us.param_groups, by_torch.param_groups, strict=True):
        assert all(map(torch.equal, mine["params"], its["params"]))


# Names, numbers and options


@each
def test_numbers_names_and_options_of_groups_are_kept(spec: Spec) -> None:
    theirs = torchs(spec, spec.options[-1], torch.float64)
    theirs.param_groups[0]["lr"] = torch.tensor(0.5, dtype=torch.float64)
    ours = from_torch(theirs)
    for mine, its in zip(ours["param_groups"], theirs.state_dict()["param_groups"], strict=True):
        assert {k: mine[k] for k in its} == its
        assert mine["param_names"] == its["param_names"]
        assert mine["params"] == its["params"]
    rate = ours["param_groups"][0]["lr"]
    assert (type(rate), rate.shape, rate.dtype) == (np.ndarray, (), np.float64)
    back = to_torch(ours)["param_groups"][0]["lr"]
    assert (back.shape, back.dtype, back.item()) == ((), torch.float64, 0.5)
    assert ours["state"].keys() == theirs.state_dict()["state"].keys()


def test_numbers_that_do_not_count_from_zero_are_kept() -> None:
    state_dict = torchs(BY_NAME["Adam"], {}, torch.float64).state_dict()
    numbers = {0: 10, 1: 7, 2: 3, 3: 12}
    state_dict["state"] = {numbers[n]: entry for n, entry in state_dict["state"].items()}
    for group in state_dict["param_groups"]:
        group["params"] = [numbers[n] for n in group["params"]]
    assert list(from_torch(state_dict)["state"]) == [10, 7, 3]
    assert same(to_torch(from_torch(state_dict)), state_dict)


@each
def test_the_algorithm_is_recognized(spec: Spec) -> None:
    expected = optim.Adam if spec.name == "AdamW" else spec.cls  # whose options are the same
    theirs = torchs(spec, {}, torch.float64, steps=0)
    ours = spec.cls([np.ones((2, 1))])
    for groups in (theirs.state_dict()["param_groups"], ours.state_dict()["param_groups"]):
        assert recognition.recognize(groups) is expected
        later = [{k: v for k, v in g.items() if k != "decoupled_weight_decay"} for g in groups]
        if spec.name != "RAdam":  # that is how it differs from Adamax
            assert recognition.recognize(later) is expected
    for optimizer in (theirs, ours):
        assert recognition.class_of(optimizer) is spec.cls


def test_an_algorithm_of_ones_own_is_converted_entry_by_entry() -> None:
    class Own(optim.Optimizer):
        state_table = (optim.StateSlot("step", 0, scalar=True), optim.StateSlot("mu"))

        def __init__(self, params: Any) -> None:
            super().__init__(params, {"speed": 0.5})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            mu = state["mu"] + grad
            return param - group["speed"] * mu, {"mu": mu}

    ours = Own([np.ones(2)])
    ours.step(grads=[np.ones(2)])
    ours.state["extra"] = {"seen": [np.float64(0.5)]}
    ours.state["note"] = "a run"  # type: ignore[assignment]
    theirs = to_torch(ours)
    assert same(
        theirs["state"],
        {
            0: {"step": torch.tensor(1.0), "mu": torch.ones(2, dtype=torch.float64)},
            "extra": {"seen": [0.5]},
            "note": "a run",
        },
    )
    assert theirs["param_groups"] == [{"speed": 0.5, "params": [0]}]
    back = from_torch(theirs)["state"]
    assert back[0]["step"] == 1
    assert back["note"] == "a run"
    assert back[0]["mu"].tolist() == [1.0, 1.0]  # an array, whatever others call so
    assert recognition.class_of(ours) is None
    assert recognition.recognize([]) is None


def test_what_torch_lacks_is_converted_as_an_algorithm_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.optim, "Rprop")
    ours = optim.Rprop([np.ones(2)])
    ours.step(grads=[np.full(2, 3.0)])
    theirs = to_torch(ours)
    (entry,) = theirs["state"].values()
    assert same(entry["step"], torch.tensor(1.0))
    assert same(entry["prev"], torch.full((2,), 3.0, dtype=torch.float64))
    assert same(theirs["param_groups"], ours.state_dict()["param_groups"])
    assert same(to_torch(ours.state_dict()), theirs)
    assert same(from_torch(theirs), ours.state_dict())


# What one side has and the other has not


def older(name: str, missing: set[str]) -> Any:
    """torch's optimizer as it was before it had some options."""

    present = getattr(torch.optim, name)

    class Older:
        def __init__(self, params: Any) -> None:
            known = present(params).defaults
            self.defaults = {key: known[key] for key in known.keys() - missing}

    return Older


def test_an_option_that_was_not_saved_has_its_default() -> None:
    state_dict = torchs(BY_NAME["Adam"], {"weight_decay": 0.5}, torch.float64).state_dict()
    for group in state_dict["param_groups"]:
        del group["decoupled_weight_decay"]
    params = [np.ones((4, 2)), np.ones(()), np.ones(3), np.ones((2, 2))]
    ours = optim.Adam([{"params": params[:2]}, {"params": params[2:]}], decoupled_weight_decay=True)
    ours.load_state_dict(from_torch(state_dict))
    assert [group["decoupled_weight_decay"] for group in ours.param_groups] == [False, False]
    theirs = torchs(BY_NAME["AdamW"], {}, torch.float64)
    for group in theirs.param_groups:
        del group["decoupled_weight_decay"]
    decays = [group["decoupled_weight_decay"] for group in from_torch(theirs)["param_groups"]]
    assert decays == [True, True]


@pytest.mark.parametrize(
    ("cls", "options", "refused"),
    [
        (optim.Adam, {}, False),
        (optim.Adam, {"decoupled_weight_decay": True}, True),
        (optim.AdamW, {}, False),
    ],
    ids=case_id,
)
def test_an_option_that_torch_did_not_have_is_left_out_or_refused(
    cls: Any, options: dict[str, Any], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = cls([np.ones(2)], **options)
    monkeypatch.setattr(
        torch.optim, cls.__name__, older(cls.__name__, {"decoupled_weight_decay", "fused"})
    )
    if refused:
        with pytest.raises(ValueError, match="the Adam of the installed torch has no decoupled_w"):
            to_torch(ours)
    else:
        (group,) = to_torch(ours)["param_groups"]
        assert not group.keys() & {"decoupled_weight_decay", "fused"}
        assert group["lr"] == 1e-3


def test_an_option_that_is_not_known_here_is_refused_if_it_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state_dict = torchs(BY_NAME["Adam"], {}, torch.float64).state_dict()

    class Newer(torch.optim.Adam):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.defaults["sign"] = False

    monkeypatch.setattr(torch.optim, "Adam", Newer)
    state_dict["param_groups"][1] |= {"sign": False, "note": "a user's own"}
    assert from_torch(state_dict)["param_groups"][1]["note"] == "a user's own"
    state_dict["param_groups"][1]["sign"] = True
    with pytest.raises(ValueError, match="Adam: the option sign=True of torch is not known here"):
        from_torch(state_dict)


def test_state_that_torch_has_from_the_beginning_is_made() -> None:
    params = [np.ones(2), np.ones(3, np.complex64), np.ones(())]
    ours = optim.Adagrad(params, initial_accumulator_value=0.25)
    ours.step(grads=[np.ones(2), None, None])
    theirs = torch.optim.Adagrad([torch.tensor(p, requires_grad=True) for p in params])
    for source in (ours.state_dict(), {"state": {}, **ours.state_dict()}):
        with pytest.raises(ValueError, match="Adagrad: parameter 1 has no state yet, which torch"):
            to_torch(source)
    theirs.load_state_dict(to_torch(ours))
    untouched = torch.optim.Adagrad(
        [torch.tensor(p, requires_grad=True) for p in params], initial_accumulator_value=0.25
    ).state_dict()
    for number in (1, 2):
        assert same(theirs.state_dict()["state"][number], untouched["state"][number])


def test_state_of_an_option_that_was_turned_on_later_is_made() -> None:
    array = np.ones(2)
    ours = optim.Adam([array])
    ours.step(grads=[np.ones(2)])
    ours.param_groups[0]["amsgrad"] = True
    weights = torch.tensor(array, requires_grad=True)
    theirs = torch.optim.Adam([weights])
    theirs.load_state_dict(to_torch(ours.state_dict()))
    weights.grad = torch.full((2,), 0.1, dtype=torch.float64)
    theirs.step()
    ours.step(grads=[np.full(2, 0.1)])
    np.testing.assert_allclose(weights.detach().numpy(), array, rtol=1e-15)


def test_a_sparse_momentum_of_torch_becomes_dense() -> None:
    weights = torch.zeros(4, 2, requires_grad=True)
    theirs = torch.optim.SGD([weights], lr=0.5, momentum=0.5)
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        for row in (1, 1, 3):
            weights.grad = torch.sparse_coo_tensor([[row]], torch.ones(1, 2), (4, 2))
            theirs.step()
        buffer = from_torch(theirs)["state"][0]["momentum_buffer"]
    assert buffer[:, 0].tolist() == [0.0, 0.75, 0.0, 1.0]  # (1 / 2 + 1) / 2, and 1


def test_a_momentum_that_has_not_begun_stays_away() -> None:
    state_dict = torch.optim.SGD([torch.ones(2)], momentum=0.5).state_dict()
    state_dict["state"] = {0: {"momentum_buffer": None}}
    ours = from_torch(state_dict)
    assert ours["state"] == {0: {"momentum_buffer": None}}
    optim.SGD([np.ones(2)]).load_state_dict(ours)
    assert same(to_torch(ours), state_dict)


def test_the_way_back_of_lbfgs_does_not_go_to_torch() -> None:
    array = np.array([3.0])
    ours = optim.LBFGS([array], max_iter=1, lr=0.1)
    ours.step(lambda: (float(array[0] ** 4), [4 * array**3]))
    assert "origin" in ours.state_dict()["state"][0]
    assert "origin" not in to_torch(ours)["state"][0]


# Arrays


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_keep_their_dtype(dtype: Any) -> None:
    tensor = torch.randn(3, 2, dtype=dtype, requires_grad=True)
    for source in (tensor, tensor.mT, tensor[0, 0], tensor.detach().conj()):
        array = arrays.to_numpy(source)
        assert array.dtype.name == str(dtype).removeprefix("torch.")
        assert same(arrays.to_tensor(array), source.detach().resolve_conj().clone())
    (back,) = arrays.map_arrays(arrays.to_tensor, (np.ones(2, ">f4"),))
    assert same(back, torch.ones(2))


def test_without_ml_dtypes_bfloat16_becomes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.tensor([1 / 3, 1e30], dtype=torch.bfloat16)
    assert arrays.to_numpy(tensor).dtype == ml_dtypes.bfloat16
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    array = arrays.to_numpy(tensor)
    assert array.dtype == np.float32
    assert (array == tensor.double().numpy()).all()


# Averages of weights


def test_an_average_moves_there_and_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    function = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    theirs = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=function, use_buffers=False)
    weights = {name: arrays.to_numpy(p) for name, p in model.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for param in model.parameters():
                param.add_(1)
        theirs.update_parameters(model)
    state_dict = theirs.state_dict()
    converted = from_torch(theirs)
    assert holds_no_tensor(converted)
    assert same(to_torch(converted), dict(state_dict))
    ours = swa_utils.AveragedModel(weights)
    names = {"n_averaged", *(f"module.{name}" for name in weights)}
    ours.load_state_dict({name: converted[name] for name in names})
    assert ours.n_averaged == 3
    assert (ours.module["0.weight"] == state_dict["module.0.weight"].numpy()).all()
    back = to_torch(ours)
    assert same({name: state_dict[name] for name in sorted(names)},
                {name: back[name] for name in sorted(names)})  # fmt: skip


# What cannot be converted, and what is imported


@pytest.mark.parametrize("convert", [from_torch, to_torch])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "expected the state_dict of an optimizer, a scheduler or an AveragedModel, .* got int"),
        ({"weight": 1}, r"but got one with \['weight'\]"),
    ],
)
def test_what_is_no_state_is_an_error(convert: Any, source: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        convert(source)


def test_an_optimizer_of_an_unknown_algorithm_is_an_error() -> None:
    class Own(torch.optim.Optimizer):
        pass

    with pytest.raises(ValueError, match=r"one of the algorithms .* but got a Own"):
        from_torch(Own([torch.ones(2)], {}))


def test_a_number_of_the_state_that_is_none_is_an_error() -> None:
    state_dict = torchs(BY_NAME["Adam"], {}, torch.float64).state_dict()
    state_dict["state"][1]["step"] = torch.tensor(2.5)
    with pytest.raises(ValueError, match=r"parameter 1: state 'step' counts steps, but got"):
        from_torch(state_dict)


def test_state_of_another_algorithm_is_an_error_where_it_is_loaded() -> None:
    ours = numpys(torchs(BY_NAME["Adam"], {}, torch.float64), BY_NAME["Adam"])
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match="was it saved by another optimizer"):
        ours.load_state_dict(from_torch(torchs(BY_NAME["Adamax"], {}, torch.float64)))
    assert same(ours.state_dict(), before)


@pytest.mark.parametrize("convert", [from_torch, to_torch])
def test_without_torch_the_error_names_the_command(
    convert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dict = optim.SGD([np.ones(2)]).state_dict()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"_torch needs torch: pip install 'arrayopt\[torch\]'"):
        convert(state_dict)


def test_importing_it_imports_no_other_library() -> None:
    code = (
        "import sys, arrayopt.interop; print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'torch', 'jax', 'jaxlib', 'optax', 'ml_dtypes', 'numba'}))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
