"""Saving and loading: torch's layout, the same bits afterwards, checks before changes, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from arrays import normal
from stepping import bits, state_bits, take

import arrayopt as optim

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1}),
]
SHAPES = [(3,), (2, 2), ()]


def parameters(dtype=np.float64):
    return [optim.Parameter(array) for array in normal(0, SHAPES, dtype)]


def everything(opt):
    """Parameters and state to the bit, and the options of all groups as they print."""
    groups = [{k: repr(v) for k, v in group.items() if k != "params"} for group in opt.param_groups]
    return bits(opt), groups


def named(*names, shape=2):
    ps = [optim.Parameter(np.full(shape, float(ord(name)))) for name in names]
    for p in ps:
        p.grad = p.data.copy()
    return list(zip(names, ps))


# The layout


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_layout_is_torchs(name, options):
    ps = parameters()
    qs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ps]
    ours = getattr(optim, name)([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}], **options)
    theirs = getattr(torch.optim, name)(
        [{"params": qs[:1]}, {"params": qs[1:], "lr": 0.5}], **options
    )
    for p, q in zip(ps[:2], qs):
        p.grad, q.grad = np.ones(p.shape), torch.ones_like(q)
    ours.step()
    theirs.step()
    saved, torchs = ours.state_dict(), theirs.state_dict()
    assert list(saved) == list(torchs)
    assert saved["param_groups"] == torchs["param_groups"]
    assert [list(g) for g in saved["param_groups"]] == [list(g) for g in torchs["param_groups"]]
    assert list(saved["state"]) == list(torchs["state"])
    for entry, torch_entry in zip(saved["state"].values(), torchs["state"].values()):
        assert list(entry) == list(torch_entry)


def test_a_state_dict_holds_the_arrays_themselves_and_no_parameters():
    p = parameters()[0]
    opt = optim.Adam([p])
    take(opt, [1])
    saved = opt.state_dict()
    assert saved["state"][0]["exp_avg"] is opt.state[p]["exp_avg"]
    assert saved["state"][0]["step"] == 1
    assert type(saved["state"][0]["step"]) is int
    assert saved["param_groups"][0]["params"] == [0]


# Going on


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_begun_in_torch_is_continued(name, options):
    ps = parameters()
    qs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ps]
    theirs = getattr(torch.optim, name)(qs, lr=0.05, **options)

    def take_in_torch(steps):
        for step in steps:
            for q in qs:
                q.grad = torch.sin(3 * q.detach() + step)
            theirs.step()

    take_in_torch(range(3))
    for p, q in zip(ps, qs):
        p.data[...] = q.detach().numpy()
    ours = getattr(optim, name)(ps)
    ours.load_state_dict(theirs.state_dict())
    take(ours, range(3, 8))
    take_in_torch(range(3, 8))
    for p, q in zip(ps, qs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12)
    if name != "SGD":
        assert [ours.state[p]["step"] for p in ps] == [8, 8, 8]


def test_a_run_begun_here_is_continued_by_the_same_optimizer_on_torch_arrays():
    ps = parameters()
    opt = optim.Adam(ps)
    take(opt, range(3))
    qs = [torch.tensor(p.data, dtype=torch.float32) for p in ps]
    other = optim.Adam(qs)
    other.load_state_dict(opt.state_dict())
    for p, q in zip(ps, qs):
        assert other.state[q]["exp_avg"].dtype == torch.float32
        np.testing.assert_allclose(other.state[q]["exp_avg"], opt.state[p]["exp_avg"], rtol=1e-7)


# Loading copies


def test_nothing_is_shared_with_what_was_loaded():
    ps = parameters()
    opt = optim.Adam(ps, lr=np.array(0.1), betas=[0.9, 0.99])
    opt.state["extra"] = {"seen": [1]}
    take(opt, range(2))
    saved = opt.state_dict()
    other = optim.Adam([optim.Parameter(p.data.copy()) for p in ps])
    other.load_state_dict(saved)
    before = everything(other)
    saved["param_groups"][0]["lr"] *= 2
    saved["param_groups"][0]["betas"][0] = 0.5
    saved["state"]["extra"]["seen"].append(2)
    take(opt, range(2, 4))
    assert everything(other) == before
    assert other.state["extra"] == {"seen": [1]}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex128])
def test_state_is_cast_to_the_dtype_of_the_parameter(dtype):
    opt = optim.Adam(parameters())
    take(opt, range(2))
    ps = parameters(dtype)
    other = optim.Adam(ps)
    other.load_state_dict(opt.state_dict())
    for p, q in zip(opt.param_groups[0]["params"], ps):
        assert (other.state[q]["exp_avg"] == opt.state[p]["exp_avg"].astype(dtype)).all()
        assert other.state[q]["exp_avg"].dtype == dtype


def test_state_of_an_optimizer_without_a_table_is_copied_as_it_is():
    class Own(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def step(self, closure=None):
            (p,) = self.param_groups[0]["params"]
            self.state[p] = {"rows": p.data.sum(0), "like": p.data + 0, "rest": [np.arange(2)]}

    opt = Own([np.ones((2, 3))])
    opt.step()
    other = Own([np.ones((2, 3), np.float32)])
    other.load_state_dict(opt.state_dict())
    (ours,), (others,) = opt.state.values(), other.state.values()
    assert others["rows"].tolist() == [2.0, 2.0, 2.0]
    assert others["like"].dtype == np.float32
    assert not np.shares_memory(others["rows"], ours["rows"])
    assert others["rest"][0] is not ours["rest"][0]


# Options


def test_options_are_loaded_unless_they_are_to_be_kept():
    saved = optim.SGD(parameters(), lr=0.5, momentum=0.9).state_dict()
    for keep, lr in ((False, 0.5), (True, 0.1)):
        opt = optim.SGD(parameters(), lr=0.1)
        opt.load_state_dict(saved, keep_options=keep)
        assert opt.param_groups[0]["lr"] == lr


def test_options_that_an_older_version_did_not_save_have_their_defaults():
    opt = optim.SGD(parameters(), momentum=0.25)
    saved = opt.state_dict()
    del saved["param_groups"][0]["momentum"]
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["momentum"] == 0.25


@pytest.mark.parametrize("module", [optim, torch.optim])
def test_adamw_decouples_the_decay_whatever_is_loaded(module):
    """(As torch does; Adam takes over what it is given.)"""
    p = optim.Parameter(np.ones(1)) if module is optim else torch.ones(1)
    saved = module.Adam([p], weight_decay=0.5, lr=0.5).state_dict()
    opt = module.AdamW([p])
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["decoupled_weight_decay"] is True
    p.grad = np.zeros(1) if module is optim else torch.zeros(1)
    opt.step()
    assert p.data == 0.75


# Names


@pytest.mark.parametrize("by", [None, "order", "name"])
def test_parameters_of_the_same_names_are_matched(by):
    opt = optim.Adam(named("a", "b"))
    opt.step()
    other = optim.Adam(named("a", "b"))
    other.load_state_dict(opt.state_dict(), by=by)
    assert state_bits(other) == state_bits(opt)


def test_permuted_names():
    ab, ba = optim.Adam(named("a", "b")), optim.Adam(named("b", "a"))
    ab.step()
    saved = ab.state_dict()
    with pytest.raises(ValueError, match=r"\['b', 'a'\].*\['a', 'b'\].*by='name'.*by='order'"):
        ba.load_state_dict(saved)
    assert ba.state == {}
    ba.load_state_dict(saved, by="name")
    assert ba.param_groups[0]["param_names"] == ["b", "a"]
    assert state_bits(ba) == state_bits(ab)[::-1]
    ba.load_state_dict(saved, by="order")
    assert ba.param_groups[0]["param_names"] == ["a", "b"]  # as in torch
    assert state_bits(ba) == state_bits(ab)


def test_groups_are_matched_by_the_names_of_their_parameters():
    first = optim.Adam([{"params": named("a"), "lr": 0.1}, {"params": named("b", "c"), "lr": 0.2}])
    first.step()
    second = optim.Adam([{"params": named("c", "b")}, {"params": named("a")}])
    second.load_state_dict(first.state_dict(), by="name")
    assert [group["lr"] for group in second.param_groups] == [0.2, 0.1]
    assert state_bits(second) == state_bits(first)[::-1]


@pytest.mark.parametrize("named_here", [True, False])
def test_names_on_one_side_only(named_here):
    sides = [named("a", "b"), [p for _, p in named("a", "b")]]
    saved = optim.Adam(sides[named_here]).state_dict()
    opt = optim.Adam(sides[not named_here])
    with pytest.raises(ValueError, match=r"by='name' needs names, but .* parameters have none"):
        opt.load_state_dict(saved, by="name")
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["param_names"] == ["a", "b"]  # as in torch


# What does not fit


def spoil(state_dict, **entries):
    return {
        **state_dict,
        "state": {**state_dict["state"], 1: {**state_dict["state"][1], **entries}},
    }


def without(state_dict, name):
    rest = {key: value for key, value in state_dict["state"][1].items() if key != name}
    return {**state_dict, "state": {**state_dict["state"], 1: rest}}


BAD = {
    "too many groups": (
        lambda sd: {**sd, "param_groups": sd["param_groups"] * 2},
        (ValueError, "different number of parameter groups: expected 1, but got 2"),
    ),
    "a group of another size": (
        lambda sd: {**sd, "param_groups": [{**sd["param_groups"][0], "params": [0, 1]}]},
        (ValueError, "doesn't match the size of optimizer's group: group 0 has 3 .* one 2"),
    ),
    "a shape": (
        lambda sd: spoil(sd, exp_avg=np.ones(5)),
        (ValueError, r"parameter 1 \('b'\): expected state 'exp_avg' of shape \(2,\), .* \(5,\)"),
    ),
    "a list for an array": (
        lambda sd: spoil(sd, exp_avg=[1.0, 2.0]),
        (TypeError, r"parameter 1 \('b'\): expected a dense array as state 'exp_avg', .* list"),
    ),
    "complex into real": (
        lambda sd: spoil(sd, exp_avg=np.ones(2, complex)),
        (TypeError, r"parameter 1 \('b'\): state 'exp_avg' of dtype complex128 cannot be cast"),
    ),
    "complex torch into real": (
        lambda sd: spoil(sd, exp_avg=torch.ones(2, dtype=torch.complex64)),
        (TypeError, r"parameter 1 \('b'\): state 'exp_avg' of dtype torch.complex64 cannot"),
    ),
    "an array for a number": (
        lambda sd: spoil(sd, step=np.ones(2)),
        (TypeError, r"parameter 1 \('b'\): expected a number as state 'step', but got ndarray"),
    ),
    "a word for a number": (
        lambda sd: spoil(sd, step="3"),
        (TypeError, r"parameter 1 \('b'\): expected a number as state 'step', but got str"),
    ),
    "a negative step": (
        lambda sd: spoil(sd, step=-1),
        (ValueError, r"parameter 1 \('b'\): state 'step' counts steps, but got -1"),
    ),
    "an entry too many": (
        lambda sd: spoil(sd, momentum_buffer=np.ones(2)),
        (
            ValueError,
            r"parameter 1 \('b'\): expected the state .*momentum_buffer.*saved by another",
        ),
    ),
    "an entry too few": (
        lambda sd: without(sd, "exp_avg_sq"),
        (ValueError, r"parameter 1 \('b'\): expected the state .*saved by another optimizer"),
    ),
    "no mapping": (
        lambda sd: {**sd, "state": {**sd["state"], 1: 3}},
        (ValueError, r"parameter 1 \('b'\): expected the state .*but got int"),
    ),
    "an option out of its range": (
        lambda sd: {**sd, "param_groups": [{**sd["param_groups"][0], "lr": -1.0}]},
        (ValueError, "Invalid learning rate: -1.0"),
    ),
    "no state": (lambda sd: {"param_groups": sd["param_groups"]}, (KeyError, "state")),
    "no groups": (lambda sd: {"state": sd["state"]}, (KeyError, "param_groups")),
}


@pytest.mark.parametrize(("fault", "error"), BAD.values(), ids=BAD)
def test_what_does_not_fit_changes_nothing(fault, error):
    opt = optim.Adam(named("a", "b", "c"))
    opt.step()
    saved = copy.deepcopy(opt.state_dict())
    opt.step()
    before = everything(opt)
    with pytest.raises(error[0], match=error[1]):
        opt.load_state_dict(fault(saved))
    assert everything(opt) == before


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a", "x"], r"only the optimizer has \['b'\], only the loaded state dict has \['x'\]"),
        (["a", "a"], "needs unique names, but the loaded are"),
    ],
)
def test_names_that_do_not_match(names, error):
    opt = optim.SGD(named("a", "b"))
    with pytest.raises(ValueError, match=error):
        opt.load_state_dict(optim.SGD(named(*names)).state_dict(), by="name")


def test_a_group_cannot_be_made_of_two():
    two = optim.SGD([{"params": named("a", "c")}, {"params": named("b", "d")}])
    other = optim.SGD([{"params": named("a", "b")}, {"params": named("c", "d")}])
    with pytest.raises(ValueError, match=r"group 0 come from the loaded groups \[0, 1\]"):
        other.load_state_dict(two.state_dict(), by="name")


def test_by_is_checked():
    opt = optim.SGD(parameters())
    with pytest.raises(ValueError, match="by must be 'order', 'name' or None, but got 'names'"):
        opt.load_state_dict(opt.state_dict(), by="names")


# Copies of the optimizer


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_copy_goes_on_bit_for_bit_with_memory_of_its_own(copied, name, options):
    opt = getattr(optim, name)([{"params": parameters()}, {"params": named("a")[0][1]}], **options)
    take(opt, range(3))
    other = copied(opt)
    before = everything(opt)
    assert everything(other) == before
    take(other, range(3, 6))
    assert everything(opt) == before
    take(opt, range(3, 6))
    assert everything(opt) == everything(other)
    assert repr(opt) == repr(other)
