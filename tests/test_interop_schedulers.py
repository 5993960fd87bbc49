"""Schedules that begin in torch and go on here, and the other way."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from schedules import METRICS, Decay, numpys, present, torchs
from stepping import long_run

from arrayopt import lr_scheduler, swa_utils
from arrayopt.interop import from_torch, to_torch

STEPS = 1000
HALF = 500


def makers(o, L, swa):
    """What makes schedulers of an optimizer, ours or torch's, by their names."""
    return {
        "LambdaLR": lambda: L.LambdaLR(o, [Decay(0.999), lambda t: 1 / (1 + t)]),
        "MultiplicativeLR": lambda: L.MultiplicativeLR(o, lambda t: 1 - 1 / (t + 5)),
        "StepLR": lambda: L.StepLR(o, 37, 0.9),
        "MultiStepLR": lambda: L.MultiStepLR(o, [5, 300, 300, 800], 0.5),
        "ConstantLR": lambda: L.ConstantLR(o, 0.3, 700),
        "LinearLR": lambda: L.LinearLR(o, 0.1, 0.9, 777),
        "ExponentialLR": lambda: L.ExponentialLR(o, 0.997),
        "PolynomialLR": lambda: L.PolynomialLR(o, 1200, 0.7),
        "CosineAnnealingLR": lambda: L.CosineAnnealingLR(o, 130, 1e-3),
        "CosineAnnealingWarmRestarts": lambda: L.CosineAnnealingWarmRestarts(o, 7, 2, 1e-3),
        "CyclicLR": lambda: L.CyclicLR(o, 0.01, 0.7, 30, 50, mode="exp_range", gamma=0.999),
        "CyclicLR, own scale": lambda: L.CyclicLR(o, 0.01, 0.7, 30, scale_fn=Decay(0.9)),
        "OneCycleLR": lambda: L.OneCycleLR(o, [0.5, 0.7], STEPS + 1, three_phase=True),
        "OneCycleLR, rate alone": lambda: L.OneCycleLR(o, 0.5, STEPS + 1, cycle_momentum=False),
        "ReduceLROnPlateau": lambda: L.ReduceLROnPlateau(o, factor=0.9, patience=2, cooldown=3),
        "SWALR": lambda: swa.SWALR(o, [0.05, 0.01], 700),
        "a sequence": lambda: L.SequentialLR(
            o, [L.LinearLR(o, 0.1, 1, 50), L.CosineAnnealingLR(o, 300, 1e-3)], [50]
        ),
        "a sequence that goes on": lambda: L.SequentialLR(
            o,
            [L.ConstantLR(o, 0.5, 9), L.StepLR(o, 90, 0.7), L.CyclicLR(o, 0.1, 0.2, 50)],
            [100, 800],
        ),
        "a sequence with weight averaging": lambda: L.SequentialLR(
            o,
            [L.CosineAnnealingLR(o, 300), swa.SWALR(o, [0.05, 0.01], 500), L.StepLR(o, 40, 0.9)],
            [200, 800],
        ),
        "a chain": lambda: L.ChainedScheduler(
            [L.ExponentialLR(o, 0.999), L.ConstantLR(o, 0.3, 70)]
        ),
        "a chain that is no product": lambda: L.ChainedScheduler(
            [L.CosineAnnealingLR(o, 1200, 0.01), L.ExponentialLR(o, 0.999)]
        ),
        "a chain of a sequence": lambda: L.ChainedScheduler(
            [
                L.SequentialLR(o, [L.LinearLR(o, 0.1, 1, 50), L.ExponentialLR(o, 0.998)], [50]),
                L.StepLR(o, 90, 0.7),
            ]
        ),
    }


NAMES = list(makers(None, None, None))
names = pytest.mark.parametrize("name", NAMES)
SIDES = {
    "here": (numpys, lr_scheduler, swa_utils),
    "torch": (torchs, torch.optim.lr_scheduler, torch.optim.swa_utils),
}


class Side:
    """An optimizer and its scheduler, here or in torch."""

    def __init__(self, where, name):
        create, *modules = SIDES[where]
        self.where, self.name = where, name
        self.optimizer = create()
        self.scheduler = makers(self.optimizer, *modules)[name]()

    def steps(self, first, last):
        """The rates and momenta of the steps from `first` to `last`."""
        self.optimizer.step()
        seen = []
        for step in range(first, last):
            self.scheduler.step(*((METRICS[step],) if self.name == "ReduceLROnPlateau" else ()))
            seen.append(present(self.optimizer))
        return np.array(seen)

    def moved(self, where, by_objects):
        """What goes on from here, there."""
        other = Side(where, self.name)
        convert = from_torch if where == "here" else to_torch
        sources = [self.optimizer, self.scheduler]
        if not by_objects:
            sources = [copy.deepcopy(source.state_dict()) for source in sources]
        other.scheduler.load_state_dict(convert(sources[1]))
        other.optimizer.load_state_dict(convert(sources[0]))
        return other

    def resumed(self):
        """What goes on from here, where it is."""
        other = Side(self.where, self.name)
        other.scheduler.load_state_dict(copy.deepcopy(self.scheduler.state_dict()))
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other


