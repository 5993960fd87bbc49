"""Averages of weights against torch, and what they promise."""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import weakref
from collections import OrderedDict

import array_api_strict as strict
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stepping import long_run
from torch.optim import swa_utils as theirs

import arrayopt as optim
from arrayopt import Buffer, Module, Parameter, swa_utils
from arrayopt.namespace import is_floating
from arrayopt.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
)

IMPLEMENTATIONS = {
    "default": {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
FUNCTIONS = {
    "default": (None, {}),
    "swa avg": ("get_swa_avg_fn", {}),
    "swa multi": ("get_swa_multi_avg_fn", {}),
    "ema avg": ("get_ema_avg_fn", {}),
    "ema multi": ("get_ema_multi_avg_fn", {}),
    "ema avg, 0.3": ("get_ema_avg_fn", {"decay": 0.3}),
    "ema multi, 0.3": ("get_ema_multi_avg_fn", {"decay": 0.3}),
    "ema multi, 1": ("get_ema_multi_avg_fn", {"decay": 1.0}),
    "ema avg, 0": ("get_ema_avg_fn", {"decay": 0}),
}


class Net(Module):
    """Two parameters of different shape, and buffers of two kinds."""

    def __init__(self, weight, bias, mean, count):
        self.weight = Parameter(weight)
        self.inner = [Parameter(bias), Buffer(mean)]
        self.count = Buffer(count)

    def __call__(self, x):
        return x @ self.weight.data + self.inner[0].data


def random_arrays(rng, dtype=np.float64):
    def array(*shape):
        values = rng.normal(size=shape)
        values = values + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else values
        return np.asarray(values).astype(dtype)

    return array(3, 4), array(4), array(5), np.array(int(rng.integers(100)))


def net(rng, dtype=np.float64):
    return Net(*random_arrays(rng, dtype))


def move(model, rng):
    """Give a model other numbers, in its own memory."""
    for array, value in zip(model.state_dict().values(), random_arrays(rng, model.weight.dtype)):
        array[...] = value


class TorchNet(torch.nn.Module):
    """The same as `Net`, without the integer: torch averages it, or fails."""

    def __init__(self, model):
        super().__init__()
        weight, bias, mean, _ = map(torch.tensor, model.state_dict().values())
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(bias)
        self.register_buffer("mean", mean)

    def follow(self, model):
        arrays = model.state_dict()
        arrays.pop("count")
        for tensor, array in zip(self.state_dict().values(), arrays.values(), strict=True):
            tensor.copy_(torch.tensor(array))


def keyword(name):
    return "multi_avg_fn" if name and "multi" in name else "avg_fn"


def function(module, name, options):
    return {} if name is None else {keyword(name): getattr(module, name)(**options)}


def close(ours, expected, rtol):
    """Whether arrays are equal, relative to the largest element of each."""
    for a, b in zip(ours, expected, strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=rtol * np.abs(b).max())


# As torch


def test_signatures_are_torchs_and_more_by_keyword():
    for name in swa_utils.__all__:
        ours = inspect.signature(getattr(swa_utils, name)).parameters.values()
        torchs = inspect.signature(getattr(theirs, name)).parameters.values()
        mine = [(p.name, p.default) for p in ours if p.kind is not p.KEYWORD_ONLY]
        assert mine == [(p.name, p.default) for p in torchs], name
    assert set(swa_utils.__all__) == set(theirs.__all__)


@long_run
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("how", FUNCTIONS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.usefixtures("torch_in_double_precision")  # in which it has 1 / (n + 1)
def test_a_thousand_updates_are_torchs(implementation, how, use_buffers, dtype):
    rng = np.random.default_rng(0)
    model = net(rng, dtype)
    twin = TorchNet(model)
    name, options = FUNCTIONS[how]
    ours = AveragedModel(
        model,
        use_buffers=use_buffers,
        **function(swa_utils, name, options),
        **IMPLEMENTATIONS[implementation],
    )
    torchs = theirs.AveragedModel(twin, use_buffers=use_buffers, **function(theirs, name, options))
    for _ in range(1000):
        move(model, rng)
        twin.follow(model)
        ours.update_parameters(model)
        torchs.update_parameters(twin)
    found, expected = ours.state_dict(), torchs.state_dict()
    assert found["n_averaged"] == expected["n_averaged"].item() == 1000
    *floats, count = [found[f"module.{key}"] for key in ("weight", "inner.0", "inner.1", "count")]
    close(floats, [expected[f"module.{key}"] for key in ("weight", "bias", "mean")], 1e-13)
    assert count == model.count.data
    for entry in ours.implementation:
        assert implementation in ("default", entry.implementation)


@long_run
@pytest.mark.parametrize("how", ["default", "ema avg", "ema multi", "ema multi, 0.3"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_in_single_precision_the_error_is_no_larger_than_torchs(implementation, how):
    """The error of 300 updates against double precision: at most 1.25 times torch's own."""
    rng = np.random.default_rng(17)
    name, options = FUNCTIONS[how]
    start = rng.normal(size=5000).astype(np.float32)
    model, twin, exact = (
        [start.copy()],
        torch.nn.ParameterList([torch.tensor(start)]),
        [start.astype("f8")],
    )
    switches = IMPLEMENTATIONS[implementation]
    ours = AveragedModel(model, **function(swa_utils, name, options), **switches)
    double = AveragedModel(exact, **function(swa_utils, name, options), **switches)
    torchs = theirs.AveragedModel(twin, **function(theirs, name, options))
    for _ in range(300):
        model[0] += rng.normal(size=5000).astype(np.float32) * np.float32(0.01)
        twin[0].data.copy_(torch.tensor(model[0]))
        exact[0][...] = model[0]
        for averaged, each in ((ours, model), (torchs, twin), (double, exact)):
            averaged.update_parameters(each)
    expected = double.module[0]
    error, limit = (
        np.sqrt(np.mean((np.asarray(found) - expected) ** 2))
        for found in (ours.module[0], torchs.module[0].detach())
    )
    assert error <= 1.25 * limit


@pytest.mark.parametrize("how", [how for how in FUNCTIONS if how != "default"])
def test_functions_called_by_hand_are_torchs(how):
    rng = np.random.default_rng(1)
    name, options = FUNCTIONS[how]
    ours, torchs = (getattr(m, name)(**options) for m in (swa_utils, theirs))
    averages = [rng.normal(size=shape) for shape in ((), (3,), (2, 3))]
    values = [rng.normal(size=a.shape) for a in averages]
    tensors = [torch.tensor(a) for a in averages]
    others = [torch.tensor(v) for v in values]
    for count in (1, 2, torch.tensor(7), np.array(30)):
        if keyword(name) == "multi_avg_fn":
            assert ours(averages, values, count) is None
            torchs(tensors, others, int(count))
            close(averages, tensors, 1e-15)
        else:
            before = [a.copy() for a in averages]
            found = [ours(a, v, count) for a, v in zip(averages, values)]
            close(found, [torchs(t, o, int(count)) for t, o in zip(tensors, others)], 1e-15)
            assert all((a == b).all() for a, b in zip(averages, before))
            assert not any(np.shares_memory(a, f) for a, f in zip(averages, found))


@pytest.mark.parametrize("how", ["get_swa_multi_avg_fn", "get_ema_multi_avg_fn", "get_ema_avg_fn"])
@pytest.mark.usefixtures("torch_in_double_precision")
def test_our_functions_work_in_torchs_averaged_model(how):
    twin = TorchNet(net(np.random.default_rng(2)))
    pair = [
        theirs.AveragedModel(twin, **{keyword(how): getattr(module, how)()})
        for module in (swa_utils, theirs)
    ]
    rng = np.random.default_rng(3)
    for _ in range(5):
        twin.follow(net(rng))
        for averaged in pair:
            averaged.update_parameters(twin)
    found, expected = (averaged.state_dict().values() for averaged in pair)
    close(found, expected, 1e-15)


def test_the_wrapper_and_the_state_dict_are_torchs():
    model = net(np.random.default_rng(4))
    model.inner[0].requires_grad = False
    model.eval()
    averaged = AveragedModel(model)
    assert averaged.training is True
    assert averaged.module.training is False
    assert [p.requires_grad for p in averaged.parameters()] == [True, False]
    assert not any(
        np.shares_memory(a.data, b.data) for a, b in zip(averaged.parameters(), model.parameters())
    )
    assert {*averaged.state_dict()} == {"n_averaged"} | {f"module.{k}" for k in model.state_dict()}
    assert [name for name, _ in averaged.named_parameters()] == ["module.weight", "module.inner.0"]
    x = np.ones((2, 3))
    assert (averaged(x) == model(x)).all()
    averaged.train(False)
    assert averaged.training is False


@pytest.mark.parametrize("module", [swa_utils, theirs], ids=["arrayopt", "torch"])
def test_two_functions_are_refused_as_in_torch(module):
    model = TorchNet(net(np.random.default_rng(0)))
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn"):
        module.AveragedModel(model, avg_fn=max, multi_avg_fn=max)


@pytest.mark.parametrize("get", [get_ema_avg_fn, get_ema_multi_avg_fn])
@pytest.mark.parametrize(
    ("decay", "error"),
    [(1.1, ValueError), (-0.1, ValueError), (math.nan, ValueError), ("0.9", TypeError)],
)
def test_a_wrong_decay_is_refused(get, decay, error):
    message = (
        f"Invalid decay value {decay} provided. Please provide a value in"
        if error is ValueError
        else "a number in .0, 1., or a function of the number of models"
    )
    with pytest.raises(error, match=message):
        get(decay)
    fn = get(lambda step: decay if step == 3 else 0.5)
    averages = [np.zeros(2)]
    arguments = (
        (averages, [np.ones(2)]) if get is get_ema_multi_avg_fn else (averages[0], 1 + averages[0])
    )
    fn(*arguments, 2)
    before = averages[0].copy()
    with pytest.raises(error, match="for step 3"):
        fn(*arguments, 3)
    assert (averages[0] == before).all()


# Any model of arrays


def models(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=4)
    return {
        "list": [a, b],
        "tuple": (a, b),
        "dict": {"a": a, "b": b},
        "nested": {"layers": [{"w": a}, (b,)], "steps": np.array(3)},
        "parameters": [Parameter(a), Parameter(b)],
        "modules": [Net(a, b, b.copy(), np.array(1))],
    }


def flat(model):
    """The arrays of a model, in order."""
    if isinstance(model, dict):
        return [array for value in model.values() for array in flat(value)]
    if isinstance(model, list | tuple):
        return [array for value in model for array in flat(value)]
    if isinstance(model, Module):
        return [*model.state_dict().values()]
    return [model if isinstance(model, np.ndarray) else model.data]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "nested", "parameters", "modules"])
@pytest.mark.parametrize("how", ["default", "ema multi", "own"])
def test_containers_of_arrays_are_models(kind, how):
    rng = np.random.default_rng(5)
    model = models(rng)[kind]
    before = [a.copy() for a in flat(model)]
    options = {
        "default": {},
        "ema multi": {"multi_avg_fn": get_ema_multi_avg_fn(0.75)},
        "own": {"avg_fn": lambda average, value, count: (average * count + value) / (count + 1)},
    }[how]
    averaged = AveragedModel(model, **options)
    expected = [a.copy() for a in before]
    for count in range(4):
        for array in flat(model):
            array += 1
        for i, array in enumerate(flat(model)):
            weight = 0.25 if how == "ema multi" else 1 / (count + 1)
            weight = 1 if count == 0 or array.dtype.kind == "i" else weight
            expected[i] = array * weight + expected[i] * (1 - weight)
            if kind == "modules" and i >= 2:  # buffers
                expected[i] = array.copy()
        averaged.update_parameters(model)
    close(flat(averaged.module), expected, 1e-15)
    assert not any(np.shares_memory(a, b) for a, b in zip(flat(model), flat(averaged.module)))
    if not isinstance(model, tuple):
        assert type(averaged.module) is type(model)
    with pytest.raises(TypeError, match="cannot be called; the averages are in"):
        averaged(1)


def test_an_array_that_stands_twice_is_averaged_once():
    w = np.array([2.0])
    model = {"encoder": w, "decoder": w}
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    w += 2
    averaged.update_parameters(model)
    assert averaged.module["encoder"] is averaged.module["decoder"]
    assert averaged.module["encoder"].tolist() == [3.0]
    assert [*averaged.state_dict()] == ["n_averaged", "module.encoder"]


@pytest.mark.parametrize("kind", ["parameters", "both"])
def test_parameters_on_one_array_are_averaged_once_each(kind):
    w = np.zeros(1)
    model = [Parameter(w), Parameter(w)] if kind == "parameters" else {"p": Parameter(w), "w": w}
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters(model)
    w[...] = 1
    averaged.update_parameters(model)
    assert [a.tolist() for a in flat(averaged.module)] == [[0.5], [0.5]]


@pytest.mark.parametrize(
    "model", [{1: np.ones(1), "1": np.ones(2)}, {"a.b": np.ones(1), "a": {"b": np.ones(2)}}]
)
def test_two_arrays_of_one_name_are_refused(model):
    with pytest.raises(ValueError, match="expected arrays of different names, but two are called"):
        AveragedModel(model)


def test_gradients_are_not_copied():
    param = Parameter(np.ones(2))
    param.grad = np.ones(2)
    averaged = AveragedModel([param])
    assert averaged.module[0].grad is None
    assert param.grad is not None


def test_containers_of_all_kinds_keep_their_kind_and_their_ties():
    shared = [np.ones(2, np.float16)]
    model = OrderedDict(a=(shared,), b=shared)
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert type(averaged.module) is OrderedDict
    assert averaged.module["a"][0] is averaged.module["b"]
    assert averaged.module["b"][0].dtype == np.float32


def test_half_precision_tensors_in_a_graph_leave_it():
    model = [torch.ones(2, requires_grad=True, dtype=torch.float16)]
    averaged = copy.deepcopy(AveragedModel(model))
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    assert averaged.module[0].is_leaf
    assert averaged.module[0].requires_grad


def test_an_expanded_buffer_gets_memory_of_its_own():
    class Expanded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("b", torch.ones(1).expand(3))

    model = Expanded()
    averaged = AveragedModel(model, use_buffers=True)
    for _ in range(3):
        averaged.update_parameters(model)
    assert averaged.module.b.tolist() == [1, 1, 1]


def test_masked_arrays_are_refused_at_once():
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match="0: masked arrays are not supported"):
        AveragedModel([masked])
    with pytest.raises(ValueError, match="0: expected a dense array, but got MaskedArray"):
        AveragedModel([np.ones(2)]).update_parameters([masked])


class Immutable(Module):
    def __init__(self, w):
        self.w = Parameter(w)


@pytest.mark.parametrize("kind", ["list", "module"])
def test_arrays_that_cannot_be_written_to_are_replaced(kind, monkeypatch):
    from arrayopt import batching, namespace, parameter
    from arrayopt.swa_utils import averaged_model, averages

    def is_writeable(array):  # as JAX has it
        return not isinstance(array, strict._array_object.Array)

    for module in (batching, namespace, parameter, averaged_model, averages):
        monkeypatch.setattr(module, "is_writeable", is_writeable)
    w = strict.asarray([1.0, 2.0])
    model = [w, w] if kind == "list" else Immutable(w)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))

    def current(model):
        return model[1] if kind == "list" else model.w.data

    first = current(averaged.module)
    for _ in range(2):
        averaged.update_parameters(model)
        new = current(model) + 2
        if kind == "list":
            model[:] = [new, new]
        else:
            model.w.data = new
    assert [float(x) for x in first] == [1.0, 2.0]
    assert [float(x) for x in current(averaged.module)] == [2.0, 3.0]
    kept = current(model)
    with averaged.swapped_into(model):
        assert [float(x) for x in current(model)] == [2.0, 3.0]
    assert current(model) is kept
    own = AveragedModel(model, multi_avg_fn=lambda averages, values, count: None)
    own.update_parameters(model)
    with pytest.raises(TypeError, match="cannot be written to, and a multi_avg_fn updates in pl"):
        own.update_parameters(model)
    with pytest.raises(TypeError, match="average 0 cannot be written to"):
        get_swa_multi_avg_fn()([w], [w], 1)


