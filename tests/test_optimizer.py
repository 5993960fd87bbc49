"""The contract of every optimizer: groups, gradients, closures, options, looking at it."""

from __future__ import annotations

import copy
import inspect
import pickle
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from specs import ELEMENTWISE, EVERY, case_id

import arrayopt as optim
from arrayopt.optimizer import required

every = pytest.mark.parametrize("spec", EVERY, ids=case_id)
dense = pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)


def parameter(value=1.0, name=None, requires_grad=True, grad=1.0):
    p = optim.Parameter(np.full(2, value), name=name, requires_grad=requires_grad)
    p.grad = None if grad is None else np.full(2, grad)
    return p


# What torch has


def has_more(spec):
    """Whether fused= is an option of ours alone: all elementwise algorithms fuse."""
    theirs = inspect.signature(spec.theirs).parameters
    return spec.kind == "elementwise" and "fused" not in theirs


@every
def test_the_signature_is_torchs(spec):
    def parameters(cls):
        found = inspect.signature(cls).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    more = [("fused", inspect.Parameter.KEYWORD_ONLY, None)] if has_more(spec) else []
    assert parameters(spec.cls) == parameters(spec.theirs) + more


@every
def test_groups_defaults_and_repr_are_torchs(spec):
    ours = spec.cls([("w", np.ones((2, 1))), ("b", np.ones((2, 1)))], lr=0.5)
    torchs = spec.theirs([("w", torch.ones(2, 1)), ("b", torch.ones(2, 1))], lr=0.5)
    if has_more(spec):
        torchs.defaults["fused"] = torchs.param_groups[0]["fused"] = None
    assert list(ours.param_groups[0]) == list(torchs.param_groups[0])
    assert list(ours.defaults.items()) == list(torchs.defaults.items())
    assert repr(ours) == repr(torchs)


@dense
@pytest.mark.parametrize("option", ["momentum", "amsgrad", "maximize", "capturable"])
def test_state_has_torchs_entries_in_torchs_order(spec, option):
    if option not in inspect.signature(spec.cls).parameters:
        option = "maximize"
    on = {option: 0.9 if option == "momentum" else True}
    p = parameter()
    opt = spec.cls([p], **on)
    opt.step()
    q = torch.nn.Parameter(torch.ones(2))
    q.grad = torch.ones(2)
    torchs = spec.theirs([q], **({} if option == "capturable" else on))
    torchs.step()
    assert [list(entry) for entry in opt.state.values()] == [
        list(entry) for entry in torchs.state.values()
    ]


def test_the_base_class_holds_groups_but_has_no_step():
    opt = optim.Optimizer([np.ones(2)], {"lr": 0.1})
    assert opt.param_groups[0]["lr"] == 0.1
    with pytest.raises(NotImplementedError, match="Optimizer has no rule"):
        opt.step(grads=[np.ones(2)])


# Parameters and groups


class Duck:
    def __init__(self, data):
        self.data, self.grad = data, np.ones_like(data)

    def __len__(self):  # must not be taken for a sequence of parameters
        raise AssertionError


@pytest.mark.parametrize(
    "form",
    [
        lambda ps: ps,
        lambda ps: tuple(ps),
        lambda ps: (p for p in ps),
        lambda ps: {"a": ps[0], "b": ps[1]}.values(),
        lambda ps: {"a": ps[0], "b": ps[1]}.items(),
        lambda ps: [("a", ps[0]), ("b", ps[1])],
        lambda ps: [{"params": ps}],
        lambda ps: [{"params": ps[0]}, {"params": iter(ps[1:])}],
        lambda ps: [{"params": [("a", ps[0])]}, {"params": [("b", ps[1])]}],
        lambda ps: optim.SGD(ps).param_groups,
        lambda ps: optim.SGD([("a", ps[0]), ("b", ps[1])]).param_groups,
    ],
)
@pytest.mark.parametrize("kind", [lambda data: optim.Parameter(data), Duck])
def test_every_form_of_params_is_taken(form, kind):
    ps = [kind(np.ones(2)), kind(np.ones(3))]
    for p in ps:
        p.grad = np.ones_like(p.data)
    opt = optim.SGD(form(ps), lr=0.5)
    assert [p for group in opt.param_groups for p in group["params"]] == ps
    for group in opt.param_groups:
        group["lr"] = 0.5
    opt.step()
    assert all((p.data == 0.5).all() for p in ps)


def test_bare_arrays_are_wrapped_and_updated_in_place():
    w, b = np.ones(2, np.float32), np.ones(())
    opt = optim.SGD([w, b], lr=0.5)
    assert [type(p) for p in opt.param_groups[0]["params"]] == [optim.Parameter] * 2
    assert opt.param_groups[0]["params"][0].data is w
    opt.step(grads=[w, 2 * b])  # (2 * b is a NumPy scalar)
    assert w.tolist() == [0.5, 0.5]
    assert b == 0.0