def test_every_scheduler_of_torch_is_here():
    known = {
        name
        for name in torch.optim.lr_scheduler.__all__
        if name not in ("LRScheduler", "_LRScheduler", "SequentialLR", "ChainedScheduler")
    }
    assert known | {"SWALR"} <= {*NAMES}


@cache
def whole(where, name):
    """The rates and momenta of all steps, taken in one place."""
    return Side(where, name).steps(0, STEPS)


@long_run
@pytest.mark.parametrize("by_objects", [True, False], ids=["objects", "state_dicts"])
@pytest.mark.parametrize(("source", "target"), [("torch", "here"), ("here", "torch")])
@names
def test_a_schedule_goes_on_where_it_has_moved_to(name, source, target, by_objects):
    """It is within 1e-14 of the whole run of where it has moved to.

    And of the whole run of where it comes from, but for what torch's recursion, which drifts where
    a rate comes close to zero, is away from the closed form anyway.
    """
    side = Side(source, name)
    assert (side.steps(0, HALF) == whole(source, name)[:HALF]).all()
    tail = side.moved(target, by_objects).steps(HALF, STEPS)
    there, here = (whole(where, name)[HALF:] for where in (source, target))
    drift = np.abs(there - here)
    assert (drift < 5e-13 * here).all()
    assert (np.abs(tail - here) <= 1e-14 * here).all()
    assert (np.abs(tail - there) <= 1e-14 * there + drift).all()


@pytest.mark.parametrize("where", [0, 1, 3, 150, 500, 850])
@names
def test_from_torch_and_back_is_the_identity(name, where):
    theirs = Side("torch", name)
    theirs.steps(0, where)
    state_dict = copy.deepcopy(theirs.scheduler.state_dict())
    converted = from_torch(state_dict)
    assert to_torch(converted) == state_dict == copy.deepcopy(theirs.scheduler.state_dict())
    with_rates = from_torch(theirs.scheduler)
    assert with_rates["lr"] == [group["lr"] for group in theirs.optimizer.param_groups]
    assert {key: with_rates[key] for key in converted} == converted
    assert to_torch(with_rates) == state_dict


def with_a_place(state):
    """Without what torch cannot keep: whose rates somebody has changed, which is seen again."""
    kept = {key: value for key, value in state.items() if key != "changed_groups"}
    if "_schedulers" in kept:
        kept["_schedulers"] = [with_a_place(member) for member in kept["_schedulers"]]
    return kept


@pytest.mark.parametrize("where", [0, 1, 150, 500, 850])
@names
def test_to_torch_and_back_holds_what_torch_has_a_place_for(name, where):
    ours = Side("here", name)
    ours.steps(0, where)
    state_dict = copy.deepcopy(ours.scheduler.state_dict())
    back = from_torch(to_torch(ours.scheduler))
    assert ours.scheduler.state_dict() == state_dict
    loaded = Side("here", name)
    loaded.scheduler.load_state_dict(back)
    loaded.optimizer.load_state_dict(ours.optimizer.state_dict())
    assert with_a_place(loaded.scheduler.state_dict()) == with_a_place(state_dict)
    assert (loaded.steps(where, where + 100) == ours.steps(where, where + 100)).all()


@names
def test_what_goes_to_torch_has_the_entries_that_torch_has(name):
    def entries(state):
        return state.keys(), [entries(member) for member in state.get("_schedulers", ())]

    states = to_torch(Side("here", name).scheduler), Side("torch", name).scheduler.state_dict()
    assert entries(states[0]) == entries(states[1])


def test_weight_averaging_of_torch_goes_by_how_often_it_was_stepped():
    side = Side("torch", "SWALR")
    side.steps(0, 3)
    side.scheduler.last_epoch = 7  # as it is if it was made with a last_epoch
    moved = side.moved("here", by_objects=True)
    np.testing.assert_allclose(moved.steps(3, 700), side.steps(3, 700), rtol=1e-13)


@names
def test_what_is_converted_already_is_copied(name):
    for where, convert in (("here", from_torch), ("torch", to_torch)):
        side = Side(where, name)
        side.steps(0, 3)
        state_dict = side.scheduler.state_dict()
        for source in (state_dict, side.scheduler):
            assert convert(source) == copy.deepcopy(state_dict)


@names
def test_nothing_is_shared(name):
    def spoil(value):
        if isinstance(value, dict):
            for entry in value.values():
                spoil(entry)
            value["spoilt"] = 1
        if isinstance(value, list):
            for entry in value:
                spoil(entry)
            value.append(1)

    for where in SIDES:
        scheduler = Side(where, name).scheduler
        for convert in (from_torch, to_torch):
            state_dict = scheduler.state_dict()
            before = copy.deepcopy(state_dict)
            spoil(convert(state_dict))
            assert state_dict == before