@pytest.mark.parametrize("library", ["strict", "torch"])
def test_other_array_libraries(library):
    make = strict.asarray if library == "strict" else torch.tensor
    model = Immutable(make([1.0, 2.0]))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        averaged.update_parameters(model)
        model.w.data[...] = model.w.data + 2.0
    assert [float(x) for x in averaged.module.w.data] == [3.5, 4.5]
    assert type(averaged.module.w.data) is type(model.w.data)


def test_a_torch_module_is_a_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double()
    pair = [module.AveragedModel(model) for module in (swa_utils, theirs)]
    data = [torch.randn(8, 3, dtype=torch.float64) for _ in range(5)]
    for batch in data:
        model(batch)
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p)
        for averaged in pair:
            averaged.update_parameters(model)
    for module, averaged in zip((swa_utils, theirs), pair):
        module.update_bn(data, averaged)
        averaged.eval()
    ours, expected = pair
    assert ours.state_dict().keys() == expected.state_dict().keys()
    close(ours.state_dict().values(), expected.state_dict().values(), 1e-14)
    close([ours(data[0]).detach()], [expected(data[0]).detach()], 1e-14)
    for names in ("named_parameters", "named_buffers", "named_modules"):
        mine, torchs = ([n for n, _ in getattr(each, names)()] for each in pair)
        assert sorted(mine) == sorted(torchs)
    assert not any(module.training for module in ours.modules())
    fresh = AveragedModel(model)
    fresh.load_state_dict(expected.state_dict())
    close(fresh.state_dict().values(), expected.state_dict().values(), 0)
    before = [p.detach().clone() for p in model.parameters()]
    with ours.swapped_into(model):
        close([model.eval()(data[0]).detach()], [expected(data[0]).detach()], 1e-14)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


