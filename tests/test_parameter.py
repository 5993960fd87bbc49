"""Parameter, Buffer and Module."""

import copy
import pickle
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
import torch
from arrays import LIBRARIES

from arrayopt import SGD, Buffer, Module, Parameter
from arrayopt.namespace import is_sparse


class Linear(Module):
    def __init__(self, inputs=2, outputs=3, xp=np):
        self.weight = Parameter(xp.ones((inputs, outputs), dtype=xp.float32))
        self.bias = Parameter(xp.zeros(outputs, dtype=xp.float32))
        self.seen = Buffer(xp.zeros(1, dtype=xp.int64))


class Tree(Module):
    """A parameter in every place where one can stand."""

    def __init__(self, xp=np):
        self.scale = Parameter(xp.ones(2))
        self.layers = [Linear(xp=xp), (Linear(xp=xp), {"inner": Parameter(xp.zeros(()))})]
        self.heads = {"a": Linear(xp=xp), 7: Buffer(xp.zeros(4), persistent=False)}
        self.name = "not a parameter"
        self.array = xp.ones(5)


def names(entries):
    return [name for name, _ in entries]


# Parameter and Buffer


def test_parameter_is_a_view_of_its_data(xp):
    data = xp.ones((2, 3), dtype=xp.float32)
    parameter = Parameter(data)
    assert parameter.data is data
    assert (parameter.shape, parameter.ndim, parameter.size) == ((2, 3), 2, 6)
    assert parameter.dtype == xp.float32
    assert parameter.grad is None
    assert parameter.name is None
    assert parameter.requires_grad


def test_parameter_of_no_dimensions_and_of_no_elements(xp):
    scalar, empty = Parameter(xp.asarray(1.0)), Parameter(xp.zeros((0, 3)))
    assert (scalar.shape, scalar.ndim, scalar.size) == ((), 0, 1)
    assert (empty.shape, empty.ndim, empty.size) == ((0, 3), 2, 0)


def test_repr_tells_name_shape_dtype_and_frozen():
    parameter = Parameter(np.zeros((2, 3)), name="w", requires_grad=False)
    assert repr(parameter) == "Parameter('w', shape=(2, 3), dtype=float64, requires_grad=False)"
    assert repr(Buffer(np.zeros(2, np.int8))) == "Buffer(shape=(2,), dtype=int8)"