def test_torch_parameters_are_trained_in_place():
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    pointers = [p.data_ptr() for p in ours.parameters()]
    pairs = [(ours, optim.Adam(ours.parameters())), (theirs, torch.optim.Adam(theirs.parameters()))]
    for _ in range(3):
        for model, opt in pairs:
            opt.zero_grad()
            model(torch.ones(3, dtype=torch.float64)).square().sum().backward()
            opt.step()
    assert [p.data_ptr() for p in ours.parameters()] == pointers
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_groups_have_their_own_options_and_keep_unknown_ones():
    p, q = parameter(), parameter()
    given = {"params": [q], "lr": 0.25, "note": "mine"}
    with pytest.warns(UserWarning, match=r"group 1 has \['note'\], which SGD does not use"):
        opt = optim.SGD([{"params": [p]}, given], lr=0.5)
    assert opt.param_groups[1]["note"] == "mine"
    assert set(given) == {"params", "lr", "note"}  # the caller's dict is copied
    opt.step()
    assert (p.data[0], q.data[0]) == (0.5, 0.75)


def test_a_group_can_be_added_later():
    p, q = parameter(), parameter()
    opt = optim.Adam([p])
    opt.step()
    opt.add_param_group({"params": q, "lr": 0.5})
    opt.step()
    assert [opt.state[each]["step"] for each in (p, q)] == [2, 1]
    np.testing.assert_allclose(q.data, 1 - 0.5, rtol=1e-7)  # Adam's first step is lr * sign(grad)


def test_a_required_option_has_to_be_given_even_after_copying():
    class NoDefault(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": required})

        def rule(self, xp, param, grad, state, group):
            return param - group["lr"] * grad, {}

    opt = NoDefault([{"params": [parameter()], "lr": 1.0}])
    for each in (opt, copy.deepcopy(opt)):
        with pytest.raises(ValueError, match=r"didn't specify a value of required .* lr"):
            each.add_param_group({"params": [parameter()]})
    assert pickle.loads(pickle.dumps(required)) is required


# Gradients


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    p, q = parameter(), parameter(grad=None)
    grad = p.grad
    optim.SGD([p, q]).zero_grad(set_to_none)
    assert q.grad is None
    assert p.grad is (None if set_to_none else grad)
    assert grad.tolist() == ([1.0, 1.0] if set_to_none else [0.0, 0.0])


@dense
def test_parameters_without_gradient_or_frozen_are_passed_over(spec):
    p, frozen, without = parameter(), parameter(requires_grad=False), parameter(grad=None)
    decays = "weight_decay" in inspect.signature(spec.cls).parameters
    options = {"weight_decay": 0.1} if decays else {}  # which must not act on them
    opt = spec.cls([frozen, p, without], **options)
    for _ in range(3):
        opt.step()
    assert frozen.data.tolist() == without.data.tolist() == [1.0, 1.0]
    assert (p.data != 1.0).all()
    assert frozen not in opt.state
    assert without not in opt.state


def test_freezing_between_steps_is_seen():
    p, q = parameter(), parameter()
    opt = optim.SGD([p, q], lr=0.25)
    opt.step()
    p.requires_grad = False
    opt.step()
    assert (p.data[0], q.data[0]) == (0.75, 0.5)


@pytest.mark.usefixtures("torch_in_double_precision")
@dense
def test_a_late_first_gradient_starts_a_step_count_of_its_own(spec):
    ps = [parameter(), parameter(grad=None)]
    qs = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in ps]
    options = {"lr": 0.1} | ({"momentum": 0.9} if spec.name == "SGD" else {})
    ours, torchs = spec.cls(ps, **options), spec.theirs(qs, **options)
    for step in range(1, 6):
        for index, (p, q) in enumerate(zip(ps, qs)):
            p.grad = np.full(2, float(step)) if index == 0 or step > 2 else None
            q.grad = None if p.grad is None else torch.tensor(p.grad)
        ours.step()
        torchs.step()
    for p, q in zip(ps, qs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-13)
    if "step" in spec.state.get("", ()):
        assert [ours.state[p]["step"] for p in ps] == [5, 3]


@pytest.mark.parametrize(
    "grads",
    [
        lambda g: [g, None],
        lambda g: (each for each in (g, None)),
        lambda g: {"w": g},
        lambda g: {"w": g, "b": None},
    ],
)
@pytest.mark.parametrize("named", ["pairs", "attribute"])
def test_grads_by_order_and_by_name(grads, named):
    w, b = parameter(name="w"), parameter(name="b")
    opt = optim.SGD([("w", w), ("b", b)] if named == "pairs" else [w, b], lr=0.5)
    opt.step(grads=grads(np.full(2, 2.0)))
    assert (w.data[0], b.data[0]) == (0.0, 1.0)
    assert w.grad.tolist() == [1.0, 1.0]