def test_an_average_on_another_library_than_its_model():
    model = [torch.tensor([1.0, 2.0])]
    averaged = AveragedModel([np.zeros(2, np.float32)])
    for _ in range(3):
        averaged.update_parameters(model)
        model[0] += 3
    assert averaged.module[0].tolist() == [4.0, 5.0]


# Half precision, integers, dtypes


@long_run
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_precision_is_averaged_in_float32(dtype, implementation):
    model = {"w": np.ones(5, dtype)}
    options = IMPLEMENTATIONS[implementation]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), **options)
    averaged.update_parameters(model)
    model["w"][...] = 2
    for _ in range(1000):
        averaged.update_parameters(model)
    assert averaged.module["w"].dtype == np.float32
    # 2 - 0.999**1000; torch's average in half precision stays at 1
    np.testing.assert_allclose(averaged.module["w"], 2 - 0.999**1000, rtol=1e-5)
    with averaged.swapped_into(model):
        assert model["w"].dtype == dtype
        assert (model["w"] == averaged.module["w"].astype(dtype)).all()
    assert (model["w"] == 2).all()


def test_half_precision_modules_of_torch_are_averaged_in_float32():
    model = torch.nn.Linear(2, 2).half()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert {p.dtype for p in averaged.parameters()} == {torch.float32}
    assert averaged(torch.ones(1, 2)).dtype == torch.float32


