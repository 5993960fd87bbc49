"""Checkpoints: a run that is loaded goes on to the same bits, and nothing is half loaded."""

from __future__ import annotations

import copy
import math
import random
import struct
import sys
from collections import Counter, OrderedDict
from typing import Any

import array_api_strict as strict
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from schedules import MAKE, Decay, advance, float32, numpys, straight
from specs import SPECS, Spec, case_id

import arrayopt as optim
from arrayopt import checkpoint, lr_scheduler, swa_utils
from arrayopt.swa_utils import AveragedModel


def exact(value: Any) -> Any:
    """What is equal for data of the same types and bits, and for nothing else."""
    if isinstance(value, torch.Tensor):
        bits = value.detach().reshape(-1).view(torch.uint8) if value.dim() else value.detach()
        return torch.Tensor, value.dtype, tuple(value.shape), bits.tolist()
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.shape, value.tobytes()
    if hasattr(value, "__array_namespace__"):
        return type(value), str(value.dtype), exact(np.asarray(value))
    if isinstance(value, dict):
        pairs = [(exact(key), exact(entry)) for key, entry in value.items()]
        return type(value), pairs if isinstance(value, OrderedDict) else sorted(
            pairs, key=lambda pair: repr(pair[0])
        )
    if isinstance(value, list | tuple):
        return type(value), [exact(entry) for entry in value]
    if isinstance(value, float):
        return float, struct.pack("<d", value)
    if isinstance(value, complex):
        return complex, struct.pack("<dd", value.real, value.imag)
    return type(value), value


def through(tmp_path, extra: Any) -> Any:
    checkpoint.save(tmp_path / "extra.safetensors", extra=[extra])
    return checkpoint.load(tmp_path / "extra.safetensors").extra[0]


# Every algorithm

KINDS: list[tuple[tuple[int, ...], Any]] = [
    ((3, 4), np.float64),
    ((), np.float64),
    ((0, 2), np.float64),
    ((9000,), np.float32),
    ((5,), np.float16),
    ((2, 2), np.complex128),
    ((3,), np.complex64),
    ((4,), ml_dtypes.bfloat16),
]


def weights(spec: Spec) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = [((3, 4), np.float64), ((5,), np.float64)] if spec.kind != "elementwise" else KINDS
    return {
        f"p{number}": spec.fit(np.asarray(rng.standard_normal(shape) + 1).astype(dtype))
        for number, (shape, dtype) in enumerate(kinds)
    }


def wave(array: np.ndarray, step: int) -> np.ndarray:
    wide = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
    return np.asarray(np.sin(3 * wide + step)).astype(array.dtype)


def take(spec: Spec, model: dict[str, np.ndarray], opt: optim.Optimizer, steps: range) -> None:
    """Steps whose gradients depend on the parameters and on the number of the step."""
    for step in steps:
        if spec.kind == "closure":
            opt.step(
                lambda step=step: (
                    sum(np.sum(np.cosh(a - step / 9)) for a in model.values()),
                    [np.sinh(a - step / 9) for a in model.values()],
                )
            )
        elif spec.kind == "sparse":
            rows = np.array([step % 3, 2])
            opt.step(
                grads=[
                    optim.SparseGrad(rows, wave(array[rows], step), array.shape)
                    for array in model.values()
                ]
            )
        else:
            opt.step(grads=[wave(array, step) for array in model.values()])


CASES = [(spec, options) for spec in SPECS for options in spec.options]


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
@pytest.mark.parametrize("foreach", [None, False])
def test_every_algorithm_goes_on_to_the_bit(tmp_path, spec, options, foreach) -> None:
    if spec.kind == "elementwise":
        options = {**options, "foreach": foreach}
    model = weights(spec)
    opt = spec.cls(model.items(), **options)
    take(spec, model, opt, range(4))
    checkpoint.save(tmp_path, model=model, optimizer=opt)
    halfway = exact([model, opt.state_dict()])
    fresh = {name: np.full_like(array, 7) for name, array in weights(spec).items()}
    resumed = spec.cls(fresh.items(), lr=7.0)
    checkpoint.load(tmp_path, model=fresh, optimizer=resumed)
    assert exact([fresh, resumed.state_dict()]) == halfway
    for each, optimizer in ((model, opt), (fresh, resumed)):
        take(spec, each, optimizer, range(4, 8))
    assert exact([fresh, resumed.state_dict()]) == exact([model, opt.state_dict()])
    learns = options.get("lr") != 0
    assert (exact([model, opt.state_dict()]) != halfway) == (learns or bool(spec.state.get("")))