@pytest.mark.parametrize("kind", [Parameter, Buffer])
@pytest.mark.parametrize(
    "value",
    [[1.0, 2.0], (1.0,), 1.0, 2, None, "w", np.float64(1), scipy.sparse.csr_array(np.eye(2))],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_array_is_refused(kind, value):
    expected = f"{kind.__name__} expects an array .* but got {type(value).__name__}"
    with pytest.raises(TypeError, match=expected):
        kind(value)


def test_zero_grad_forgets_the_gradient(xp):
    parameter = Parameter(xp.ones(2))
    parameter.grad = xp.ones(2)
    parameter.zero_grad()
    assert parameter.grad is None
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad is None


def test_zero_grad_in_place(xp):
    parameter = Parameter(xp.ones(2))
    parameter.grad = grad = xp.asarray([np.nan, 2.0])
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad is grad
    assert np.asarray(grad).tolist() == [0, 0]


def test_zero_grad_replaces_a_gradient_that_cannot_be_written_to():
    parameter = Parameter(np.ones(2))
    parameter.grad = grad = np.broadcast_to(3.0, (2,))
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad.tolist() == [0, 0]
    assert grad.tolist() == [3, 3]


@pytest.mark.parametrize(
    "grad",
    [
        torch.eye(2).to_sparse(),
        scipy.sparse.csr_array(np.eye(2)),
        scipy.sparse.coo_array(np.eye(2)),
    ],
    ids=["torch", "scipy csr", "scipy coo"],
)
def test_zero_grad_of_a_sparse_gradient(grad):
    parameter = Parameter(np.ones((2, 2)))
    parameter.grad = grad
    parameter.zero_grad(set_to_none=False)
    grad = parameter.grad
    assert is_sparse(grad)
    dense = grad.to_dense() if isinstance(grad, torch.Tensor) else grad.todense()
    assert dense.tolist() == [[0, 0], [0, 0]]


def test_zero_grad_of_a_gradient_in_a_graph():
    parameter = Parameter(torch.ones(2))
    parameter.grad = torch.ones(2, requires_grad=True) * 2
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad.tolist() == [0, 0]


# The tree


def test_names_follow_attributes_indices_and_keys():
    tree = Tree()
    linears = ["layers.0", "layers.1.0", "heads.a"]
    assert names(tree.named_modules()) == ["", *linears]
    assert names(tree.named_children()) == linears
    assert names(tree.named_parameters()) == [
        "scale",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.0.weight",
        "layers.1.0.bias",
        "layers.1.1.inner",
        "heads.a.weight",
        "heads.a.bias",
    ]
    assert names(tree.named_buffers()) == [
        "layers.0.seen",
        "layers.1.0.seen",
        "heads.a.seen",
        "heads.7",
    ]


def test_names_without_recursion_and_with_a_prefix():
    tree = Tree()
    assert names(tree.named_parameters(recurse=False)) == ["scale", "layers.1.1.inner"]
    assert names(tree.named_buffers(recurse=False)) == ["heads.7"]
    assert names(Linear().named_parameters("net")) == ["net.weight", "net.bias"]
    assert names(Linear().named_buffers("net")) == ["net.seen"]
    assert names(Linear().named_modules("net")) == ["net"]


def test_iterators_without_names_agree_with_those_with():
    tree = Tree()
    for kind in ("parameters", "buffers", "modules", "children"):
        unnamed, named = getattr(tree, kind)(), getattr(tree, f"named_{kind}")()
        assert all(a is b for a, (_, b) in zip(unnamed, named, strict=True))


def test_tied_weights_are_listed_once_under_their_first_name():
    model = Module()
    model.encoder, model.decoder = Linear(), Linear()
    model.decoder.weight = model.encoder.weight
    model.again = [model.encoder]
    assert names(model.named_parameters()) == ["encoder.weight", "encoder.bias", "decoder.bias"]
    assert names(model.named_modules()) == ["", "encoder", "decoder"]
    assert "decoder.weight" not in model.state_dict()


def test_a_cycle_of_modules_is_walked_once():
    parent, child = Module(), Linear()
    parent.children_ = [child]
    child.parent = parent
    child.itself = child
    assert names(parent.named_modules()) == ["", "children_.0"]
    assert names(child.named_parameters()) == ["weight", "bias"]
    assert names(parent.train(False).named_parameters()) == [
        "children_.0.weight",
        "children_.0.bias",
    ]
    assert not child.training


def test_a_module_used_twice_at_every_level_is_walked_in_linear_time():
    module = Linear()
    for _ in range(100):
        above = Module()
        above.left = above.right = module
        module = above
    assert names(module.named_parameters()) == ["left." * 100 + "weight", "left." * 100 + "bias"]


def test_modules_are_told_apart_by_identity_not_by_equality():
    @dataclass
    class Block(Module):
        size: np.ndarray
        inner: Any = None

    model = Block(np.ones(2), Block(np.ones(2), Block(np.ones(2))))  # == raises on arrays
    assert names(model.named_modules()) == ["", "inner", "inner.inner"]

    @dataclass
    class Wrap(Module):
        inner: Any = None

        def __eq__(self, other):
            return True

    assert names(Wrap(Wrap(Wrap())).named_modules()) == ["", "inner", "inner.inner"]


def test_a_module_without_members():
    module = Module()
    assert list(module.parameters()) == list(module.buffers()) == list(module.children()) == []
    assert module.state_dict() == {}
    assert repr(module) == "Module()"


def test_repr_is_the_tree():
    model = Module()
    model.layers = [Linear(1, 2)]
    assert repr(model).splitlines() == [
        "Module(",
        "  layers.0: Linear(",
        "    weight: Parameter(shape=(1, 2), dtype=float32)",
        "    bias: Parameter(shape=(2,), dtype=float32)",
        "    seen: Buffer(shape=(1,), dtype=int64)",
        "  )",
        ")",
    ]


def test_train_and_eval_reach_the_whole_tree():
    tree = Tree()
    assert all(module.training for module in tree.modules())
    assert tree.eval() is tree
    assert not any(module.training for module in tree.modules())
    assert tree.train() is tree
    assert all(module.training for module in tree.modules())
    assert Module.training
    with pytest.raises(ValueError, match="expected to be a bool"):
        tree.train("yes")


def test_zero_grad_and_requires_grad_reach_the_whole_tree(xp):
    tree = Tree(xp)
    for parameter in tree.parameters():
        parameter.grad = xp.ones(parameter.shape, dtype=parameter.dtype)
    tree.zero_grad(set_to_none=False)
    assert not any(np.any(np.asarray(parameter.grad)) for parameter in tree.parameters())
    tree.zero_grad()
    assert all(parameter.grad is None for parameter in tree.parameters())
    assert tree.requires_grad_(False) is tree
    assert not any(parameter.requires_grad for parameter in tree.parameters())
    assert all(parameter.requires_grad for parameter in tree.requires_grad_().parameters())


# Saving and loading


def test_state_dict_holds_the_arrays_themselves_and_no_transient_buffer(xp):
    tree = Tree(xp)
    state = tree.state_dict()
    persistent = [name for name, buffer in tree.named_buffers() if buffer.persistent]
    assert list(state) == names(tree.named_parameters()) + persistent
    assert "heads.7" not in state
    assert state["layers.0.weight"] is tree.layers[0].weight.data


@pytest.mark.parametrize("source", LIBRARIES.values(), ids=LIBRARIES)
def test_load_state_dict_copies_into_the_memory_of_the_parameters(xp, source):
    target = Linear(xp=xp)
    before = target.state_dict()
    weight = [[1.5, 2.5, -3.5], [4.0, 5.0, 6.0]]
    saved = {
        "weight": source.asarray(weight, dtype=source.float64),
        "bias": source.asarray([1, 2, 3], dtype=source.int32),
        "seen": source.asarray([7], dtype=source.int64),
    }
    assert target.load_state_dict(saved) == ([], [])
    after = target.state_dict()
    assert all(after[name] is before[name] for name in before)
    assert np.asarray(after["weight"]).tolist() == weight
    assert [after[name].dtype for name in after] == [xp.float32, xp.float32, xp.int64]
    saved["weight"][0, 0] = 100.0
    assert float(target.weight.data[0, 0]) == 1.5


def test_load_state_dict_of_own_arrays_swapped():
    model = Linear(2, 2)
    model.other = Parameter(np.full((2, 2), 5.0, np.float32))
    state = model.state_dict()
    model.load_state_dict(state | {"weight": state["other"], "other": state["weight"]})
    assert model.weight.data.tolist() == [[5, 5], [5, 5]]
    assert model.other.data.tolist() == [[1, 1], [1, 1]]


def test_load_state_dict_rebinds_data_that_cannot_be_written_to():
    model = Module()
    frozen = np.broadcast_to(np.float32(1), (3,))
    model.mask = Buffer(frozen)
    model.load_state_dict({"mask": np.arange(3)})
    assert model.mask.data.tolist() == [0, 1, 2]
    assert model.mask.data.dtype == np.float32
    assert frozen.tolist() == [1, 1, 1]


def test_load_state_dict_between_libraries_in_bfloat16():
    saved, loaded = Module(), Module()
    saved.w = Parameter(torch.tensor([1.0, -0.5], dtype=torch.bfloat16))
    loaded.w = Parameter(np.zeros(2, ml_dtypes.bfloat16))
    loaded.load_state_dict(saved.state_dict())
    assert loaded.w.data.astype(float).tolist() == [1.0, -0.5]


def test_strict_loading_names_what_differs_and_changes_nothing():
    model = Linear()
    state = {"weight": np.full((2, 3), 9.0), "seen": np.ones(1, int), "extra": np.ones(1)}
    message = r"into Linear: missing keys: bias; unexpected keys: extra$"
    with pytest.raises(RuntimeError, match=message):
        model.load_state_dict(state)
    assert (model.weight.data == 1).all()
    assert model.load_state_dict(state, strict=False) == (["bias"], ["extra"])
    assert (model.weight.data == 9).all()


@pytest.mark.parametrize("strict", [True, False])
def test_a_wrong_shape_changes_nothing(xp, strict):
    model = Linear(xp=xp)
    state = {"weight": np.full((2, 3), 9.0), "bias": np.ones(4), "seen": np.ones(1)}
    message = r"bias: expected shape \(3,\), but got \(4,\)"
    with pytest.raises(RuntimeError, match=message):
        model.load_state_dict(state, strict=strict)
    assert (np.asarray(model.weight.data) == 1).all()
    assert np.asarray(model.seen.data).tolist() == [0]


def tied_model(xp):
    model = Module()
    model.encoder, model.decoder = Linear(xp=xp), Linear(xp=xp)
    model.decoder.weight = model.encoder.weight
    model.encoder.weight.grad = xp.ones((2, 3), dtype=xp.float32)
    model.encoder.weight.requires_grad = False
    return model.eval()


def roundtrip(obj):
    return pickle.loads(pickle.dumps(obj))


@pytest.mark.parametrize("xp", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, roundtrip])
def test_copies_have_memory_of_their_own_and_stay_tied(xp, duplicate):
    model = tied_model(xp)
    twin = duplicate(model)
    assert twin.decoder.weight is twin.encoder.weight
    assert twin.encoder.weight is not model.encoder.weight
    assert not twin.encoder.training
    assert not twin.encoder.weight.requires_grad
    assert np.asarray(twin.encoder.weight.grad).tolist() == [[1] * 3] * 2
    twin.encoder.weight.data[...] = 5
    assert np.asarray(model.encoder.weight.data).tolist() == [[1] * 3] * 2


def test_a_step_writes_to_the_memory_that_the_user_holds(xp):
    data = xp.ones((2, 3), dtype=xp.float32)
    layer = Linear(xp=xp)
    layer.weight = Parameter(data)
    layer.weight.grad = xp.ones((2, 3), dtype=xp.float32)
    SGD(layer.parameters(), lr=0.25).step()
    assert layer.weight.data is data
    assert np.asarray(data).tolist() == [[0.75] * 3] * 2


def test_other_attributes_are_left_alone():
    model = Module()
    model.config = SimpleNamespace(weight=Parameter(np.ones(1)))
    model.array = np.ones(3)
    model.sets = {"a": {1, 2}}
    assert list(model.parameters()) == []