def test_parameters_are_grouped_by_dtype_for_functions_of_ones_own():
    seen = []

    def keep(averages, values, count):
        seen.append((len(averages), {a.dtype for a in averages}, count, type(count)))
        assert all(a.dtype == v.dtype for a, v in zip(averages, values))

    model = [np.ones(2), np.ones(2, np.float32), np.ones(3), np.ones(2, np.float16), np.arange(2)]
    averaged = AveragedModel(model, multi_avg_fn=keep)
    averaged.update_parameters(model)
    assert seen == [], "the first model is copied"
    averaged.update_parameters(model)
    assert seen == [(2, {np.dtype("f8")}, 1, int), (2, {np.dtype("f4")}, 1, int)]


@pytest.mark.parametrize("kind", ["own avg", "own multi", "ours"])
def test_integers_and_booleans_are_copied(kind):
    model = {"w": np.ones(1), "n": np.array([7]), "mask": np.array([True, False])}

    def multi(averages, values, count):
        assert all(is_floating(a) for a in averages)

    options = {
        "own avg": {"avg_fn": lambda a, v, n: a},
        "own multi": {"multi_avg_fn": multi},
        "ours": {"multi_avg_fn": get_ema_multi_avg_fn()},
    }[kind]
    averaged = AveragedModel(model, use_buffers=True, **options)
    for n in (3, 10):
        model["n"][...] = n
        model["mask"][...] = ~model["mask"]
        averaged.update_parameters(model)
        assert averaged.module["n"].tolist() == [n]
        assert (averaged.module["mask"] == model["mask"]).all()
    function = get_swa_multi_avg_fn()
    averages = [np.array([1, 2]), np.zeros(2)]
    function(averages, [np.array([5, 6]), np.ones(2)], 1)
    assert [a.tolist() for a in averages] == [[5, 6], [0.5, 0.5]]
    assert get_swa_avg_fn()(np.array([1, 2]), np.array([5, 6]), 1).tolist() == [5, 6]