def test_every_algorithm_is_tested() -> None:
    assert {spec.name for spec in SPECS} == {*optim.algorithms.__all__}


# Every scheduler


@pytest.mark.parametrize("where", [0, 151, 640])
@pytest.mark.parametrize("kind", [float, float32], ids=case_id)
@pytest.mark.parametrize("name", MAKE)
def test_every_scheduler_goes_on_to_the_bit(tmp_path, name, kind, where) -> None:
    opt = numpys(kind)
    scheduler = MAKE[name](opt)
    head = advance(name, opt, scheduler, 0, where)
    checkpoint.save(tmp_path, optimizer=opt, scheduler=scheduler)
    saved = exact([opt.state_dict()["param_groups"], scheduler.state_dict()])
    opt = numpys(kind)
    scheduler = MAKE[name](opt)
    checkpoint.load(tmp_path, optimizer=opt, scheduler=scheduler)
    assert exact([opt.state_dict()["param_groups"], scheduler.state_dict()]) == saved
    tail = advance(name, opt, scheduler, where, where + 50)
    assert head + tail == straight(name, kind)[: where + 50]


def test_every_scheduler_is_tested() -> None:
    classes = {*lr_scheduler.__all__, "SWALR"} - {"LRScheduler"}
    inner = {"SequentialLR": "a sequence", "ChainedScheduler": "a chain"}
    assert {inner.get(name, name) for name in classes} <= {*MAKE}


# Every average

AVERAGES = {
    "equal": dict,
    "swa": lambda: {"avg_fn": swa_utils.get_swa_avg_fn()},
    "swa multi": lambda: {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()},
    "ema": lambda: {"avg_fn": swa_utils.get_ema_avg_fn(0.9)},
    "ema multi": lambda: {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)},
    "ema, warm-up and correction": lambda: {
        "multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.99, warmup=True, bias_correction=True)
    },
    "ema, a schedule": lambda: {
        "avg_fn": swa_utils.get_ema_avg_fn(lambda n: 1 - 1 / (n + 2), bias_correction=True)
    },
    "one's own": lambda: {"avg_fn": lambda average, value, n: average + (value - average) / 3},
}


class Net(optim.Module):
    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.layers = [optim.Parameter(rng.standard_normal((4, 3))) for _ in range(2)]
        self.half = optim.Parameter(rng.standard_normal(5).astype(np.float16))
        self.mean = optim.Buffer(rng.standard_normal(3))
        self.count = optim.Buffer(np.array(seed))
        self.scratch = optim.Buffer(np.zeros(2), persistent=False)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", AVERAGES)
def test_every_average_goes_on_to_the_bit(tmp_path, name, use_buffers) -> None:
    def make(seed: int) -> tuple[Net, optim.Optimizer, Any, AveragedModel]:
        net = Net(seed)
        opt = optim.AdamW(net.parameters(), lr=0.1)
        cosine = lr_scheduler.CosineAnnealingLR(opt, 20)
        scheduler = lr_scheduler.SequentialLR(opt, [cosine, swa_utils.SWALR(opt, 0.05)], [5])
        return net, opt, scheduler, AveragedModel(net, use_buffers=use_buffers, **AVERAGES[name]())

    def go(run: Any, steps: range) -> None:
        net, opt, scheduler, averaged = run
        for step in steps:
            opt.step(grads=[wave(param.data, step) for param in net.parameters()])
            net.mean.data += step
            net.count.data += 1
            scheduler.step()
            averaged.update_parameters(net)

    def states(run: Any) -> Any:
        return exact([each.state_dict() for each in run])

    run, resumed = make(0), make(1)
    parts = ("model", "optimizer", "scheduler", "averaged")
    go(run, range(7))
    checkpoint.save(tmp_path, **dict(zip(parts, run)))
    checkpoint.load(tmp_path, **dict(zip(parts, resumed)))
    assert states(resumed) == states(run)
    go(run, range(7, 12))
    go(resumed, range(7, 12))
    assert states(resumed) == states(run)
    assert run[3].n_averaged == 12


