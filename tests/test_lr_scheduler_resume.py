"""Going on from a saved state gives the same bits as going straight on."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import (
    MAKE,
    STEPS,
    Decay,
    advance,
    deep,
    float32,
    numpys,
    present,
    sequence,
    straight,
    torchs,
)
from stepping import long_run

import arrayopt as optim
from arrayopt import lr_scheduler as L


def build_load(name, make_optimizer, kind, saved, order):
    """A new optimizer and scheduler, made and loaded in some order."""
    opt_state, state = saved
    opt = make_optimizer(kind)
    if order == "optimizer first":
        opt.load_state_dict(opt_state)
    scheduler = MAKE[name](opt)
    if order == "optimizer second":
        opt.load_state_dict(opt_state)
    scheduler.load_state_dict(state)
    if order == "optimizer last":
        opt.load_state_dict(opt_state)
    return opt, scheduler


ORDERS = ["optimizer first", "optimizer second", "optimizer last", "optimizer never"]


@long_run
@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=3, deadline=None)
@given(
    where=st.integers(0, STEPS - 1),
    kind=st.sampled_from([float, np.array, float32]),
    order=st.sampled_from(ORDERS),
)
def test_saved_and_loaded_at_any_step_it_gives_the_same_bits(name, where, kind, order):
    opt = numpys(kind)
    scheduler = MAKE[name](opt)
    head = advance(name, opt, scheduler, 0, where)
    saved = pickle.loads(pickle.dumps((opt.state_dict(), scheduler.state_dict())))
    before = copy.deepcopy(saved[1])
    opt, scheduler = build_load(name, numpys, kind, saved, order)
    assert scheduler.last_epoch == where
    tail = advance(name, opt, scheduler, where, STEPS)
    assert head + tail == straight(name, kind)
    assert saved[1] == before  # what was loaded is not changed, nor shared


@pytest.mark.parametrize("name", MAKE)
def test_loading_restores_the_rates_at_once(name):
    opt = numpys()
    scheduler = MAKE[name](opt)
    advance(name, opt, scheduler, 0, 123)
    for make_optimizer in (numpys, torchs):
        other = make_optimizer()
        loaded = MAKE[name](other)
        loaded.load_state_dict(scheduler.state_dict())
        assert [rate for rate, _ in present(other)] == [rate for rate, _ in present(opt)]
        assert loaded.get_last_lr() == scheduler.get_last_lr()
        if loaded.momentum_at(0) is not None:
            assert present(other) == present(opt)


def go(opt, schedulers, steps):
    """The rates of all steps."""
    opt.step()
    seen = []
    for _ in range(steps):
        for scheduler in schedulers:
            scheduler.step()
        seen.append(present(opt))
    return seen


def moved(make, where, order=(0, 1)):
    """An optimizer and its two schedulers, saved at a step and loaded in some order."""
    opt = numpys()
    schedulers = make(opt)
    go(opt, schedulers, where)
    states = [scheduler.state_dict() for scheduler in schedulers]
    opt = numpys()
    schedulers = make(opt)
    for number in order:
        schedulers[number].load_state_dict(states[number])
    return opt, schedulers


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("where", [0, 1, 150, 333])
def test_two_schedulers_of_one_optimizer_are_loaded_in_any_order(order, where):
    def make(opt):
        return [L.CosineAnnealingLR(opt, 90, 1e-3), L.ExponentialLR(opt, 0.99)]

    opt = numpys()
    whole = go(opt, make(opt), 400)
    assert go(*moved(make, where, order), 400 - where) == whole[where:]


def test_a_rate_that_is_right_by_chance_was_changed_nevertheless():
    def make(opt):  # from step 20 on, the rate is now and then the closed form of the second
        return [L.ConstantLR(opt, 0.5, 20), L.ExponentialLR(opt, 0.99)]

    opt = numpys()
    whole = go(opt, make(opt), 200)
    alone = [0.99**step * opt.param_groups[1]["initial_lr"] for step in range(1, 201)]
    chances = [step for step in range(20, 200) if whole[step - 1][1][0] == alone[step - 1]]
    assert chances
    for where in chances:
        assert go(*moved(make, where), 200 - where) == whole[where:]


@pytest.mark.parametrize("name", MAKE)
def test_a_copy_goes_on_alike(name):
    opt = numpys()
    scheduler = MAKE[name](opt)
    advance(name, opt, scheduler, 0, 20)
    copies = [copy.deepcopy(scheduler)]
    if name != "MultiplicativeLR":  # whose lambda has no name by which it could be found again
        copies.append(pickle.loads(pickle.dumps(scheduler)))
    expected = advance(name, opt, scheduler, 20, 200)
    for other in copies:
        assert advance(name, other.optimizer, other, 20, 200) == expected


def test_a_group_that_was_added_is_loaded():
    def make(groups):
        return optim.SGD([{"params": [np.zeros(1)], "lr": 1.0} for _ in range(groups)], lr=1.0)

    opt = make(1)
    scheduler = L.ExponentialLR(opt, 0.5)
    opt.step()
    opt.add_param_group({"params": [np.zeros(1)], "lr": 4.0})
    other = make(2)
    other.param_groups[1]["lr"] = 4.0
    loaded = L.ExponentialLR(other, 0.5)
    loaded.load_state_dict(scheduler.state_dict())  # it has not yet seen the group
    for each in (scheduler, loaded):
        each.step()
        assert each.get_last_lr() == [0.5, 2.0]
    with pytest.raises(ValueError, match="2 parameter groups, but this one has 1"):
        L.ExponentialLR(make(1), 0.5).load_state_dict(scheduler.state_dict())


def test_arguments_are_loaded_and_functions_are_not():
    opt = numpys()
    state = L.LambdaLR(opt, [Decay(0.9), lambda t: 1.0]).state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.9}, None]
    other = numpys()
    loaded = L.LambdaLR(other, [Decay(0.1), lambda t: 0.5])
    loaded.load_state_dict(state)
    assert loaded.lr_at(1) == [0.1 * 0.9, 2.5 * 0.5]
    builtin = L.LambdaLR(opt, [abs, float])
    assert builtin.state_dict()["lr_lambdas"] == [None, None]
    step = L.StepLR(other, 9)
    step.load_state_dict(L.StepLR(opt, 3, 0.5).state_dict())
    assert (step.step_size, step.gamma) == (3, 0.5)


class Scale:
    """A callable object that keeps a list."""

    def __init__(self):
        self.seen = [1]

    def __call__(self, step):
        return 1.0


def test_attributes_are_copied_when_they_are_saved_and_loaded():
    opt = numpys()
    for make in (lambda o, f: L.LambdaLR(o, f), lambda o, f: L.CyclicLR(o, 0.1, 1, 5, scale_fn=f)):
        source, target = Scale(), Scale()
        state = make(opt, source).state_dict()
        source.seen.append(2)
        saved = copy.deepcopy(state)
        make(numpys(), target).load_state_dict(state)
        assert target.seen == [1]
        target.seen.append(3)
        assert state == saved


@pytest.mark.parametrize("cls", [L.LambdaLR, L.MultiplicativeLR])
def test_what_a_method_belongs_to_is_not_copied(cls):
    class Trainer:
        def __init__(self):
            self.lock = threading.Lock()  # which cannot be copied

        def rate(self, step):
            return 0.5

    state = cls(numpys(), Trainer().rate).state_dict()
    cls(numpys(), Trainer().rate).load_state_dict(state)


def test_a_scheduler_of_ones_own_may_call_its_attributes_anything():
    class Own(L.StepLR):
        def __init__(self, optimizer, value):
            self._exact = self._memo = self._plan = self._sorted = value
            super().__init__(optimizer, 3)

    source, target = Own(numpys(), [1]), Own(numpys(), [2])
    target.load_state_dict(source.state_dict())
    for name in ("_exact", "_memo", "_plan", "_sorted"):
        assert getattr(target, name) == [1]


def test_attributes_that_nothing_can_take_are_an_error_and_change_nothing():
    opt = numpys()
    pairs = [
        (L.LambdaLR(opt, Decay(0.9)), L.LambdaLR(numpys(), lambda t: 1.0)),
        (L.CyclicLR(opt, 0.1, 1, 5, scale_fn=Decay(0.9)), L.CyclicLR(numpys(), 0.1, 1, 5)),
    ]
    for source, target in pairs:
        source.last_epoch = 7
        before = target.state_dict()
        with pytest.raises(ValueError, match=r"attributes \['rate'\] of a callable object, but"):
            target.load_state_dict(source.state_dict())
        assert target.state_dict() == before


def test_what_is_not_known_is_an_error():
    scheduler = L.ExponentialLR(numpys(), 0.5)
    before = scheduler.state_dict()
    for other in (L.StepLR(numpys(), 3), torch.optim.lr_scheduler.StepLR(torchs(), 3)):
        with pytest.raises(KeyError, match=r"ExponentialLR has no \['step_size'\]"):
            scheduler.load_state_dict(other.state_dict())
        assert scheduler.state_dict() == before
        assert not hasattr(scheduler, "step_size")

    class Counting(L.ExponentialLR):
        def step(self, epoch=None):
            super().step(epoch)
            self.calls = getattr(self, "calls", 0) + 1

    opt = numpys()
    own = Counting(opt, 0.5)
    opt.step()
    own.step()
    loaded = Counting(numpys(), 0.5)
    loaded.load_state_dict(own.state_dict())  # a class of the user's keeps what it likes
    assert loaded.calls == 1


def test_every_member_is_restored_once(monkeypatch):
    restored = []
    original = L.ExponentialLR._restore
    monkeypatch.setattr(
        L.ExponentialLR, "_restore", lambda self, s: (restored.append(1), original(self, s))
    )
    opt = numpys()
    scheduler = L.ExponentialLR(opt, 0.9)
    for _ in range(8):
        scheduler = L.ChainedScheduler([scheduler])
    opt.step()
    for _ in range(3):
        scheduler.step()
    other = numpys()
    loaded = L.ExponentialLR(other, 0.9)
    for _ in range(8):
        loaded = L.ChainedScheduler([loaded])
    loaded.load_state_dict(scheduler.state_dict())
    assert len(restored) == 1
    other.param_groups[0]["lr"] = 1.0
    loaded.step()
    assert [rate for rate, _ in present(other)] == pytest.approx([0.9, 2.5 * 0.9**4], rel=1e-15)


def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing():
    opt = numpys()
    scheduler = sequence(opt)
    before = scheduler.state_dict()
    good = before["_schedulers"]
    bad = [
        (3, TypeError, "must be a dict, but got int"),
        ({}, KeyError, "_milestones.*which this one lacks"),
        (L.StepLR(numpys(), 3).state_dict(), KeyError, "_milestones"),
        ({**before, "_schedulers": good[:1]}, ValueError, "with 1 schedulers, but this one has 2"),
        ({**before, "_schedulers": good[::-1]}, KeyError, "state_dict of a LinearLR has"),
    ]
    for state, error, message in bad:
        with pytest.raises(error, match=message):
            scheduler.load_state_dict(state)
        assert scheduler.state_dict() == before


def test_a_state_holds_numbers_and_shares_nothing():
    opt = numpys(np.array)
    scheduler = deep(opt)

    def check(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            for entry in value:
                check(entry)
        else:
            assert value is None or isinstance(value, int | float | str)

    check(scheduler.state_dict())
    scheduler.state_dict()["_last_lr"][0] = 77.0
    scheduler.state_dict()["_schedulers"][1]["milestones"][3] = 1
    assert scheduler.get_last_lr()[0] != 77.0
    assert scheduler._schedulers[1].milestones == {500: 1}