# The weights of the models


@given(st.floats(0, 1), st.integers(1, 30), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_ema_is_the_weighted_sum_of_its_definition(decay, length, warmup, by_step, seed):
    """With bias correction, Adam's first moment over its correction; without, the recursion."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(length, 3))
    rates = decay ** np.arange(1, length + 1) if by_step else np.full(length, decay)
    if warmup:
        n = np.arange(length)
        rates = np.minimum(rates, (1 + n) / (10 + n))
    schedule = (lambda n: decay ** (n + 1)) if by_step else decay
    for corrected in (False, True):
        model = [values[0].copy()]
        fn = get_ema_multi_avg_fn(schedule, warmup=warmup, bias_correction=corrected)
        averaged = AveragedModel(model, multi_avg_fn=fn)
        for value in values:
            model[0][...] = value
            averaged.update_parameters(model)
        moment, total = np.zeros(3), 0.0
        for n, (value, rate) in enumerate(zip(values, rates)):
            rate = 0.0 if n == 0 and not corrected else rate
            moment = rate * moment + (1 - rate) * value
            total = rate * total + (1 - rate)
        if total > 1e-3:  # (below, the reference itself loses digits)
            np.testing.assert_allclose(
                averaged.module[0], moment / total, rtol=0, atol=1e-12 * np.abs(values).max()
            )


def test_bias_correction_with_a_decay_of_one_keeps_the_first_model():
    model = [np.array([1.0])]
    fn = get_ema_multi_avg_fn(1.0, bias_correction=True)
    averaged = AveragedModel(model, multi_avg_fn=fn)
    for value in (1.0, 5.0, 9.0):
        model[0][...] = value
        averaged.update_parameters(model)
    assert averaged.module[0].tolist() == [1.0]


def halved(step):
    return 1 - 0.5 ** (step + 1)


# The extremes of float32 take part; what comes of them is the same in all implementations.
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=4),
    st.floats(0, 1, width=32),
    st.sampled_from(["f4", "f8", "c8"]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=40)
def test_implementations_give_the_same_bits(sizes, decay, dtype, seed):
    rng = np.random.default_rng(seed)

    def arrays():
        return [
            (10.0 ** rng.integers(-38, 38, size)).astype(dtype) * rng.choice([-1, 0, 1], size)
            for size in sizes
        ]

    arrays = [[a.astype(dtype) for a in arrays()] for _ in range(4)]
    results = []
    for options in IMPLEMENTATIONS.values():
        model = [a.copy() for a in arrays[0]]
        fn = get_ema_multi_avg_fn(decay)
        averaged = AveragedModel(model, multi_avg_fn=fn, **options)
        for values in arrays:
            for target, value in zip(model, values):
                target[...] = value
            averaged.update_parameters(model)
        results.append(b"".join(a.tobytes() for a in averaged.module))
    assert len({*results}) == 1


# What the model is, may change


def test_parameters_that_are_replaced_are_found():
    model = net(np.random.default_rng(6))
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    model.weight = Parameter(model.weight.data + 2)
    model.inner[0] = Parameter(model.inner[0].data + 2)
    expected = model.weight.data - 1, model.inner[0].data - 1
    averaged.update_parameters(model)
    close([p.data for p in averaged.module.parameters()], expected, 1e-15)
    averaged.module.weight = Parameter(averaged.module.weight.data.copy())
    averaged.update_parameters(model)
    close([averaged.module.weight.data], [expected[0] + 1 / 3], 1e-15)
    model.weight.data = model.weight.data + 4
    averaged.update_parameters(model)
    close([averaged.module.weight.data], [expected[0] + 1.5], 1e-15)


def test_a_model_that_is_gone_leaves_nothing():
    model = net(np.random.default_rng(7))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn())
    for _ in range(3):
        averaged.update_parameters(model)
    dead = [weakref.ref(model), weakref.ref(model.weight), weakref.ref(model.weight.data)]
    del model
    gc.collect()
    assert all(ref() is None for ref in dead)
    other = net(np.random.default_rng(8))
    averaged.update_parameters(other)
    assert averaged.n_averaged == 4


@pytest.mark.parametrize("kind", ["module", "list"])
def test_values_are_not_kept_alive(kind):
    model = net(np.random.default_rng(7)) if kind == "module" else [np.ones(3), np.ones(4)]
    averaged = AveragedModel(model)
    for _ in range(6):
        averaged.update_parameters(model)
    dead = weakref.ref(flat(model)[0])
    del model
    gc.collect()
    assert dead() is None
    assert averaged.n_averaged == 6


def test_a_model_whose_parts_refer_to_it_is_not_kept_alive():
    class Part(Module):
        def __init__(self, parent):
            self.parent = parent
            self.weight = Parameter(np.ones(2))

    class Whole(Module):
        def __init__(self):
            self.part = Part(self)

    model = Whole()
    averaged = AveragedModel(model)
    for _ in range(3):
        averaged.update_parameters(model)
    dead = weakref.ref(model)
    del model
    gc.collect()
    assert dead() is None


def test_several_models_may_be_averaged_in_turn():
    rng = np.random.default_rng(9)
    several = [net(rng) for _ in range(3)]
    averaged = AveragedModel(several[0])
    for model in several:
        averaged.update_parameters(model)
    mean = np.mean([model.weight.data for model in several], axis=0)
    close([averaged.module.weight.data], [mean], 1e-15)


# Bad input


def without_weight(model):
    del model.weight


BAD_MODELS = {
    "missing": (without_weight, "missing: weight"),
    "unexpected": (lambda m: setattr(m, "more", Parameter(np.ones(1))), "unexpected: more"),
    "shape": (
        lambda m: setattr(m.inner[0], "data", np.ones(3)),
        r"inner.0: expected shape \(4,\), but got \(3,\)",
    ),
    "buffer": (
        lambda m: setattr(m.inner[1], "data", np.ones(6)),
        r"inner.1: expected shape \(5,\), but got \(6,\)",
    ),
    "kind": (
        lambda m: setattr(m.weight, "data", np.ones((3, 4), complex)),
        "weight: dtype complex128 cannot be cast to float64",
    ),
}


@pytest.mark.parametrize("bad", BAD_MODELS)
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("how", ["default", "own"])
@pytest.mark.parametrize("updates", [0, 1, 2])
def test_a_model_that_does_not_match_changes_nothing(bad, use_buffers, how, updates):
    rng = np.random.default_rng(10)
    model = net(rng)
    options = {"avg_fn": lambda a, v, n: v} if how == "own" else {}
    averaged = AveragedModel(model, use_buffers=use_buffers, **options)
    for _ in range(updates):
        averaged.update_parameters(model)
    move(model, rng)
    before = copy.deepcopy(averaged.state_dict())
    spoil, message = BAD_MODELS[bad]
    spoil(model)
    for attempt in (averaged.update_parameters, lambda m: averaged.swapped_into(m).__enter__()):
        with pytest.raises(ValueError, match=f"is not like the averages: .*{message}"):
            attempt(model)
    after = averaged.state_dict()
    assert all((after[name] == before[name]).all() for name in before)


def test_an_average_that_is_read_only_is_refused():
    model = net(np.random.default_rng(11))
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    averaged.module.weight.data.flags.writeable = False
    before = averaged.module.inner[0].data.copy()
    model.inner[0].data += 1
    with pytest.raises(ValueError, match="weight: expected an array that can be written to"):
        averaged.update_parameters(model)
    assert (averaged.module.inner[0].data == before).all()
    assert averaged.n_averaged == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "expected a Module, or a list or dict of arrays, .* but got int"),
        ((np.ones(3),), TypeError, "but got ndarray"),
        (([1.0, 2.0],), TypeError, "expected an array as '0' of the model, but got float"),
        (({"a": {"b": None}},), TypeError, "expected an array as 'a.b' of the model"),
        (([],), ValueError, "expected a model with weights, but list has none"),
        (([np.arange(3)],), ValueError, "expected a model with weights"),
        (([np.ones(3)], get_ema_multi_avg_fn()), TypeError, "pass it as multi_avg_fn="),
        (([np.ones(3)], None, 0.9), TypeError, "avg_fn must be callable, but got float"),
        (([np.ones(3)], None, None, 0.9), TypeError, "multi_avg_fn must be callable, but got"),
    ],
)
def test_what_is_no_model_or_no_function_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        AveragedModel(*arguments)


def test_an_implementation_that_is_not_there_is_refused_at_once():
    with pytest.raises(RuntimeError, match="no installed backend has a foreach implementation"):
        AveragedModel([torch.ones(3)], foreach=True)


def test_functions_check_their_arguments():
    multi = get_swa_multi_avg_fn()
    average = np.zeros(2)
    with pytest.raises(ValueError, match="expected as many arrays as averages, 1, but got 2"):
        multi([average], [average, average], 1)
    with pytest.raises(ValueError, match=r"average 0: expected shape \(2,\), but got \(3,\)"):
        multi([average], [np.ones(3)], 1)
    with pytest.raises(ValueError, match=r"num_averaged: expected a non-negative .* got -1"):
        multi([average], [np.ones(2)], -1)
    with pytest.raises(TypeError, match="expected a number"):
        multi([average], [np.ones(2)], "1")
    assert not average.any()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (np.ones(3), r"what avg_fn returned for 1: expected shape \(2,\), but got \(3,\)"),
        (None, "what avg_fn returned for 1: expected a dense array, but got NoneType"),
        (np.ones(2, complex), "what avg_fn returned for 1: dtype complex128 cannot be cast"),
    ],
)
def test_what_avg_fn_returns_is_checked_before_anything_changes(new, message):
    model = [np.ones(2), np.ones(2), np.arange(2)]
    averaged = AveragedModel(model, avg_fn=lambda a, v, n: v + 1 if v[0] == 5 else new)
    averaged.update_parameters(model)
    model[0][...], model[2][...] = 5, 9
    with pytest.raises(ValueError, match=message):
        averaged.update_parameters(model)
    assert [a.tolist() for a in averaged.module] == [[1, 1], [1, 1], [0, 1]]
    assert averaged.n_averaged == 1


def test_a_number_from_avg_fn_is_taken_for_an_array_of_no_dimensions():
    model = [np.array(1.0)]
    averaged = AveragedModel(model, avg_fn=lambda a, v, n: a + v)  # a NumPy scalar
    for _ in range(3):
        averaged.update_parameters(model)
    assert averaged.module[0] == 3.0


# Swapping


def test_swapping_in_is_the_averaged_model_and_back_is_the_model():
    rng = np.random.default_rng(12)
    model = net(rng)
    averaged = AveragedModel(model, use_buffers=True)
    for _ in range(3):
        move(model, rng)
        averaged.update_parameters(model)
    arrays = [*model.state_dict().values()]
    before = [a.copy() for a in arrays]
    x = rng.normal(size=(2, 3))
    with averaged.swapped_into(model) as same:
        assert same is model
        assert (model(x) == averaged(x)).all()
        assert all(a is b for a, b in zip(model.state_dict().values(), arrays))
        model.inner[1].data += 1  # statistics that a forward pass changes
        model.weight.data = np.zeros((3, 4))
        with pytest.raises(RuntimeError, match="cannot be updated inside of swapped_into"):
            averaged.update_parameters(model)
    assert all(a is b for a, b in zip(model.state_dict().values(), arrays))
    assert all((a == b).all() for a, b in zip(arrays, before))
    averaged.update_parameters(model)
    assert averaged.n_averaged == 4


def test_an_exception_inside_puts_the_weights_back():
    model = net(np.random.default_rng(13))
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    model.weight.data += 1
    before = model.weight.data.copy()
    with pytest.raises(KeyError), averaged.swapped_into(model):  # noqa: PT012
        np.testing.assert_allclose(model.weight.data, before - 1, rtol=0, atol=1e-15)
        {}["nothing"]
    assert (model.weight.data == before).all()
    averaged.update_parameters(model)  # is possible again


def test_one_array_that_cannot_be_put_back_does_not_keep_the_others():
    model = [np.ones(2), np.ones(2), np.ones(2)]
    averaged = AveragedModel(model)
    for array in model:
        array += 1
    with pytest.raises(ValueError, match="read-only"), averaged.swapped_into(model):
        model[1].flags.writeable = False
    assert [a.tolist() for a in model] == [[2, 2], [1, 1], [2, 2]]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "nested", "parameters", "modules"])
def test_every_kind_of_model_is_swapped_and_put_back(kind):
    model = models(np.random.default_rng(5))[kind]
    averaged = AveragedModel(model, use_buffers=True)
    averaged.update_parameters(model)
    expected = [a.copy() for a in flat(averaged.module)]
    arrays = flat(model)
    for array in arrays:
        array += 1
    before = [a.copy() for a in arrays]
    with averaged.swapped_into(model):
        assert all((a == e).all() for a, e in zip(flat(model), expected))
    assert all(a is b for a, b in zip(flat(model), arrays))
    assert all((a == b).all() for a, b in zip(arrays, before))


def test_an_array_that_is_taken_out_meanwhile_is_put_back():
    model = [np.ones(1), np.ones(1)]
    averaged = AveragedModel(model)
    first = model[0]
    first += 1
    with averaged.swapped_into(model):
        model[0] = np.zeros(1)
    assert model[0] is first
    assert first.tolist() == [2.0]
    with pytest.raises(IndexError), averaged.swapped_into(model):
        model.clear()
    assert first.tolist() == [2.0]


def test_swaps_may_end_in_any_order_and_are_not_saved():
    averaged = AveragedModel([np.zeros(1)])
    models = [np.ones(1)], [np.ones(1)]
    one, two = (averaged.swapped_into(model) for model in models)
    one.__enter__()
    two.__enter__()
    saved = pickle.loads(pickle.dumps(averaged)), copy.deepcopy(averaged)
    one.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="inside of swapped_into"):
        averaged.update_parameters(models[0])
    two.__exit__(None, None, None)
    for each in (averaged, *saved):
        each.update_parameters(models[0])
        assert each.n_averaged == 1


def test_swapping_nests():
    model = [np.array([0.0])]
    one, two = AveragedModel([np.array([1.0])]), AveragedModel([np.array([2.0])])
    with one.swapped_into(model):
        with two.swapped_into(model):
            assert model[0].tolist() == [2.0]
        assert model[0].tolist() == [1.0]
        with one.swapped_into(model):
            pass
        with pytest.raises(RuntimeError, match="inside of swapped_into"):
            one.update_parameters(model)
    assert model[0].tolist() == [0.0]


# Saving


@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("schedule", [0.99, halved])
@pytest.mark.parametrize("kind", ["module", "list"])
def test_resuming_is_exact(way, schedule, kind):
    def make(model):
        fn = get_ema_multi_avg_fn(schedule, warmup=True, bias_correction=True)
        return AveragedModel(model, multi_avg_fn=fn, use_buffers=True)

    def fresh():
        model = net(np.random.default_rng(0), np.float32)
        return model if kind == "module" else [*model.state_dict().values()][:3]

    def run(averaged, model, rng, steps):
        for _ in range(steps):
            for array in flat(model):
                array[...] = rng.normal(size=array.shape) * 9
            averaged.update_parameters(model)

    rng, model = np.random.default_rng(1), fresh()
    straight = make(model)
    run(straight, model, rng, 60)
    rng, model = np.random.default_rng(1), fresh()
    first = make(model)
    run(first, model, rng, 23)
    if way == "state_dict":
        second = make(fresh())
        saved = {name: array.copy() for name, array in first.state_dict().items()}
        assert second.load_state_dict(saved) == ([], [])
    else:
        second = pickle.loads(pickle.dumps(first)) if way == "pickle" else copy.deepcopy(first)
    run(first, model, np.random.default_rng(7), 2)  # goes its own way
    run(second, model, rng, 37)
    found, expected = second.state_dict(), straight.state_dict()
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_loading_checks_first():
    model = net(np.random.default_rng(14))
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    bad = {**averaged.state_dict(), "module.weight": np.ones(2)}
    with pytest.raises(RuntimeError, match=r"module.weight: expected shape \(3, 4\)"):
        averaged.load_state_dict(bad)
    with pytest.raises(RuntimeError, match="missing keys: n_averaged"):
        averaged.load_state_dict({k: v for k, v in bad.items() if k != "n_averaged"})
    assert averaged.n_averaged == 1
    for count in (-1, 2.5, "2"):
        with pytest.raises((ValueError, TypeError), match="n_averaged"):
            averaged.n_averaged = count
    with pytest.raises(ValueError, match=r"n_averaged: .* but got .*-3"):
        averaged.load_state_dict({**averaged.state_dict(), "n_averaged": np.array(-3)})
    assert averaged.n_averaged == 1
    averaged.n_averaged = 0
    model.weight.data[...] = 7
    averaged.update_parameters(model)
    assert (averaged.module.weight.data == 7).all()


def test_state_of_torchs_averaged_model_is_loaded():
    twin = torch.nn.Linear(3, 4).double()
    torchs = theirs.AveragedModel(twin)
    for _ in range(3):
        torchs.update_parameters(twin)
    ours = AveragedModel({"weight": np.zeros((4, 3)), "bias": np.zeros(4)})
    ours.load_state_dict(torchs.state_dict())
    assert ours.n_averaged == 3
    assert (ours.module["weight"] == twin.weight.detach().numpy()).all()


def test_functions_can_be_pickled():
    for fn in (
        get_swa_avg_fn(),
        get_swa_multi_avg_fn(),
        get_ema_avg_fn(0.5),
        get_ema_multi_avg_fn(halved),
    ):
        again = pickle.loads(pickle.dumps(fn))
        assert repr(again) == repr(fn)
        assert again.weight(3) == fn.weight(3)


def test_an_average_that_two_models_share_does_not_begin_again():
    calls = []

    def decay(step):
        calls.append(step)
        return 0.5

    fn = get_ema_multi_avg_fn(decay, bias_correction=True)
    old, new = ([np.zeros(1)] for _ in range(2))
    for count in range(300, 320):
        fn(old, [np.ones(1)], count)
        fn(new, [np.ones(1)], count - 300)
    assert len(calls) < 400


def test_torch_modules_train_in_their_own_way():
    class Frozen(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(2)

        def train(self, mode=True):
            super().train(mode)
            self.norm.training = False
            return self

    averaged = AveragedModel(Frozen())
    assert averaged.train() is averaged
    assert (averaged.training, averaged.module.training) == (True, True)
    assert averaged.module.norm.training is False
    assert [name for name, _ in averaged.named_children()] == ["module"]


def test_it_shows_what_it_is():
    model = net(np.random.default_rng(16))
    fn = get_ema_multi_avg_fn(0.9, warmup=True)
    assert repr(AveragedModel(model, multi_avg_fn=fn)) == (
        "AveragedModel(Net of 2 parameters and 2 buffers, EMA(decay=0.9, warmup=True), "
        "n_averaged=0)"
    )
    assert "SWA" in repr(AveragedModel([np.ones(2)]))
    assert repr(fn) == "<MultiAvgFn of EMA(decay=0.9, warmup=True)>"
    assert AveragedModel([np.ones(2)], avg_fn=lambda a, v, n: a).implementation == ()


def test_a_device_is_where_the_averages_are():
    averaged = AveragedModel(torch.nn.Linear(2, 2), device="meta")
    assert {str(p.device) for p in averaged.parameters()} == {"meta"}
    assert AveragedModel([np.ones(2)], device="cpu").module[0].tolist() == [1, 1]


def test_optimizer_and_average_go_together():
    """An exponential average of w_t = 0.5**t with decay 0.5 is (t + 1) 0.5**t, a sum by hand."""
    w = np.array([1.0])
    opt = optim.SGD([w], lr=0.5)
    averaged = AveragedModel([w], multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters([w])
    for _ in range(10):
        opt.step(grads=[w])
        averaged.update_parameters([w])
    assert averaged.module[0] == pytest.approx((1 + 10 / 2) * 0.5**10, rel=1e-14)