# torch


def torch_run(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    model.append(torch.nn.Linear(4, 4))
    model[2].weight = model[0].weight if seed < 0 else model[2].weight
    opt = torch.optim.AdamW(model.parameters(), lr=0.1, amsgrad=True)
    return {
        "model": model,
        "optimizer": opt,
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(opt, 9),
        "averaged": AveragedModel(model, use_buffers=True),
    }


def test_a_run_of_torch_goes_on_to_the_bit(tmp_path) -> None:
    def go(run: dict[str, Any], steps: range) -> None:
        for step in steps:
            x = torch.sin(torch.arange(15.0) + step).reshape(5, 3)
            run["optimizer"].zero_grad()
            run["model"](x).square().sum().backward()
            run["optimizer"].step()
            run["scheduler"].step()
            run["averaged"].update_parameters(run["model"])

    def states(run: dict[str, Any]) -> Any:
        return exact([dict(each.state_dict()) for each in run.values()])

    run, resumed = torch_run(0), torch_run(1)
    go(run, range(3))
    checkpoint.save(tmp_path, **run, extra=torch.get_rng_state())
    weight = resumed["model"][0].weight
    loaded = checkpoint.load(tmp_path, **resumed)
    assert resumed["model"][0].weight is weight
    assert states(resumed) == states(run)
    assert exact(loaded.extra) == exact(torch.get_rng_state())
    go(run, range(3, 6))
    go(resumed, range(3, 6))
    assert states(resumed) == states(run)


def test_a_torch_module_with_a_state_of_its_own(tmp_path) -> None:
    class Own(torch.nn.Linear):
        seen = 0

        def get_extra_state(self) -> Any:
            return {"seen": self.seen}

        def set_extra_state(self, state: Any) -> None:
            self.seen = state["seen"]

    model, other = Own(2, 3), Own(2, 3)
    model.seen = 5
    checkpoint.save(tmp_path, model=model)
    checkpoint.load(tmp_path, model=other)
    assert other.seen == 5
    assert exact(dict(other.state_dict())) == exact(dict(model.state_dict()))


def test_our_optimizer_on_torch_tensors_and_a_bfloat16_model(tmp_path) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.complex64):
        model = {"w": torch.linspace(0, 1, 6).reshape(2, 3).to(dtype)}
        opt = optim.Adam(model.items(), lr=torch.tensor(0.1))
        opt.step(grads=[model["w"].clone()])
        checkpoint.save(tmp_path, model=model, optimizer=opt)
        fresh = {"w": torch.zeros(3, 2, dtype=dtype).T}
        other = optim.Adam(fresh.items())
        checkpoint.load(tmp_path, model=fresh, optimizer=other)
        assert torch.equal(fresh["w"], model["w"])
        (ours,), (theirs,) = opt.state.values(), other.state.values()
        assert torch.equal(ours["exp_avg"], theirs["exp_avg"])
        assert exact(other.param_groups[0]["lr"]) == exact(torch.tensor(0.1))


# Other models


def test_models_of_all_kinds(tmp_path) -> None:
    def make(start: float) -> Any:
        a = np.arange(6.0).reshape(2, 3) + start
        tied = a * 2
        return [{"a": a, 3: tied}, (optim.Parameter(a.T * 3), tied), Net(int(start))]

    model, other = make(1), make(5)
    checkpoint.save(tmp_path, model=model)
    assert len(safetensors.numpy.load_file(tmp_path / "checkpoint-00000001.safetensors")) == 9
    checkpoint.load(tmp_path, model=other)
    assert exact(other[0]) == exact(model[0])
    assert other[1][1] is other[0][3]
    assert (other[1][0].data == model[1][0].data).all()
    assert exact(other[2].state_dict()) == exact(model[2].state_dict())