def test_grads_run_through_all_groups():
    w, b = np.ones(2), np.ones(3)
    optim.SGD([{"params": [w]}, {"params": [b], "lr": 2.0}], lr=1.0).step(
        grads=[np.ones(2), np.full(3, 0.25)]
    )
    assert (w[0], b[0]) == (0.0, 0.5)


def test_a_closure_is_called_once_before_the_update_and_its_loss_returned():
    p = parameter(3.0, grad=None)
    opt = optim.SGD([p], lr=0.5)
    seen = []

    def closure():
        seen.append(p.data.copy())
        p.grad = p.data.copy()
        return 4.5

    assert opt.step(closure) == 4.5
    assert [each.tolist() for each in seen] == [[3.0, 3.0]]
    assert p.data.tolist() == [1.5, 1.5]
    assert opt.step() is None


def test_a_closure_may_return_the_gradients():
    w = np.array([3.0])
    assert optim.SGD([w], lr=0.5).step(lambda: (4.5, [2 * w])) == 4.5
    assert w.tolist() == [0.0]


# Options


@pytest.mark.parametrize("make", [lambda x: np.array(x), lambda x: torch.tensor(x), np.float32])
def test_a_learning_rate_may_be_an_array_and_change_in_place(make):
    w, lr = np.ones(1), make(0.5)
    opt = optim.SGD([w], lr=lr)
    assert opt.param_groups[0]["lr"] is lr
    opt.step(grads=[np.ones(1)])
    assert w == 0.5
    if not isinstance(lr, np.generic):
        lr *= 0.5
        opt.step(grads=[np.ones(1)])
        assert w == 0.25


def test_a_numpy_option_does_not_promote_float32():
    w = np.ones(2, np.float32)
    opt = optim.Adam([w], lr=np.float64(0.1), betas=(np.float64(0.9), np.array(0.99)))
    opt.step(grads=[w.copy()])
    (state,) = opt.state.values()
    assert w.dtype == state["exp_avg"].dtype == state["exp_avg_sq"].dtype == np.float32


def test_momentum_and_amsgrad_can_be_turned_on_later():
    p = parameter()
    sgd = optim.SGD([p], lr=1.0)
    sgd.step()
    sgd.param_groups[0]["momentum"] = 0.5
    sgd.step()
    assert p.data.tolist() == [-1.0, -1.0]
    assert sgd.state[p]["momentum_buffer"].tolist() == [1.0, 1.0]  # begins as the gradient

    q = parameter()
    adam = optim.Adam([q], betas=(0.9, 0.5))
    adam.step()
    adam.param_groups[0]["amsgrad"] = True
    q.grad = np.zeros(2)
    adam.step()
    adam.step()
    # v is 0.5, 0.25, 0.125; the largest since it was turned on is 0.25
    assert adam.state[q]["max_exp_avg_sq"].tolist() == [0.25, 0.25]


@dense
def test_maximize_is_the_step_on_the_negative_gradient(spec):
    p, q = parameter(grad=0.5), parameter(grad=-0.5)
    spec.cls([p], maximize=True).step()
    spec.cls([q]).step()
    assert p.data.tobytes() == q.data.tobytes()
    assert p.grad.tolist() == [0.5, 0.5]


# differentiable


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {}), ("Adam", {"amsgrad": True})],
)
def test_autograd_sees_through_two_steps(name, options):
    def after_two_steps(weight, lr):
        p = optim.Parameter(weight * 1)
        opt = getattr(optim, name)([p], lr=lr, differentiable=True, **options)
        for factor in (2.0, 3.0):
            p.grad = factor * p.data**2
            opt.step()
        return p.data

    weight = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after_two_steps, (weight, lr), atol=1e-6)


def test_raw_torch_tensors_cannot_be_differentiated_through():
    w = torch.ones(2)
    opt = optim.SGD([w], differentiable=True)
    with pytest.raises(RuntimeError, match=r"parameter 0: .*arrayopt\.Parameter"):
        opt.step(grads=[torch.ones(2)])
    assert w.tolist() == [1.0, 1.0]


# Looking at it


def test_repr_html_is_well_formed_and_escaped():
    opt = optim.SGD([{"params": [np.ones((2, 3))], "name": "<a & b>"}, {"params": [np.ones(())]}])
    table = ElementTree.fromstring(opt._repr_html_())
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.iter("tr")}
    assert rows["name"] == ["<a & b>", None]
    assert rows["lr"] == ["0.001", "0.001"]
    assert rows["params"] == ["1 array, 6 numbers", "1 array, 1 number"]