def test_two_schedulers_of_one_optimizer_move_in_any_order():
    optimizer = torchs()
    modules = torch.optim.lr_scheduler
    cosine, exponential = (
        modules.CosineAnnealingLR(optimizer, 90, 1e-3),
        modules.ExponentialLR(optimizer, 0.99),
    )
    optimizer.step()
    for _ in range(30):
        cosine.step()
        exponential.step()
    for order in ((0, 1), (1, 0)):
        ours = numpys()
        moved = [
            lr_scheduler.CosineAnnealingLR(ours, 90, 1e-3),
            lr_scheduler.ExponentialLR(ours, 0.99),
        ]
        for number in order:
            moved[number].load_state_dict(from_torch((cosine, exponential)[number]))
        assert present(ours) == present(optimizer)


def test_rates_that_are_tensors_become_numbers():
    optimizer = torchs(torch.tensor)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for state in (from_torch(scheduler), from_torch(scheduler.state_dict())):
        assert {type(rate) for rate in state["_last_lr"] + state["base_lrs"]} == {float}
    ours = numpys()
    loaded = lr_scheduler.ExponentialLR(ours, 0.5)
    loaded.load_state_dict(from_torch(scheduler))
    assert [rate for rate, _ in present(ours)] == [rate for rate, _ in present(optimizer)]


def test_a_warm_up_of_ours_becomes_a_sequence_of_torch():
    optimizer = numpys()
    warmup = lr_scheduler.WarmupLR(optimizer, 30, lr_scheduler.StepLR(optimizer, 100, 0.5))
    optimizer.step()
    rates = []
    for step in range(300):
        if step == 20:
            states = to_torch(optimizer), to_torch(warmup)
        warmup.step()
        rates.append(present(optimizer))
    theirs, L = torchs(), torch.optim.lr_scheduler
    members = [L.LinearLR(theirs, 1 / 31, 1, 30), L.StepLR(theirs, 100, 0.5)]
    sequence = L.SequentialLR(theirs, members, [30])
    for target, state in zip((theirs, sequence), states):
        target.load_state_dict(state)
    theirs.step()
    for step in range(20, 300):
        sequence.step()
        np.testing.assert_allclose(present(theirs), rates[step], rtol=1e-14)


def test_a_member_that_torch_cannot_have_is_an_error():
    optimizer = numpys()
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    chain = lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(optimizer, 3), plateau])
    with pytest.raises(ValueError, match="a ReduceLROnPlateau cannot be a member of another sche"):
        to_torch(lr_scheduler.ChainedScheduler([chain]))


def test_a_composed_member_that_is_to_begin_in_torch_is_an_error():
    """At the milestone, torch would raise a NotImplementedError."""

    def nested(o, L):
        chain = L.ChainedScheduler([L.StepLR(o, 9), L.ConstantLR(o, 0.5, 3)])
        return L.SequentialLR(o, [L.ConstantLR(o, 0.5, 3), chain], [5])

    theirs, optimizer = torchs(), numpys()
    sequence, ours = nested(theirs, torch.optim.lr_scheduler), nested(optimizer, lr_scheduler)
    theirs.step()
    optimizer.step()
    for _ in range(4):
        sequence.step()
        ours.step()
    moved = nested(numpys(), lr_scheduler)
    moved.load_state_dict(from_torch(sequence))
    with pytest.raises(ValueError, match=r"cannot begin at a milestone \(5\) in torch"):
        to_torch(ours)
    with pytest.raises(NotImplementedError):
        sequence.step()
    for _ in range(9):
        ours.step()
        moved.step()
        assert moved.get_last_lr() == ours.get_last_lr()
    to_torch(ours)  # now that its turn has come


# What earlier versions of torch saved


def test_entries_that_earlier_versions_did_not_have():
    states = {name: Side("torch", name).scheduler.state_dict() for name in ("SWALR", "StepLR")}
    del states["SWALR"]["_anneal_strategy"]
    states["SWALR"]["anneal_func"] = torch.optim.swa_utils.SWALR._linear_anneal
    states["StepLR"]["verbose"] = False
    plateau = Side("torch", "ReduceLROnPlateau").scheduler.state_dict()
    del plateau["default_min_lr"]
    for name, state in (*states.items(), ("ReduceLROnPlateau", plateau)):
        loaded = Side("here", name).scheduler
        loaded.load_state_dict(from_torch(state))
        if name == "SWALR":
            assert loaded._anneal_strategy == "linear"
    states["SWALR"]["anneal_func"] = torch.optim.swa_utils.SWALR._cosine_anneal
    assert from_torch(states["SWALR"])["_anneal_strategy"] == "cos"