def test_immutable_arrays_are_replaced(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("arrayopt.checkpoint.parts.is_writeable", lambda array: False)
    model = {"a": strict.ones((2, 3)), "n": [np.arange(4)]}
    checkpoint.save(tmp_path, model=model)
    before = strict.zeros((2, 3))
    other = {"a": before, "n": [np.zeros(4, int)]}
    checkpoint.load(tmp_path, model=other)
    assert exact(other) == exact(model)
    assert not strict.any(before)
    stuck = {"a": strict.ones((2, 3)), "n": (np.zeros(4, int),)}
    with pytest.raises(ValueError, match=r"n.0: it cannot be written to, and stands in a tuple"):
        checkpoint.load(tmp_path, model=stuck)


class Scaled(optim.Module):
    """A module that loads in its own way, and may not be able to."""

    def __init__(self, value: float, *, fails: bool = False) -> None:
        self.w = optim.Parameter(np.full(2, value))
        self.fails = fails

    def state_dict(self) -> dict[str, Any]:
        return {"half": self.w.data / 2}

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> Any:
        self.w.data[...] = state_dict["half"] * 2
        if self.fails and self.w.data[0] == 3:
            raise RuntimeError("no")


def test_what_loads_in_its_own_way_is_taken_back_if_it_fails(tmp_path) -> None:
    checkpoint.save(tmp_path, model=Scaled(3.0), averaged=Scaled(3.0))
    model, averaged = Scaled(1.0), Scaled(2.0)
    checkpoint.load(tmp_path, model=model, averaged=averaged)
    assert [model.w.data[0], averaged.w.data[0]] == [3.0, 3.0]
    model, averaged = Scaled(1.0), Scaled(2.0, fails=True)
    with pytest.raises(RuntimeError, match="no"):
        checkpoint.load(tmp_path, model=model, averaged=averaged)
    assert [model.w.data[0], averaged.w.data[0]] == [1.0, 2.0]


# What does not fit


def run_of(**changes: Any) -> dict[str, Any]:
    model = {"a": np.ones((2, 3)), "b": np.zeros(4, np.float32)} | changes.get("model", {})
    model = {name: array for name, array in model.items() if array is not None}
    opt = changes.get("opt", optim.Adam)(model.items(), lr=0.1)
    opt.step(grads=[np.ones_like(array) for array in model.values()])
    scheduler = changes.get("scheduler", lambda opt: lr_scheduler.StepLR(opt, 3))(opt)
    averaged = AveragedModel(model)
    return {"model": model, "optimizer": opt, "scheduler": scheduler, "averaged": averaged}


def step_then_constant(opt: Any) -> Any:
    members = [lr_scheduler.StepLR(opt, 3), lr_scheduler.ConstantLR(opt)]
    return lr_scheduler.ChainedScheduler(members)


MISFITS = {
    "a shape": ({"model": {"a": np.ones((3, 2))}}, r"model given: a: expected shape \(3, 2\), but"),
    "a dtype": (
        {"model": {"b": np.zeros(4)}},
        "model given: b: expected dtype float64, but got float32",
    ),
    "a name too many": ({"model": {"c": np.ones(1)}}, "model given: missing: c"),
    "a name too few": ({"model": {"b": None}}, "model given: unexpected: b"),
    "an optimizer": (
        {"opt": optim.NAdam},
        "optimizer given: expected Adam, as was saved, but got NAdam",
    ),
    "a scheduler": (
        {"scheduler": lambda opt: lr_scheduler.ExponentialLR(opt, 0.5)},
        "scheduler given: expected StepLR, as was saved, but got ExponentialLR",
    ),
    "a composed scheduler": (
        {"scheduler": step_then_constant},
        r"but got ChainedScheduler\(StepLR, ConstantLR\)",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_an_error_and_changes_nothing(tmp_path, changes, message) -> None:
    for _ in range(2):
        checkpoint.save(tmp_path, **run_of())
    run = run_of(**changes)
    before = exact([each.state_dict() for each in list(run.values())[1:]]), exact(run["model"])
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(tmp_path, **run)
    assert not isinstance(caught.value, checkpoint.DamagedCheckpoint)
    assert "00000002.safetensors does not fit the" in str(caught.value)
    after = exact([each.state_dict() for each in list(run.values())[1:]]), exact(run["model"])
    assert after == before


@pytest.mark.parametrize("part", ["model", "optimizer", "scheduler", "averaged"])
def test_each_part_is_checked_before_any_other_is_changed(tmp_path, part) -> None:
    checkpoint.save(tmp_path, **run_of())
    run = run_of()
    others = run_of(
        model={"a": np.ones((3, 2))},
        opt=optim.SGD,
        scheduler=lambda opt: lr_scheduler.ExponentialLR(opt, 0.5),
    )
    run["model"]["a"] += 1
    run[part] = others[part]
    before = exact(run["model"]), exact([run[p].state_dict() for p in list(run)[1:]])
    with pytest.raises(ValueError, match=f"does not fit the {part} given"):
        checkpoint.load(tmp_path, **run)
    assert (exact(run["model"]), exact([run[p].state_dict() for p in list(run)[1:]])) == before


def test_a_part_that_the_file_lacks_is_an_error_and_one_too_many_is_not(tmp_path) -> None:
    run = run_of()
    checkpoint.save(tmp_path, model=run["model"], optimizer=run["optimizer"])
    loaded = checkpoint.load(tmp_path, model=run["model"])
    assert (loaded.parts, loaded.number, loaded.extra) == (("model", "optimizer"), 1, None)
    with pytest.raises(ValueError, match="has no averaged and no scheduler; it has model, opt"):
        checkpoint.load(tmp_path, **run)


def test_attributes_for_a_function_are_an_error(tmp_path) -> None:
    opt = optim.SGD([np.zeros(1)], lr=1.0)
    checkpoint.save(tmp_path, scheduler=lr_scheduler.LambdaLR(opt, Decay(0.5)))
    with pytest.raises(ValueError, match="scheduler given: the state_dict has the attributes"):
        checkpoint.load(tmp_path, scheduler=lr_scheduler.LambdaLR(opt, lambda step: 1.0))


def test_what_is_no_part_of_a_run(tmp_path) -> None:
    for part in ("optimizer", "scheduler"):
        with pytest.raises(TypeError, match=f"{part}: expected an object with state_dict and"):
            checkpoint.save(tmp_path, **{part: 3})
    with pytest.raises(TypeError, match="model: expected a Module, or a list or dict of arrays"):
        checkpoint.save(tmp_path, model=3)
    with pytest.raises(TypeError, match="averaged: expected an array as 'a' of the model, but got"):
        checkpoint.save(tmp_path, averaged={"a": 3})
    with pytest.raises(ValueError, match="there is nothing to save"):
        checkpoint.save(tmp_path)
    for keep in (0, True, 1.5):
        with pytest.raises(ValueError, match="keep: expected a positive integer"):
            checkpoint.save(tmp_path, extra=1, keep=keep)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ("model", "optimizer"),
        ("averaged", "optimizer"),
        ("scheduler", "optimizer"),
        ("scheduler", "model"),
        ("optimizer", "model"),
    ],
)
def test_parts_that_are_mixed_up(tmp_path, part, given) -> None:
    model = torch.nn.Linear(2, 1)
    things = {"optimizer": optim.SGD(model.parameters()), "model": model}
    wrong, name = things[given], type(things[given]).__name__
    with pytest.raises(TypeError, match=f"{part}: expected another kind of .*but got {name}"):
        checkpoint.save(tmp_path, **{part: wrong})
    assert not [*tmp_path.iterdir()]
    checkpoint.save(
        tmp_path, **things, scheduler=lr_scheduler.ExponentialLR(things["optimizer"], 0.5)
    )
    with pytest.raises(TypeError, match=f"{part}: expected another kind of .*but got {name}"):
        checkpoint.load(tmp_path, **{part: wrong})


def test_a_state_whose_values_do_not_fit(tmp_path) -> None:
    x = np.ones(3)
    opt = optim.LBFGS([x])
    opt.step(lambda: (x @ x, [2 * x]))
    (state,) = opt.state.values()
    state["d"][0] = math.inf
    checkpoint.save(tmp_path, optimizer=opt)
    with pytest.raises(ValueError, match=r"optimizer given: .* expected finite numbers as state"):
        checkpoint.load(tmp_path, optimizer=optim.LBFGS([x]))


# Plain data

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | hnp.from_dtype(np.dtype(np.float32))
    | hnp.from_dtype(np.dtype(np.int16))
)
arrays = hnp.arrays(
    st.sampled_from(["?", *np.typecodes["AllInteger"], *"efdFD"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
keys = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text())
data = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "kind"]), inner)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=data)
def test_plain_data_comes_back_to_the_bit(tmp_path_factory, value) -> None:
    back = through(tmp_path_factory.getbasetemp(), value)
    assert exact(back) == exact(value)
    assert not isinstance(value, dict) or [*map(exact, back)] == [*map(exact, value)]  # the order


def test_numbers_that_json_does_not_have(tmp_path) -> None:
    nan = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
    extra = {
        "floats": [math.inf, -math.inf, math.nan, nan, -0.0, 5e-324, 1.7976931348623157e308, 0.1],
        "complex": complex(-0.0, nan),
        "long": [10**5000, -(10**5000), 2**64],
        "counter": Counter({500: 1}),
        "surrogate": "\ud800\0é",
        "half": ml_dtypes.bfloat16(1.5),
        "yes": np.bool_(True),
    }
    assert exact(through(tmp_path, extra)) == exact(extra)


def test_states_of_random_generators(tmp_path) -> None:
    for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64):
        rng, other = (np.random.Generator(kind(seed)) for seed in (1, 2))
        rng.random(5)
        extra = {"numpy": rng.bit_generator.state, "python": random.getstate()}
        extra = through(tmp_path, extra)
        other.bit_generator.state = extra["numpy"]
        assert other.random() == rng.random()
        assert extra["python"] == random.getstate()


def test_arrays_of_every_layout_and_library(tmp_path) -> None:
    a = np.arange(24.0).reshape(4, 6)
    given = {
        "0-d": np.array(1.5),
        "empty": np.zeros((0, 3)),
        "transposed": a.T,
        "strided": a[::2, ::-3],
        "one row many times": np.broadcast_to(a[0], (5, 6)),
        "bfloat16": a.astype(ml_dtypes.bfloat16)[:, ::2],
        "complex": (a + 1j).T,
        "large and transposed": np.arange(300_000.0).reshape(600, 500).T,
        "torch": torch.arange(6).reshape(2, 3).T,
        "torch 0-d": torch.tensor(0.1),
        "torch bfloat16": torch.arange(6).to(torch.bfloat16).reshape(2, 3).T,
        "torch conjugate": torch.tensor([1 + 2j, 3j]).conj(),
        "torch that needs a gradient": torch.ones(2, requires_grad=True),
        "strict": strict.asarray([[1, 2], [3, 4]]),
    }
    got = through(tmp_path, given)
    for name, array in given.items():
        assert type(got[name]) is type(array), name
        assert got[name].dtype == array.dtype, name
        assert tuple(got[name].shape) == tuple(array.shape), name
        assert np.asarray(got[name] == array).all(), name
    big_endian = through(tmp_path, a.astype(">f4"))
    assert big_endian.dtype == np.float32
    assert (big_endian == a).all()


@pytest.mark.parametrize("dtype", [">f8", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_layout_are_loaded_into(tmp_path, dtype, order) -> None:
    a = np.random.default_rng(0).standard_normal((700, 500))
    checkpoint.save(tmp_path, model=[a])
    target = np.zeros_like(a, dtype=dtype, order=order)
    strided = np.zeros((700, 1000))[:, ::2]
    for model in (target, strided):
        checkpoint.load(tmp_path, model=[model])
        assert (model == a).all()
    other = [strict.zeros((700, 500), dtype=strict.float64)]
    checkpoint.load(tmp_path, model=other)
    assert (np.asarray(other[0]) == a).all()


def test_the_same_array_is_saved_once_and_comes_back_as_one(tmp_path) -> None:
    a = np.arange(5.0)
    tensor = torch.arange(3.0)
    extra = through(
        tmp_path, {"a": a, "b": [a, a[:]], "a.b": a + 1, "t": [tensor, tensor.detach()]}
    )
    assert extra["b"][0] is extra["a"]
    assert extra["t"][0] is extra["t"][1]
    assert len(safetensors.numpy.load_file(tmp_path / "extra.safetensors")) == 3


def test_names_that_would_be_the_same(tmp_path) -> None:
    extra = {"a.b": np.array([1]), "": {"": np.array([3])}}
    for other in ({}, {"a.b#2": np.array([4])}, {"a.b#3": np.array([4])}):
        taken = {**extra, **other, "a": {"b": np.array([2])}}
        assert exact(through(tmp_path, taken)) == exact(taken)


def test_half_of_a_surrogate_pair_may_be_a_key(tmp_path) -> None:
    extra = {"\ud800": np.ones(2), "\\ud800": np.zeros(2)}
    checkpoint.save(tmp_path, extra=extra)
    loaded = checkpoint.load(tmp_path).extra
    assert [*loaded] == [*extra]
    assert [array.tolist() for array in loaded.values()] == [[1, 1], [0, 0]]


class Hook:
    pass


nested: list[Any] = []
nested.append(nested)

REFUSED = {
    "a function": ({"hook": {"x": test_names_that_would_be_the_same}}, r"extra\['hook'\]\['x'\]: "
                   "expected numbers, strings, arrays, or lists, tuples and dicts of them, but got "
                   "function"),
    "an object": ([1, (2, Hook())], r"extra\[1\]\[1\]: expected .* but got Hook"),
    "a key": ({Hook(): 1}, r"extra\['a key'\]: expected .* but got Hook"),
    "a set": ({1, 2}, "extra: expected .* but got set"),
    "bytes": (b"1", "extra: expected .* but got bytes"),
    "words": (np.array(["a"]), "extra: expected numbers or booleans, but got an array of str"),
    "objects": ([np.array([None])], r"extra\[0\]: expected numbers .* an array of object"),
    "a word of NumPy": (np.str_("a"), "extra: expected numbers or booleans, but got .* str"),
    "a mask": (np.ma.ones(3), "extra: expected a dense array, but got MaskedArray"),
    "a sparse array": (torch.eye(2).to_sparse(), "extra: expected a dense array, but got Tensor"),
    "long doubles": (np.ones(2, np.longdouble), "an array of (longdouble|float128)"),
}  # fmt: skip


@pytest.mark.parametrize(("extra", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_data_is_named_with_its_place(tmp_path, extra, message) -> None:
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, extra=extra)
    assert not [*tmp_path.iterdir()]


def test_what_holds_itself(tmp_path) -> None:
    with pytest.raises(ValueError, match="at most 100 containers within each other"):
        checkpoint.save(tmp_path, extra=nested)


def test_a_file_can_be_read_by_the_library(tmp_path) -> None:
    run = run_of()
    file = checkpoint.save(tmp_path, **run, extra={"z": np.array([1 + 2j])})
    arrays = safetensors.numpy.load_file(file)
    assert exact(arrays["model.a"]) == exact(run["model"]["a"])
    assert exact(arrays["extra.z"]) == exact(np.array([[1.0, 2.0]]))
    assert "optimizer.state.0.exp_avg" in arrays


def test_what_was_loaded_tells_of_itself(tmp_path) -> None:
    checkpoint.save(tmp_path, **run_of(), extra={"epoch": 3})
    loaded = checkpoint.load(tmp_path)
    assert repr(loaded) == (
        f"Checkpoint(path={loaded.path!r}, number=1, "
        "parts=('model', 'averaged', 'optimizer', 'scheduler'))"
    )
    assert copy.copy(loaded).extra == {"epoch": 3}


@pytest.mark.parametrize("library", ["safetensors", "xxhash", "ml_dtypes"])
def test_a_library_that_is_missing_is_named_with_its_command(
    tmp_path, monkeypatch, library
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"need {library}: pip install 'arrayopt\[checkpoint\]'"
    with pytest.raises(ImportError, match=message):
        checkpoint.save(tmp_path, model=[torch.ones(2, dtype=torch.bfloat16)])
    assert not [*tmp_path.iterdir()]


def test_an_array_of_a_library_that_is_missing_is_one_of_numpy(tmp_path, monkeypatch) -> None:
    checkpoint.save(tmp_path, extra=strict.asarray([1.0]))
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    assert exact(checkpoint.load(tmp_path).extra) == exact(np.array([1.0]))


def test_states_of_torch_and_ours_are_told_apart(tmp_path) -> None:
    model = torch.nn.Linear(2, 1)
    ours, theirs = optim.SGD(model.parameters()), torch.optim.SGD(model.parameters())
    for saved, other in ((ours, theirs), (theirs, ours)):
        file = checkpoint.save(tmp_path / "one.safetensors", optimizer=saved)
        with pytest.raises(ValueError, match=r"SGD, as was saved.*arrayopt\.interop converts"):
            checkpoint.load(file, optimizer=other)
        checkpoint.load(file, optimizer=saved)
