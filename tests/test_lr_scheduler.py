"""Schedules against torch's, against exact arithmetic, and against what they promise."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import warnings
from xml.etree import ElementTree

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stepping import long_run

import arrayopt as optim
from arrayopt import lr_scheduler, swa_utils

STEPS = 1000
BASES = (0.1, 2.5)
TORCH = torch.optim.lr_scheduler

counts = st.integers(1, 1500)
factors = st.floats(0.01, 1.0)


def find(name, module=None):
    """A scheduler by its name, ours or torch's."""
    if module is not None:
        return getattr(torch.optim.swa_utils if name == "SWALR" else TORCH, name)
    return getattr(swa_utils if name == "SWALR" else lr_scheduler, name)


def ours(rates=BASES, kind=float, cls=optim.SGD, **options):
    options = options or {"momentum": 0.9}
    groups = [{"params": [np.zeros(1)], "lr": kind(rate)} for rate in rates]
    return cls(groups, **options)


def torchs(rates=BASES, kind=float, cls=torch.optim.SGD, **options):
    options = options or {"momentum": 0.9}
    kind = (lambda rate: torch.tensor(rate, dtype=torch.float64)) if kind is not float else kind
    groups = [{"params": [torch.zeros(1)], "lr": kind(rate)} for rate in rates]
    return cls(groups, **options)


def rates_of(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def momenta_of(optimizer):
    return [float(g["betas"][0] if "betas" in g else g["momentum"]) for g in optimizer.param_groups]


def run(optimizer, schedulers, steps=STEPS, hand=None):
    """The rates and momenta, from the first to the last step."""
    if not isinstance(schedulers, list):
        schedulers = [schedulers]
    optimizer.step()
    rates, momenta = [rates_of(optimizer)], [momenta_of(optimizer)]
    for step in range(1, steps + 1):
        for scheduler in schedulers:
            scheduler.step()
        if hand:
            hand(step, optimizer)
        rates.append(rates_of(optimizer))
        momenta.append(momenta_of(optimizer))
    return np.array(rates), np.array(momenta)


# The grid: arguments, and what the multiplier is exactly (mpmath), where torch's drifts


@st.composite
def linear(draw):
    return {
        "start_factor": draw(factors),
        "end_factor": draw(st.floats(0.0, 1.0)),
        "total_iters": draw(counts),
    }


def exact_cosine(t, part, low, base):
    return low + (base - low) * (1 + mpmath.cos(mpmath.pi * part)) / 2


DRIFTING = {
    "StepLR": (
        st.fixed_dictionaries({"step_size": counts, "gamma": st.floats(0.6, 1.2)}),
        lambda t, base, step_size, gamma: base * gamma ** (t // step_size),
    ),
    "MultiStepLR": (
        st.fixed_dictionaries(
            {
                "milestones": st.lists(st.integers(0, 900), max_size=6).map(sorted),
                "gamma": st.floats(0.6, 1.2),
            }
        ),
        lambda t, base, milestones, gamma: base * gamma ** sum(m <= t for m in milestones),
    ),
    "ConstantLR": (
        st.fixed_dictionaries({"factor": factors, "total_iters": counts}),
        lambda t, base, factor, total_iters: base * (factor if t < total_iters else 1),
    ),
    "LinearLR": (
        linear(),
        lambda t, base, start_factor, end_factor, total_iters: (
            base * (start_factor + (end_factor - start_factor) * min(t, total_iters) / total_iters)
        ),
    ),
    "ExponentialLR": (
        st.fixed_dictionaries({"gamma": st.floats(0.6, 1.05)}),
        lambda t, base, gamma: base * gamma**t,
    ),
    "PolynomialLR": (
        st.fixed_dictionaries({"total_iters": counts, "power": st.floats(0.2, 4.0)}),
        lambda t, base, total_iters, power: (
            base * (1 - mpmath.mpf(min(t, total_iters)) / total_iters) ** power
        ),
    ),
    "CosineAnnealingLR": (
        st.fixed_dictionaries({"T_max": counts, "eta_min": st.sampled_from([0.0, 1e-3, 0.05])}),
        lambda t, base, T_max, eta_min: exact_cosine(t, mpmath.mpf(t) / T_max, eta_min, base),
    ),
    "SWALR": (
        st.fixed_dictionaries(
            {
                "swa_lr": st.sampled_from([0.0, 0.05, [0.01, 1.0]]),
                "anneal_epochs": st.integers(0, 1500),
                "anneal_strategy": st.sampled_from(["cos", "linear"]),
            }
        ),
        lambda t, base, swa_lr, anneal_epochs, anneal_strategy: exact_swa(
            mpmath.mpf(min(t, anneal_epochs)) / anneal_epochs if anneal_epochs else 1,
            base,
            swa_lr if not isinstance(swa_lr, list) else swa_lr[BASES.index(float(base))],
            anneal_strategy,
        ),
    ),
}


def exact_swa(part, base, last, strategy):
    if strategy == "cos":
        return exact_cosine(None, part, last, base)
    return base + (last - base) * part


@st.composite
def cyclic(draw):
    return {
        "base_lr": draw(st.sampled_from([0.01, [0.001, 0.2]])),
        "max_lr": draw(st.sampled_from([1.0, [0.5, 3.0]])),
        "step_size_up": draw(st.integers(1, 700)),
        "step_size_down": draw(st.none() | st.integers(1, 700)),
        "mode": draw(st.sampled_from(["triangular", "triangular2", "exp_range"])),
        "gamma": draw(st.floats(0.99, 1.0)),
        "cycle_momentum": draw(st.booleans()),
    }


@st.composite
def one_cycle(draw):
    three = draw(st.booleans())
    return {
        "max_lr": draw(st.sampled_from([1.0, [0.5, 3.0]])),
        "total_steps": draw(st.integers(STEPS + 1, 3 * STEPS)),
        "pct_start": draw(st.floats(0.01, 0.5 if three else 0.99)),
        "anneal_strategy": draw(st.sampled_from(["cos", "linear"])),
        "cycle_momentum": draw(st.booleans()),
        "div_factor": draw(st.floats(1.0, 100.0)),
        "three_phase": three,
    }


STEADY = {
    "LambdaLR": st.builds(
        lambda a, b: {"lr_lambda": [lambda t: a**t, lambda t: 1 / (1 + b * t)]},
        st.floats(0.99, 1.001),
        factors,
    ),
    "MultiplicativeLR": st.builds(
        lambda a, b: {"lr_lambda": [lambda t: a, lambda t: 1 - b / (t + 1)]},
        st.floats(0.99, 1.001),
        st.floats(0.0, 0.5),
    ),
    "CosineAnnealingWarmRestarts": st.fixed_dictionaries(
        {"T_0": counts, "T_mult": st.integers(1, 3), "eta_min": st.sampled_from([0.0, 1e-3])}
    ),
    "CyclicLR": cyclic(),
    "OneCycleLR": one_cycle(),
}

few = settings(max_examples=6, deadline=None)
kinds = st.sampled_from([float, np.array])


@long_run
@pytest.mark.parametrize("name", STEADY)
@few
@given(data=st.data(), kind=kinds)
def test_sequences_are_torchs(name, data, kind):
    arguments = data.draw(STEADY[name])
    a, b = ours(kind=kind), torchs(kind=kind)
    scheduler = find(name)(a, **arguments)
    mine = run(a, scheduler)
    theirs = run(b, find(name, torch)(b, **arguments))
    for x, y in zip(mine, theirs):
        np.testing.assert_allclose(x, y, rtol=1e-14, atol=0)
    np.testing.assert_array_equal(scheduler.lr_at(np.arange(STEPS + 1)).T, mine[0])


@long_run
@pytest.mark.parametrize("name", DRIFTING)
@few
@given(data=st.data(), kind=kinds)
def test_sequences_are_torchs_up_to_torchs_own_drift_from_the_exact_value(name, data, kind):
    strategy, formula = DRIFTING[name]
    arguments = data.draw(strategy)
    a, b = ours(kind=kind), torchs(kind=kind)
    scheduler, reference = find(name)(a, **arguments), find(name, torch)(b, **arguments)
    mine, _ = run(a, scheduler)
    chained, _ = run(b, reference)
    with mpmath.workdps(40):
        precise = {k: mpmath.mpf(v) if isinstance(v, float) else v for k, v in arguments.items()}
        exact = np.array(
            [[float(formula(t, mpmath.mpf(r), **precise)) for r in BASES] for t in range(STEPS + 1)]
        )
    # the closed form: what float64 can give, where a sum and the angle of a cosine have rounded
    steps = np.arange(STEPS + 1)
    angle = np.pi * steps / arguments.get("T_max", 1 << 60)
    ends = {"LinearLR", "CosineAnnealingLR", "SWALR"}
    rounding = 2.3e-16 * (4 + angle)[:, None] * np.array(BASES)
    own = np.abs(mine - exact)
    assert np.all(own <= 1e-15 * np.abs(exact) + (rounding if name in ends else 0))
    # the recursion of torch, which is no better
    assert own.max() <= np.abs(chained - exact).max() + 1e-15 * np.abs(exact).max()
    # the closed form of torch
    if hasattr(reference, "_get_closed_form_lr"):
        closed = []
        for reference.last_epoch in range(STEPS + 1):
            closed.append([float(rate) for rate in reference._get_closed_form_lr()])
        bound = 1e-14 * np.abs(exact) + 2.3e-16 * max(BASES)
        if (
            name == "PolynomialLR"
        ):  # torch's 1 - t / T has an error of 2**-53, in power * x**(power - 1)
            left = np.maximum(arguments["total_iters"] - steps, 0.5) / arguments["total_iters"]
            power = arguments["power"]
            bound += (2.0**-53 * power * left ** (power - 1))[:, None] * np.array(BASES)
        assert np.all(np.abs(mine - closed) <= bound)
    np.testing.assert_array_equal(scheduler.lr_at(np.arange(STEPS + 1)).T, mine)


# Chaining: two schedulers on one optimizer, and rates that are changed by hand

SIMPLE = {
    "LambdaLR": {"lr_lambda": lambda t: 0.99**t},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.999},
    "StepLR": {"step_size": 70, "gamma": 0.7},
    "MultiStepLR": {"milestones": [3, 200, 201], "gamma": 0.5},
    "ConstantLR": {"factor": 0.4, "total_iters": 150},
    "LinearLR": {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 333},
    "ExponentialLR": {"gamma": 0.997},
    "PolynomialLR": {"total_iters": 1200, "power": 1.5},
    "CosineAnnealingLR": {"T_max": 90, "eta_min": 1e-3},
    "CosineAnnealingWarmRestarts": {"T_0": 30, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 30},
    "OneCycleLR": {"max_lr": 0.5, "total_steps": 1200},
    "SWALR": {"swa_lr": 0.05, "anneal_epochs": 400},
}
CHAINABLE = [
    "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR",
    "CosineAnnealingLR", "MultiplicativeLR", "SWALR",
]  # fmt: skip

#: Roundings of a recursion: three a step and scheduler, each at most half a unit, here or in torch.
RECURSION = 2 * 3 * STEPS * 1.2e-16


@long_run
@pytest.mark.parametrize("second", ["ExponentialLR", "CosineAnnealingLR", "LinearLR", "LambdaLR"])
@pytest.mark.parametrize("first", [*CHAINABLE, "CyclicLR"])
@pytest.mark.parametrize("together", [False, True])
def test_two_schedulers_on_one_optimizer_do_what_they_do_in_torch(first, second, together):
    a, b = ours(), torchs()
    mine = [find(name)(a, **SIMPLE[name]) for name in (first, second)]
    theirs = [find(name, torch)(b, **SIMPLE[name]) for name in (first, second)]
    if together:
        mine = lr_scheduler.ChainedScheduler(mine)
        theirs = TORCH.ChainedScheduler(theirs)
    x, _ = run(a, mine)
    y, _ = run(b, theirs)
    # an eta_min or a momentary zero makes the error of a rate that of the largest one
    np.testing.assert_allclose(x, y, rtol=RECURSION, atol=RECURSION * 1e-2)
    if together:
        np.testing.assert_array_equal(mine.lr_at(np.arange(STEPS + 1)).T, x)


def test_a_chain_of_multipliers_is_their_product_without_drift():
    opt = ours()
    members = [lr_scheduler.ExponentialLR(opt, 0.999), lr_scheduler.LinearLR(opt, 0.5, 1.0, 300)]
    rates, _ = run(opt, lr_scheduler.ChainedScheduler(members))
    with mpmath.workdps(40):
        gamma, half = mpmath.mpf(0.999), mpmath.mpf(0.5)
        exact = [
            [float(base * gamma**t * (half + half * min(t, 300) / 300)) for base in BASES]
            for t in range(STEPS + 1)
        ]
    np.testing.assert_allclose(rates, exact, rtol=1e-15, atol=0)


@long_run
@pytest.mark.parametrize("name", CHAINABLE)
@pytest.mark.parametrize("kind", [float, np.array])
def test_a_rate_that_was_changed_by_hand_is_changed_further(name, kind):
    def hand(step, optimizer):
        if step in (7, 500):
            group = optimizer.param_groups[1]
            group["lr"] = group["lr"] * 0.25 if kind is float else group["lr"].__imul__(0.25)

    a, b = ours(kind=kind), torchs(kind=kind)
    x, _ = run(a, find(name)(a, **SIMPLE[name]), hand=hand)
    y, _ = run(b, find(name, torch)(b, **SIMPLE[name]), hand=hand)
    np.testing.assert_allclose(x, y, rtol=RECURSION, atol=RECURSION * 1e-2)


def test_a_rate_below_eta_min_stays_positive():
    opt = ours([1.0])
    scheduler = lr_scheduler.CosineAnnealingLR(opt, 20, eta_min=0.5)

    def hand(step, optimizer):
        if step == 15:
            optimizer.param_groups[0]["lr"] = 0.01

    rates, _ = run(opt, scheduler, 40, hand)  # torch's goes down to -23
    assert np.all(rates > 0)


def test_a_schedule_that_sets_the_rate_replaces_one_that_was_changed_by_hand():
    opt = ours()
    scheduler = lr_scheduler.LambdaLR(opt, lambda t: 1 / (t + 1))
    opt.step()
    opt.param_groups[0]["lr"] = 77.0
    scheduler.step()
    assert rates_of(opt) == [BASES[0] / 2, BASES[1] / 2]


# What the schedules are documented to do (numbers by hand)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: lr_scheduler.StepLR(o, 2), [1, 1, 0.1, 0.1, 0.01]),
        (lambda o: lr_scheduler.MultiStepLR(o, [1, 3], 0.5), [1, 0.5, 0.5, 0.25, 0.25]),
        (lambda o: lr_scheduler.MultiStepLR(o, [2, 2], 0.5), [1, 1, 0.25, 0.25, 0.25]),
        (lambda o: lr_scheduler.ConstantLR(o, 0.5, 2), [0.5, 0.5, 1, 1, 1]),
        (lambda o: lr_scheduler.LinearLR(o, 0.5, 1, 4), [0.5, 0.625, 0.75, 0.875, 1]),
        (lambda o: lr_scheduler.LinearLR(o, 1, 0, 2), [1, 0.5, 0, 0, 0]),
        (lambda o: lr_scheduler.PolynomialLR(o, 4, 1), [1, 0.75, 0.5, 0.25, 0]),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125, 0.0625]),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 2), [1, 0.5, 0, 0.5, 1]),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2), [1, 0.5, 1, 0.5, 1]),
        (lambda o: lr_scheduler.CyclicLR(o, 0, 1, 2), [0, 0.5, 1, 0.5, 0]),
        (lambda o: lr_scheduler.CyclicLR(o, 0, 1, 1, mode="triangular2"), [0, 1, 0, 0.5, 0]),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 5, pct_start=0.6, div_factor=2),
            [0.5, 0.75, 1, 0.500025, 5e-5],
        ),
        (lambda o: swa_utils.SWALR(o, 0.5, 2, "linear"), [1, 0.75, 0.5, 0.5, 0.5]),
        (lambda o: lr_scheduler.WarmupLR(o, 3), [0.25, 0.5, 0.75, 1, 1]),
        (lambda o: lr_scheduler.WarmupLR(o, 0, lr_scheduler.StepLR(o, 1)), [1, 0.1, 0.01, 1e-3]),
        (lambda o: lr_scheduler.WarmupLR(o, 2, start_factor=0.5), [0.5, 0.75, 1, 1]),
        (lambda o: lr_scheduler.WarmupStableDecayLR(o, 1, 1, 2), [0.5, 1, 1, 0.5, 0]),
        (lambda o: lr_scheduler.CosineWarmupLR(o, 1, 3, 0.5), [0.5, 1, 0.75, 0.5, 0.5]),
        (lambda o: lr_scheduler.CosineWarmupLR(o, 0, 2), [1, 0.5, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("kind", [float, np.array, torch.tensor])
def test_the_first_steps(make, expected, kind):
    opt = ours([1.0], kind)
    rates, _ = run(opt, make(opt), len(expected) - 1)
    np.testing.assert_allclose(rates[:, 0], expected, rtol=1e-7, atol=1e-9)


def test_momenta_and_betas_move_against_the_rates():
    sgd, adam = ours([1.0]), ours([1.0], cls=optim.Adam, lr=1.0)
    for opt in (sgd, adam):
        scheduler = lr_scheduler.CyclicLR(opt, 0, 1, 2, base_momentum=0.5, max_momentum=0.7)
        _, momenta = run(opt, scheduler, 4)
        np.testing.assert_allclose(momenta[:, 0], [0.7, 0.6, 0.5, 0.6, 0.7], rtol=1e-15)
        np.testing.assert_array_equal(scheduler.momentum_at(np.arange(5))[0], momenta[:, 0])
        assert scheduler.momentum_at(1) == [0.6]
        assert lr_scheduler.StepLR(opt, 1).momentum_at(1) is None
    assert adam.param_groups[0]["betas"] == (0.7, 0.999)


def test_one_cycle_stops_where_its_budget_ends():
    opt = ours([1.0])
    scheduler = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=10)
    rates, _ = run(opt, scheduler, 10)  # as many calls as the budget, the usual loop
    assert rates[9] == rates[10] == pytest.approx(1 / 25 / 1e4, rel=1e-15)
    state = scheduler.state_dict()
    with pytest.raises(ValueError, match=r"at most 10 steps.*got step 11"):
        scheduler.step()
    assert scheduler.state_dict() == state
    with pytest.raises(ValueError, match="at most 10"):
        scheduler.lr_at(np.arange(12))


def test_one_cycle_with_a_way_up_of_no_length_begins_at_the_top():
    opt = ours([1.0])
    scheduler = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=4, pct_start=0.25)
    np.testing.assert_allclose(scheduler.lr_at([0, 3])[0], [1, 4e-6], rtol=1e-12)


# The plateau


METRICS = st.lists(st.floats(0.01, 10) | st.just(math.nan), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(
    metrics=METRICS,
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    min_lr=st.sampled_from([0, 0.05, [0.01, 1.0]]),
    kind=kinds,
)
def test_a_plateau_of_positive_metrics_is_torchs(metrics, kind, **arguments):
    a, b = ours(kind=kind), torchs(kind=kind)
    mine = lr_scheduler.ReduceLROnPlateau(a, factor=0.5, threshold=0.05, **arguments)
    theirs = TORCH.ReduceLROnPlateau(b, factor=0.5, threshold=0.05, **arguments)
    for metric in metrics:
        mine.step(metric)
        theirs.step(metric)
        assert rates_of(a) == rates_of(b)
    state, torchs_state = mine.state_dict(), theirs.state_dict()
    for key in ("best", "num_bad_epochs", "cooldown_counter", "last_epoch"):
        assert state[key] == torchs_state[key]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_plateau_of_negative_metrics_is_one(mode, threshold_mode):
    sign = 1 if mode == "max" else -1
    opt = ours([1.0])
    scheduler = lr_scheduler.ReduceLROnPlateau(
        opt, mode, patience=0, threshold=0.01, threshold_mode=threshold_mode
    )
    scheduler.step(-10.0)
    scheduler.step(-10.0 + sign * 0.2)  # better by 2 percent
    assert rates_of(opt) == [1.0]
    scheduler.step(-9.8 if mode == "max" else -10.2)  # the same again
    assert rates_of(opt) == [0.1]


def test_nan_is_never_better():
    opt = ours([1.0])
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, patience=1)
    for metric in (math.nan, math.nan):
        scheduler.step(metric)
    assert rates_of(opt) == [0.1]
    assert scheduler.best == math.inf
    scheduler.step(np.array(3.0))
    assert scheduler.best == 3.0


# Composition


def nested(opt):
    """A sequence in a chain in a sequence in a chain, which is easy to compute by hand."""
    inner = lr_scheduler.SequentialLR(
        opt, [lr_scheduler.ConstantLR(opt, 0.5, 100), lr_scheduler.StepLR(opt, 2, 0.5)], [2]
    )
    chain = lr_scheduler.ChainedScheduler([inner, lr_scheduler.MultiStepLR(opt, [1], 0.25)])
    sequence = lr_scheduler.SequentialLR(opt, [lr_scheduler.LinearLR(opt, 0.5, 1, 2), chain], [2])
    return lr_scheduler.ChainedScheduler([sequence, lr_scheduler.MultiStepLR(opt, [3], 0.5)])


def made(name, opt, arguments=None):
    """The nested scheduler, or one by its name, with its arguments."""
    return nested(opt) if name == "nested" else find(name)(opt, **(arguments or SIMPLE)[name])


NESTED = np.array([0.5, 0.75, 0.5, 0.5 * 0.25 * 0.5, 0.125, 0.125, 0.0625, 0.0625])


@pytest.mark.parametrize("kind", [float, np.array])
def test_sequences_and_chains_nest(kind):
    opt = ours([1.0, 8.0], kind)
    scheduler = nested(opt)
    rates, _ = run(opt, scheduler, len(NESTED) - 1)
    np.testing.assert_array_equal(rates, NESTED[:, None] * [1, 8])
    np.testing.assert_array_equal(scheduler.lr_at(np.arange(len(NESTED))), rates.T)
    for t in range(len(NESTED)):
        assert scheduler.lr_at(t) == list(rates[t])


def test_a_sequence_within_a_sequence():
    opt = ours([1.0])
    inner = lr_scheduler.SequentialLR(
        opt, [lr_scheduler.ConstantLR(opt, 0.5, 9), lr_scheduler.ExponentialLR(opt, 0.5)], [1]
    )
    outer = lr_scheduler.SequentialLR(opt, [lr_scheduler.ConstantLR(opt, 0.1, 9), inner], [2])
    rates, _ = run(opt, outer, 5)
    np.testing.assert_allclose(rates[:, 0], [0.1, 0.1, 0.5, 1, 0.5, 0.25])


@long_run
@pytest.mark.parametrize(
    "names",
    [
        ("LinearLR", "CosineAnnealingLR"),
        ("ConstantLR", "ExponentialLR"),
        ("LinearLR", "CosineAnnealingWarmRestarts"),
        ("ExponentialLR", "PolynomialLR"),
        ("CyclicLR", "StepLR"),
        ("LambdaLR", "LinearLR"),
        ("CosineAnnealingLR", "SWALR"),
        ("StepLR", "SWALR"),
        ("CyclicLR", "SWALR"),
        ("SWALR", "SWALR"),
        ("SWALR", "ExponentialLR"),
        ("SWALR", "CosineAnnealingWarmRestarts"),
    ],
)
def test_sequences_of_simple_schedulers_are_torchs(names):
    a, b = ours(), torchs()
    mine = lr_scheduler.SequentialLR(a, [find(n)(a, **SIMPLE[n]) for n in names], [100])
    theirs = TORCH.SequentialLR(b, [find(n, torch)(b, **SIMPLE[n]) for n in names], [100])
    x, p = run(a, mine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's step(epoch) at the milestone
        y, q = run(b, theirs)
    np.testing.assert_allclose(x, y, rtol=RECURSION, atol=RECURSION * 1e-2)
    np.testing.assert_allclose(p, q, rtol=1e-14)
    np.testing.assert_array_equal(mine.lr_at(np.arange(STEPS + 1)).T, x)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 4])
@pytest.mark.parametrize("hand", [None, lambda step, opt: change(opt, 0.8) if step == 5 else None])
def test_swa_goes_on_from_the_rate_before_its_turn(strategy, epochs, hand):
    results = []
    for module, make in ((None, ours), (torch, torchs)):
        opt = make()
        members = [
            find("CosineAnnealingLR", module)(opt, 10),
            find("SWALR", module)(opt, 0.05, epochs, strategy),
        ]
        scheduler = find("SequentialLR", module)(opt, members, [8])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's step(epoch) at the milestone
            results.append(run(opt, scheduler, 20, hand)[0])
        if module is None and hand is None:
            np.testing.assert_array_equal(scheduler.lr_at(np.arange(21)).T, results[0])
            assert [scheduler.lr_at(t) for t in range(21)] == results[0].tolist()
    np.testing.assert_allclose(*results, rtol=1e-13)


def change(optimizer, factor):
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor


def test_swa_goes_on_within_sequences_and_chains():
    opt = ours([1.0])
    inner = lr_scheduler.SequentialLR(
        opt, [swa_utils.SWALR(opt, 0.1, 2, "linear"), lr_scheduler.ConstantLR(opt, 0.5, 9)], [3]
    )
    outer = lr_scheduler.SequentialLR(opt, [lr_scheduler.ExponentialLR(opt, 0.5), inner], [2])
    expected = [1, 0.5, 0.5, 0.3, 0.1, 0.5]
    np.testing.assert_allclose(outer.lr_at(range(6))[0], expected, rtol=1e-15)
    rates, _ = run(opt, outer, 5)
    np.testing.assert_allclose(rates[:, 0], expected, rtol=1e-15)

    opt = ours([1.0])
    members = [lr_scheduler.ExponentialLR(opt, 0.5), swa_utils.SWALR(opt, 0.1, 2, "linear")]
    chain = lr_scheduler.ChainedScheduler([lr_scheduler.SequentialLR(opt, members, [2])])
    expected = [1, 0.5, 0.5, 0.3, 0.1]
    np.testing.assert_allclose(chain.lr_at(range(5))[0], expected, rtol=1e-15)
    rates, _ = run(opt, chain, 4)
    np.testing.assert_array_equal(chain.lr_at(range(5)), rates.T)


@pytest.mark.parametrize("wrap", [1, 2, 3])
@pytest.mark.parametrize("sequence", [False, True])
def test_a_rate_changed_by_hand_is_changed_further_in_nested_chains(wrap, sequence):
    opt = ours([1.0, 2.0])
    scheduler = lr_scheduler.ExponentialLR(opt, 0.5)
    for _ in range(wrap):
        scheduler = lr_scheduler.ChainedScheduler([scheduler])
        if sequence:
            scheduler = lr_scheduler.SequentialLR(opt, [scheduler], [])
    run(opt, scheduler, 5)
    opt.param_groups[0]["lr"] = 1.0  # what it was at the beginning
    scheduler.step()
    assert rates_of(opt) == [0.5, 2.0 / 64]


def test_an_argument_changed_by_hand_counts_for_a_rate_changed_by_hand():
    opt = ours([1.0])
    scheduler = lr_scheduler.ExponentialLR(opt, 0.9)
    opt.step()
    for gamma, expected in ((0.9, 0.36), (0.9, 0.36), (0.5, 0.2)):
        scheduler.gamma = gamma
        opt.param_groups[0]["lr"] = 0.4
        scheduler.step()
        assert rates_of(opt) == [pytest.approx(expected, rel=1e-15)]


def torch_style(module, form):
    """A scheduler that is written for torch, on the base class of either."""

    class Style((module or lr_scheduler).LRScheduler):
        def get_lr(self):
            if form == "recursive":
                if self._is_initial:
                    return [group["lr"] for group in self.optimizer.param_groups]
                return [group["lr"] * 0.5 for group in self.optimizer.param_groups]
            return [base * 0.9**self.last_epoch for base in self.base_lrs]

    if form == "both":
        Style._get_closed_form_lr = lambda self: [
            base * 0.9**self.last_epoch for base in self.base_lrs
        ]
    return Style


@pytest.mark.parametrize("form", ["recursive", "of the step", "both"])
@pytest.mark.parametrize("kind", ["first", "second", "after swa", "before swa", "chain"])
def test_a_scheduler_that_is_written_for_torch_is_a_member_like_any(form, kind):
    results = []
    for module, make in ((None, ours), (TORCH, torchs)):
        opt = make()
        which = None if module is None else torch
        own = torch_style(module, form)(opt)
        step = find("StepLR", which)(opt, 2)
        swa = find("SWALR", which)(opt, 0.05, 3)
        members = {
            "first": [own, step], "second": [step, own], "chain": [step, own],
            "before swa": [own, swa], "after swa": [swa, own],
        }[kind]  # fmt: skip
        if kind == "chain":
            scheduler = find("ChainedScheduler", which)(members)
        else:
            scheduler = find("SequentialLR", which)(opt, members, [3])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's step(epoch) at the milestone
            results.append(run(opt, scheduler, 8)[0])
        if module is None:
            assert "<figcaption>" in scheduler._repr_html_()
    np.testing.assert_allclose(*results, rtol=1e-14)


def test_a_warmup_of_a_scheduler_that_is_written_for_torch():
    opt = ours([1.0])
    after = torch_style(None, "of the step")(opt)
    rates, _ = run(opt, lr_scheduler.WarmupLR(opt, 3, after), 5)
    np.testing.assert_allclose(rates[:, 0], [0.25, 0.5, 0.75, 1, 0.9, 0.81], rtol=1e-15)


def test_momenta_of_a_sequence_in_which_one_member_cycles_them():
    for order in (0, 1):
        for make in (
            lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 1, 5, cycle_momentum=False),
            lambda opt: lr_scheduler.OneCycleLR(opt, 1.0, 10, cycle_momentum=False),
        ):
            opt = ours([1.0])
            members = [
                lr_scheduler.CyclicLR(opt, 0, 1, 2, base_momentum=0.5, max_momentum=0.7),
                make(opt),
            ]
            scheduler = lr_scheduler.SequentialLR(opt, members[:: 1 - 2 * order], [3])
            expected = [0.7, 0.6, 0.5] if not order else [math.nan] * 3
            expected += [math.nan] * 2 if not order else [0.7, 0.6]
            np.testing.assert_allclose(scheduler.momentum_at(range(5))[0], expected, rtol=1e-15)
            for t in range(5):
                np.testing.assert_allclose(scheduler.momentum_at(t), expected[t], rtol=1e-15)
            assert "<polyline" in scheduler._repr_html_()


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR"])
def test_momenta_of_a_group_that_was_added(name):
    opt, reference = ours([1.0]), ours([1.0, 1.0])
    scheduler, its = (find(name)(o, **SIMPLE[name]) for o in (opt, reference))
    scheduler.lr_at(5)
    opt.add_param_group({"params": [np.ones(1)], "lr": 1.0})
    assert scheduler.momentum_at(5) == its.momentum_at(5)
    assert len(its.momentum_at(5)) == 2


def test_lr_at_of_a_chain_calls_a_function_once_a_step():
    asked = []
    opt = ours([1.0])
    members = [
        lr_scheduler.MultiplicativeLR(opt, lambda t: asked.append(t) or 0.99),
        lr_scheduler.CosineAnnealingLR(opt, 50, 0.1),
    ]
    scheduler = lr_scheduler.ChainedScheduler(members)
    asked.clear()
    scheduler.lr_at(400)
    assert len(asked) <= 400
    asked.clear()
    scheduler.lr_at(np.arange(401))
    assert len(asked) <= 400


def test_base_rates_of_composed_schedulers():
    opt = ours()
    assert nested(opt).base_lrs == list(BASES)
    assert lr_scheduler.WarmupLR(opt, 3).base_lrs == list(BASES)
    assert lr_scheduler._LRScheduler is lr_scheduler.LRScheduler


def test_a_plateau_takes_part_in_sequences_and_chains():
    opt = ours([1.0])
    warmup = lr_scheduler.LinearLR(opt, 0.5, 1, 2)
    plateau = lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    scheduler = lr_scheduler.SequentialLR(opt, [warmup, plateau], [2])
    opt.step()
    rates = rates_of(opt)
    for _ in range(5):
        scheduler.step(1.0)
        rates += rates_of(opt)
    # the metric of the milestone is that of the warm-up; the next one is the first
    assert rates == [0.5, 0.75, 1, 1, 0.5, 0.25]
    with pytest.raises(TypeError, match="expected a metric"):
        scheduler.step()

    opt = ours([1.0])
    plateau = lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    scheduler = lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(opt, 0.5), plateau])
    opt.step()
    for expected in (0.5, 0.125):
        scheduler.step(1.0)
        assert rates_of(opt) == [expected]
    before = scheduler.state_dict()
    with pytest.raises(TypeError, match="expected a metric"):
        scheduler.step()
    assert scheduler.state_dict() == before
    warmed = lr_scheduler.WarmupLR(opt, 3, lr_scheduler.ReduceLROnPlateau(opt))
    assert warmed.lr_at([0, 3, 9]).tolist() == [[0.25, 1, 1]]


def test_a_reduction_outlives_the_turn_of_the_plateau():
    opt = ours([1.0])
    plateau = lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    after = lr_scheduler.ExponentialLR(opt, 0.5)
    scheduler = lr_scheduler.SequentialLR(opt, [plateau, after], [2])
    opt.step()
    scheduler.step(1.0)
    plateau.step(1.0)
    assert rates_of(opt) == [0.5]
    scheduler.step(1.0)
    scheduler.step(1.0)
    assert rates_of(opt) == [0.25]


def chain_of_a_sequence(opt, last_epoch=-1):
    members = [lr_scheduler.LinearLR(opt, 0.5, 1, 2), lr_scheduler.ExponentialLR(opt, 0.5)]
    sequence = lr_scheduler.SequentialLR(opt, members, [2], last_epoch=last_epoch)
    return lr_scheduler.ChainedScheduler([sequence])


@pytest.mark.parametrize("name", [*SIMPLE, "a chain of a sequence"])
@pytest.mark.parametrize("start", [0, 1, 4])
def test_it_starts_at_last_epoch(name, start):
    def make(opt, **begin):
        if name not in SIMPLE:
            return chain_of_a_sequence(opt, **begin)
        return find(name)(opt, **SIMPLE[name], **begin)

    first, opt = ours(), ours()
    rates, momenta = run(first, make(first), 7)
    for group, rate in zip(opt.param_groups, BASES):
        group["initial_lr"] = rate
    scheduler = make(opt, last_epoch=start - 1)
    assert scheduler.last_epoch == start
    x, p = run(opt, scheduler, 7 - start)
    np.testing.assert_array_equal(x, rates[start:])
    if name in ("CyclicLR", "OneCycleLR"):
        np.testing.assert_array_equal(p, momenta[start:])


# Arrays as rates, and torch's optimizers


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize(
    "kind",
    [
        np.array,
        np.float32,
        lambda rate: np.array(rate, np.float32),
        torch.tensor,
        lambda rate: torch.tensor(rate, dtype=torch.float64),
    ],
)
def test_an_array_is_written_in_place(name, kind):
    opt, reference = ours(kind=kind), ours()
    before = [group["lr"] for group in opt.param_groups]
    scheduler = find(name)(opt, **SIMPLE[name])
    expected, _ = run(reference, find(name)(reference, **SIMPLE[name]), 50)
    rates, _ = run(opt, scheduler, 50)
    if not isinstance(before[0], np.float32):  # which is no array
        assert all(g["lr"] is rate for g, rate in zip(opt.param_groups, before))
        for last, group in zip(scheduler.get_last_lr(), opt.param_groups):
            assert type(last) is type(group["lr"])
            assert last == group["lr"]
            last *= 0  # a copy
            assert last != group["lr"] or group["lr"] == 0
            assert group["initial_lr"] is not group["lr"]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_an_array_that_cannot_be_written_to_is_replaced():
    rate = np.array(1.0)
    rate.flags.writeable = False
    opt = ours([1.0])
    opt.param_groups[0]["lr"] = rate
    run(opt, lr_scheduler.ExponentialLR(opt, 0.5), 2)
    assert rates_of(opt) == [0.25]
    assert isinstance(opt.param_groups[0]["lr"], np.ndarray)
    assert rate == 1.0


@long_run
@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("kind", [float, np.array])
def test_a_torch_optimizer_is_driven_like_ones_own(name, kind):
    a, b = ours(kind=kind), torchs(kind=kind)
    held = [group["lr"] for group in b.param_groups]
    x = run(a, find(name)(a, **SIMPLE[name]))
    y = run(b, find(name)(b, **SIMPLE[name]))
    for mine, its in zip(x, y):
        np.testing.assert_array_equal(mine, its)
    if kind is np.array:
        assert all(group["lr"] is rate for group, rate in zip(b.param_groups, held))


def test_a_torch_model_is_trained_with_our_scheduler_as_with_torchs():
    results = []
    for module in (lr_scheduler, TORCH):
        weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        opt = torch.optim.Adam([weight], lr=0.1)
        scheduler = module.OneCycleLR(opt, 0.5, total_steps=20)
        for _ in range(20):
            opt.zero_grad()
            (weight**2).sum().backward()
            opt.step()
            scheduler.step()
        results.append(weight.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


# Groups that are added later


@pytest.mark.parametrize("name", [*SIMPLE, "nested", "ReduceLROnPlateau"])
def test_a_group_that_is_added_later_takes_part(name):
    """From its second step on, as if it had been there from the beginning (in torch)."""
    metrics = (1.0,) if name == "ReduceLROnPlateau" else ()
    arguments = SIMPLE.get(name, {})
    opt, reference = ours([1.0]), torchs([1.0, 0.3])
    if name == "nested":
        scheduler, expected = nested(opt), NESTED[:, None] * [1.0, 0.3]
    else:
        scheduler, its = find(name)(opt, **arguments), find(name, torch)(reference, **arguments)
        reference.step()
        expected = [rates_of(reference)]
        for _ in range(30):
            its.step(*metrics)
            expected.append(rates_of(reference))
    opt.step()
    for step in range(1, len(expected)):
        if step == 5:
            opt.add_param_group({"params": [np.ones(1)], "lr": 0.3})
        scheduler.step(*metrics)
        groups = len(opt.param_groups)
        assert rates_of(opt) == pytest.approx(expected[step][:groups], rel=1e-13)
        assert scheduler.get_last_lr() == rates_of(opt)
    if name in ("CyclicLR", "OneCycleLR"):
        assert momenta_of(opt) == pytest.approx(momenta_of(reference), rel=1e-14)
    assert len(scheduler.lr_at(3)) == 2


def test_a_group_that_is_added_takes_part_in_two_schedulers_of_one_optimizer():
    opt = ours([1.0])
    pair = [lr_scheduler.ExponentialLR(opt, 0.5), lr_scheduler.LinearLR(opt, 0.5, 1.0, 4)]
    run(opt, pair, 2)
    opt.add_param_group({"params": [np.ones(1)], "lr": 8.0})
    for scheduler in pair:
        scheduler.step()
    shape = 0.5**3 * (0.5 + 0.5 * 3 / 4)
    assert rates_of(opt) == pytest.approx([shape, 8 * shape], rel=1e-15)


def test_lr_at_sees_an_added_group_and_changes_nothing():
    opt = ours([1.0])
    scheduler = lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(opt, 0.5)])
    opt.add_param_group({"params": [np.ones(1)], "lr": 8.0})
    keys = [set(group) for group in opt.param_groups]
    assert scheduler.lr_at(2) == [0.25, 2.0]
    assert [set(group) for group in opt.param_groups] == keys
    assert rates_of(opt) == [1.0, 8.0]


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR", "SWALR", "LambdaLR"])
def test_a_list_of_values_has_none_for_a_group_that_is_added(name):
    arguments = dict(SIMPLE[name])
    listed = {"CyclicLR": "max_lr", "OneCycleLR": "max_lr", "SWALR": "swa_lr"}.get(
        name, "lr_lambda"
    )
    arguments[listed] = [arguments[listed]]
    opt = ours([1.0])
    scheduler = find(name)(opt, **arguments)
    opt.step()
    opt.add_param_group({"params": [np.ones(1)], "lr": 0.3})
    before = rates_of(opt)
    with pytest.raises(RuntimeError, match=r"1 entries, but the optimizer now has 2.*append"):
        scheduler.step()
    assert rates_of(opt) == before
    assert scheduler.last_epoch == 0


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR", "LambdaLR", "ReduceLROnPlateau"])
def test_a_chain_steps_as_a_whole_or_not_at_all(name):
    """The last member cannot take the step, which the first one must not have taken, then."""
    listed, value = {
        "CyclicLR": ("max_lr", 0.5),
        "OneCycleLR": ("max_lr", 0.5),
        "LambdaLR": ("lr_lambda", lambda step: 0.5),
        "ReduceLROnPlateau": ("min_lr", 0.1),
    }[name]
    arguments = {**SIMPLE.get(name, {}), listed: [value]}
    opt = ours([1.0])
    first = lr_scheduler.StepLR(opt, 1)
    chain = lr_scheduler.ChainedScheduler([first, find(name)(opt, **arguments)])
    opt.step()
    if name == "ReduceLROnPlateau":
        for metric in ("low", np.ones(3), None):
            with pytest.raises(TypeError, match=r"ReduceLROnPlateau: expected a .*metric"):
                chain.step(metric)
            assert (first.last_epoch, chain.last_epoch) == (0, 0)
    opt.add_param_group({"params": [np.ones(1)], "lr": 0.3})
    before = rates_of(opt)
    with pytest.raises(RuntimeError, match=r"1 entries, but the optimizer now has 2.*append"):
        chain.step(1.0)
    assert (rates_of(opt), first.last_epoch, chain.last_epoch) == (before, 0, 0)


# What is checked when a scheduler is made

BAD = [
    ("StepLR", {"step_size": 0}, "step_size: expected a number in \\(0, inf\\), but got 0"),
    ("StepLR", {"step_size": -3}, "step_size"),
    ("StepLR", {"step_size": 3, "gamma": 0}, "gamma"),
    ("StepLR", {"step_size": 3, "gamma": -0.1}, "gamma"),
    ("StepLR", {"step_size": math.nan}, "step_size"),
    ("StepLR", {"step_size": 3, "last_epoch": -2}, "last_epoch"),
    ("MultiStepLR", {"milestones": [5, 3]}, r"increasing steps, but got \[5, 3\]"),
    ("MultiStepLR", {"milestones": [-1, 3]}, "milestones: expected a non-negative integer"),
    ("MultiStepLR", {"milestones": [1.5]}, "milestones"),
    ("MultiStepLR", {"milestones": [1], "gamma": 0}, "gamma"),
    ("ConstantLR", {"factor": 0}, "factor: expected a number in \\(0, 1\\], but got 0"),
    ("ConstantLR", {"factor": 1.1}, "factor"),
    ("ConstantLR", {"total_iters": 0}, "total_iters"),
    ("LinearLR", {"start_factor": 0}, "start_factor"),
    ("LinearLR", {"start_factor": 2}, "start_factor"),
    ("LinearLR", {"end_factor": -0.1}, "end_factor"),
    ("LinearLR", {"end_factor": 1.1}, "end_factor"),
    ("LinearLR", {"total_iters": 0}, "total_iters"),
    ("ExponentialLR", {"gamma": 0}, "gamma"),
    ("ExponentialLR", {"gamma": "x"}, "gamma"),
    ("PolynomialLR", {"total_iters": 0}, "total_iters"),
    ("PolynomialLR", {"power": -1}, "power"),
    ("CosineAnnealingLR", {"T_max": 0}, "T_max"),
    ("CosineAnnealingLR", {"T_max": -1}, "T_max"),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": "a"}, "eta_min"),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}, "T_0: expected a positive integer, but got 0"),
    ("CosineAnnealingWarmRestarts", {"T_0": 1.5}, "T_0"),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 0}, "T_mult"),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "eta_min": "a"}, "eta_min"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "step_size_up": 0}, "step_size_up"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "step_size_down": -1}, "step_size_down"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "mode": "x"}, "mode: expected 'triangular' or"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "gamma": 0}, "gamma"),
    ("CyclicLR", {"base_lr": [0.1], "max_lr": 1}, "base_lr: expected 2 values.*but got 1"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": [1, 1, 1]}, "max_lr: expected 2 values.*but got 3"),
    ("CyclicLR", {"base_lr": -0.1, "max_lr": 1}, "base_lr"),
    ("CyclicLR", {"base_lr": 0, "max_lr": 1, "base_momentum": [0.8]}, "base_momentum"),
    ("OneCycleLR", {"max_lr": 1}, "total_steps, or both epochs and steps_per_epoch"),
    ("OneCycleLR", {"max_lr": 1, "epochs": 3}, "total_steps, or both"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 0}, "total_steps"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 5.0}, "total_steps"),
    ("OneCycleLR", {"max_lr": 1, "epochs": -1, "steps_per_epoch": 2}, "epochs"),
    ("OneCycleLR", {"max_lr": 1, "epochs": 1, "steps_per_epoch": 0}, "steps_per_epoch"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "pct_start": 0.0}, "pct_start.*\\(0, 1\\)"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "pct_start": 1.0}, "pct_start"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "pct_start": 1.1}, "pct_start"),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 9, "pct_start": 0.6, "three_phase": True},
        "pct_start.*\\(0, 0.5\\]",
    ),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "anneal_strategy": "x"}, "'cos' or 'linear'"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "div_factor": 0}, "div_factor"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "final_div_factor": -1}, "final_div_factor"),
    ("OneCycleLR", {"max_lr": [1], "total_steps": 9}, "max_lr: expected 2 values"),
    ("ReduceLROnPlateau", {"factor": 1.0}, "factor: expected a number in \\(0, 1\\)"),
    ("ReduceLROnPlateau", {"factor": 0}, "factor"),
    ("ReduceLROnPlateau", {"factor": -0.5}, "factor"),
    ("ReduceLROnPlateau", {"patience": -1}, "patience"),
    ("ReduceLROnPlateau", {"cooldown": -1}, "cooldown"),
    ("ReduceLROnPlateau", {"threshold": -1}, "threshold"),
    ("ReduceLROnPlateau", {"mode": "x"}, "mode: expected 'min' or 'max', but got 'x'"),
    ("ReduceLROnPlateau", {"threshold_mode": "x"}, "threshold_mode"),
    ("ReduceLROnPlateau", {"min_lr": [1]}, "min_lr: expected 2 values"),
    ("ReduceLROnPlateau", {"min_lr": -1}, "min_lr"),
    ("SWALR", {"swa_lr": [1]}, "swa_lr: expected 2 values"),
    ("SWALR", {"swa_lr": 1, "anneal_strategy": "x"}, "anneal_strategy"),
    ("SWALR", {"swa_lr": 1, "anneal_epochs": -1}, "anneal_epochs"),
    ("SWALR", {"swa_lr": 1, "anneal_epochs": 1.5}, "anneal_epochs"),
    ("LambdaLR", {"lr_lambda": [len]}, "expected 2 functions.*but got 1"),
    ("MultiplicativeLR", {"lr_lambda": [len]}, "expected 2 functions"),
    ("WarmupLR", {"warmup_steps": -1}, "warmup_steps"),
    ("WarmupLR", {"warmup_steps": 2, "start_factor": 0}, "start_factor"),
    *[
        (
            "WarmupStableDecayLR",
            {"warmup_steps": 1, "stable_steps": 1, "decay_steps": 0, **bad},
            key,
        )
        for key, bad in {
            "stable_steps": {"stable_steps": -1},
            "decay_steps": {"decay_steps": -1},
            "eta_min": {"eta_min": -1},
            "anneal_strategy": {"anneal_strategy": "x"},
        }.items()
    ],
    ("WarmupLR", {"warmup_steps": 2, "last_epoch": -2}, "last_epoch"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "last_epoch": -2}, "last_epoch"),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "last_epoch": -2}, "last_epoch"),
    ("CosineWarmupLR", {"warmup_steps": 5, "total_steps": 4}, "total_steps.*at least 5"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_arguments_are_errors_and_change_nothing(name, arguments, message):
    opt = ours()
    before = copy.deepcopy([{**g, "params": None} for g in opt.param_groups])
    with pytest.raises(ValueError, match=message):
        find(name)(opt, **arguments)
    assert [{**g, "params": None} for g in opt.param_groups] == before


def test_what_is_no_optimizer_function_or_momentum():
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        lr_scheduler.StepLR(3, 3)
    for name in ("LambdaLR", "MultiplicativeLR"):
        with pytest.raises(TypeError, match="expected a function, but got int"):
            find(name)(ours(), 3)
    for name in ("CyclicLR", "OneCycleLR"):
        opt = ours(cls=optim.Adagrad, lr=1.0)
        with pytest.raises(ValueError, match="Adagrad has neither; pass cycle_momentum=False"):
            find(name)(opt, **SIMPLE[name])
        find(name)(opt, **SIMPLE[name], cycle_momentum=False)
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'initial_lr'"):
        lr_scheduler.StepLR(ours(), 3, last_epoch=4)


@pytest.mark.parametrize("name", ["SequentialLR", "ChainedScheduler"])
def test_bad_members_are_errors(name):
    def make(opt, members, milestones):
        if name == "ChainedScheduler":
            return lr_scheduler.ChainedScheduler(members, opt)
        return lr_scheduler.SequentialLR(opt, members, milestones)

    opt, other = ours(), ours()
    step = lr_scheduler.StepLR(opt, 3)
    with pytest.raises(ValueError, match="at least one scheduler"):
        make(opt, [], [])
    with pytest.raises(
        TypeError, match=r"expected a scheduler of arrayopt at index 1, but got .*int"
    ):
        make(opt, [step, 3], [1])
    with pytest.raises(TypeError, match=r"torch\.optim\.lr_scheduler\.StepLR"):
        make(opt, [step, TORCH.StepLR(torchs(), 3)], [1])
    with pytest.raises(ValueError, match="the StepLR at index 1 belongs to another SGD"):
        make(opt, [step, lr_scheduler.StepLR(other, 3)], [1])
    if name == "SequentialLR":
        for milestones in ([], [1, 2]):
            with pytest.raises(ValueError, match="milestones: expected 1, one fewer"):
                make(opt, [step, step], milestones)
        with pytest.raises(ValueError, match=r"increasing steps, but got \[3, 2\]"):
            make(opt, [step, step, step], [3, 2])
        with pytest.raises(ValueError, match="non-negative"):
            make(opt, [step, step], [-1])
    else:
        opt.step()
        step.step()
        with pytest.raises(ValueError, match=r"at the same step, but got \[0, 1\]"):
            make(opt, iter([step, lr_scheduler.StepLR(opt, 3)]), None)


def test_what_is_said_of_bad_lists_and_members():
    opt = ours()
    step = lr_scheduler.StepLR(opt, 3)
    one = lr_scheduler.OneCycleLR(opt, 1.0, 10)
    cases = [
        (lambda: lr_scheduler.MultiStepLR(opt, 3), "milestones: expected a list of steps.*got 3"),
        (lambda: lr_scheduler.SequentialLR(opt, [step, step], 3), "milestones: expected a list"),
        (lambda: lr_scheduler.ChainedScheduler(step), "a list of schedulers, but got StepLR"),
        (lambda: lr_scheduler.WarmupLR(opt, 3, "x"), "after: expected a scheduler, but got 'x'"),
    ]
    for make, message in cases:
        with pytest.raises(TypeError, match=message):
            make()
    nested_one = lr_scheduler.ChainedScheduler([one, step])
    for member in (one, nested_one, lr_scheduler.SequentialLR(opt, [step, one], [0])):
        with pytest.raises(ValueError, match=r"a turn of at most 11 steps.*but got 12"):
            lr_scheduler.SequentialLR(opt, iter([member, step]), [12])
        lr_scheduler.SequentialLR(opt, [member, step], [11])
    warmed = lr_scheduler.SequentialLR(opt, [step, one], [5])
    with pytest.raises(ValueError, match=r"at most 16 steps.*but got 17"):
        lr_scheduler.SequentialLR(opt, [warmed, step], [17])


def test_bad_epochs_change_nothing():
    opt = ours()
    scheduler = lr_scheduler.StepLR(opt, 2)
    opt.step()
    before = scheduler.state_dict()
    for epoch in (-3, "a", True, math.nan):
        with pytest.raises(ValueError, match="epoch: expected a number"):
            scheduler.step(epoch)
    assert scheduler.state_dict() == before


def test_a_cycle_upside_down_is_torchs():
    a, b = ours(), torchs()
    x, p = run(a, lr_scheduler.CyclicLR(a, 2.0, 1.0, 3), 20)
    y, q = run(b, TORCH.CyclicLR(b, 2.0, 1.0, 3), 20)
    np.testing.assert_allclose(x, y, rtol=1e-14)
    np.testing.assert_allclose(p, q, rtol=1e-14)


def test_a_plateau_with_a_list_too_short_raises_at_once():
    opt = ours([1.0])
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, min_lr=[0.1])
    opt.add_param_group({"params": [np.ones(1)], "lr": 0.3})
    before = scheduler.state_dict()
    with pytest.raises(RuntimeError, match=r"min_lrs has 1 entries.*append"):
        scheduler.step(1.0)
    assert scheduler.state_dict() == before


# Warnings


def steps_that_warn(opt, scheduler, order):
    """Which of the scheduler's steps warn, `order` being "o" and "s" for the two steps."""
    warned = []
    for what in order:
        if what == "o":
            opt.step()
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step()
        assert all(w.filename == __file__ for w in caught)  # the caller's line, not ours
        warned.append(any("before optimizer.step()" in str(w.message) for w in caught))
    return warned


@pytest.mark.parametrize("make", [ours, torchs])
@pytest.mark.parametrize("name", [*SIMPLE, "nested"])
@pytest.mark.parametrize(
    ("before", "order", "expected"),
    [
        ("", "os", [False]),
        ("", "s", [True]),
        ("", "sos", [True, False]),
        ("", "oss", [False, False]),  # a schedule may be finer than the steps
        ("o", "s", [True]),  # the first rate of this schedule is never used
        ("o", "oos", [False]),
    ],
)
def test_the_order_is_warned_of_when_it_is_wrong(make, name, before, order, expected):
    opt = make()
    for _ in before:
        opt.step()
    scheduler = made(name, opt)
    assert steps_that_warn(opt, scheduler, order) == expected


@pytest.mark.parametrize("make", [ours, torchs])
def test_the_order_is_known_after_pickling_and_loading(make):
    for stepped in (False, True):
        opt = make()
        scheduler = lr_scheduler.StepLR(opt, 3)
        if stepped:
            opt.step()
        for copied in (pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler)):
            assert steps_that_warn(copied.optimizer, copied, "s") == [not stepped]
            assert steps_that_warn(copied.optimizer, copied, "s") == [False]
        other = make()
        loaded = lr_scheduler.StepLR(other, 3)
        loaded.load_state_dict(scheduler.state_dict())
        assert steps_that_warn(other, loaded, "s") == [not stepped]
        copied = pickle.loads(pickle.dumps(lr_scheduler.StepLR(make(), 3)))
        assert steps_that_warn(copied.optimizer, copied, "os") == [False]


def test_nothing_of_the_optimizer_is_patched():
    for make in (ours, torchs):
        opt = make()
        lr_scheduler.StepLR(opt, 3)
        assert "step" not in vars(opt)
    lr_scheduler.ReduceLROnPlateau(opt).step(1.0)  # which skips no rate, and does not warn


def test_epoch_is_deprecated_and_jumps():
    opt = ours([1.0])
    scheduler = lr_scheduler.ExponentialLR(opt, 0.5)
    opt.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(3)
    assert (scheduler.last_epoch, rates_of(opt)) == (3, [0.125])
    scheduler.step()
    assert rates_of(opt) == [0.0625]
    plateau = lr_scheduler.ReduceLROnPlateau(opt)
    with pytest.warns(UserWarning, match=r"epoch parameter of ReduceLROnPlateau\.step"):
        plateau.step(1.0, 7)
    assert plateau.last_epoch == 7
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        assert scheduler.get_lr() == [0.0625]


@pytest.mark.parametrize("name", [*SIMPLE, "WarmupLR"])
def test_last_epoch_may_be_an_integer_of_numpy(name):
    arguments = {**SIMPLE, "WarmupLR": {"warmup_steps": 9}}[name]
    states = []
    for last_epoch in (5, np.int64(5)):
        opt = ours()
        for group in opt.param_groups:
            group["initial_lr"] = group["lr"]
        states.append(find(name)(opt, **arguments, last_epoch=last_epoch).state_dict())
    assert repr(states[0]) == repr(states[1])  # which tells np.int64(6) from 6


@pytest.mark.parametrize("name", ["LinearLR", "CosineAnnealingWarmRestarts", "ReduceLROnPlateau"])
def test_epoch_may_be_an_integer_of_numpy(name):
    states = []
    for epoch in (9, np.int64(9)):
        opt = ours()
        scheduler = find(name)(opt, **SIMPLE.get(name, {}))
        opt.step()
        arguments = {"metrics": 1.0} if name == "ReduceLROnPlateau" else {}
        if name == "CosineAnnealingWarmRestarts":  # where it is not deprecated
            scheduler.step(epoch=epoch)
        else:
            with pytest.warns(UserWarning, match="epoch parameter"):
                scheduler.step(epoch=epoch, **arguments)
        states.append(scheduler.state_dict())
    assert repr(states[0]) == repr(states[1])


def test_a_scale_of_numpys_gives_rates_of_python():
    opt = ours()
    scheduler = lr_scheduler.CyclicLR(opt, 0.1, 1.0, 5, scale_fn=lambda x: np.exp(-x))
    opt.step()
    scheduler.step()
    assert [type(group["lr"]) for group in opt.param_groups] == [float, float]
    assert [type(group["momentum"]) for group in opt.param_groups] == [float, float]
    height = math.exp(-1) / 5  # of the first cycle, after one of five steps
    assert rates_of(opt) == pytest.approx([0.1 + 0.9 * height] * 2, rel=1e-14)


@pytest.mark.parametrize("mult", [1, 2, 3])
def test_warm_restarts_take_fractions_of_epochs(mult):
    a, b = ours([1.0]), torchs([1.0])
    mine = lr_scheduler.CosineAnnealingWarmRestarts(a, 3, mult)
    theirs = TORCH.CosineAnnealingWarmRestarts(b, 3, mult)
    a.step()
    for epoch in (0.5, 2.75, 3.0, 5.5, 9.25, 11.0, 2.5, 30.125):
        mine.step(epoch)
        theirs.step(epoch)
        for _ in range(2):
            assert rates_of(a) == pytest.approx(rates_of(b), rel=1e-14)
            assert (mine.T_cur, mine.T_i) == (theirs.T_cur, theirs.T_i)
            assert mine.last_epoch == theirs.last_epoch
            mine.step()
            theirs.step()
            if epoch == 2.5 and mult > 1:
                break
    with pytest.raises(ValueError, match="epoch"):
        mine.step(-1)


def test_restarts_are_exact_where_torchs_logarithm_is_not():
    opt = ours([1.0])
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(opt, 1, 10)
    begins = [0, 1, 11, 111, 1111, 11111, 111111]
    assert scheduler.lr_at(begins).tolist() == [[1.0] * len(begins)]
    assert [scheduler.lr_at(begin) for begin in begins] == [[1.0]] * len(begins)


# lr_at


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "int32", "uint64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("name", [*SIMPLE, "nested", "WarmupLR"])
def test_lr_at_takes_steps_of_any_dtype(name, dtype):
    opt = ours()
    scheduler = made(name, opt, {**SIMPLE, "WarmupLR": {"warmup_steps": 300}})
    steps = np.array([0, 1, 2, 100, 127], dtype)
    expected = np.transpose([scheduler.lr_at(int(step)) for step in steps])
    np.testing.assert_array_equal(scheduler.lr_at(steps), expected)


def test_lr_at_takes_numbers_only():
    scheduler = lr_scheduler.StepLR(ours(), 3)
    for bad in (["a"], [None], [1j]):
        with pytest.raises(ValueError, match="t: expected steps that are numbers"):
            scheduler.lr_at(bad)
    for bad in ("a", None, 1j, True, np.array(None)):
        with pytest.raises(ValueError, match=r"t: expected a number in \[0, inf\), but got"):
            scheduler.lr_at(bad)


@pytest.mark.parametrize("name", [*SIMPLE, "nested"])
def test_lr_at_has_no_step_at_infinity(name):
    opt = ours()
    scheduler = made(name, opt)
    for bad in (math.inf, [1.0, math.inf]):
        with pytest.raises(ValueError, match=r"t: expected .* in \[0, inf\), but got"):
            scheduler.lr_at(bad)


@pytest.mark.parametrize("name", [*SIMPLE, "nested"])
def test_lr_at_is_pure_and_takes_any_shape(name):
    opt = ours()
    scheduler = made(name, opt)
    before = copy.deepcopy(scheduler.state_dict()), copy.deepcopy(rates_of(opt))
    steps = np.arange(24).reshape(2, 3, 4)
    table = scheduler.lr_at(steps)
    assert table.shape == (2, 2, 3, 4)
    assert table.dtype == np.float64
    for step in (0, 7, np.int64(23), np.array(11)):
        rates = scheduler.lr_at(step)
        assert [type(rate) for rate in rates] == [float, float]
        assert rates == list(table.reshape(2, 24)[:, int(step)])
    assert scheduler.lr_at(np.array([], int)).shape == (2, 0)
    for bad in (-1, [-1, 2], math.nan):
        with pytest.raises(ValueError, match="t: "):
            scheduler.lr_at(bad)
    assert (scheduler.state_dict(), rates_of(opt)) == before


# Schedulers of one's own


def test_a_scheduler_of_ones_own_is_a_formula():
    class InverseSqrtLR(lr_scheduler.LRScheduler):
        def __init__(self, optimizer, scale, last_epoch=-1):
            self.scale = scale
            super().__init__(optimizer, last_epoch)

        def multiplier(self, xp, t):
            return xp.power(1 + t / self.scale, -0.5)

    opt = ours([1.0])
    scheduler = lr_scheduler.WarmupLR(opt, 1, InverseSqrtLR(opt, 1))
    rates, _ = run(opt, scheduler, 4)
    np.testing.assert_allclose(rates[:, 0], [0.5, 1, 0.5**0.5, 3**-0.5, 0.5], rtol=1e-15)
    assert scheduler.state_dict()["_schedulers"][1]["scale"] == 1
    with pytest.raises(NotImplementedError, match="LRScheduler has no multiplier"):
        lr_scheduler.LRScheduler(opt)


def test_a_scheduler_that_is_written_for_torch_works():
    def methods(base):
        class Halving(base):
            def get_lr(self):
                if not self._get_lr_called_within_step:
                    warnings.warn("use get_last_lr()", UserWarning, stacklevel=2)
                if self._is_initial:
                    return [group["lr"] for group in self.optimizer.param_groups]
                return [group["lr"] * 0.5 for group in self.optimizer.param_groups]

            def _get_closed_form_lr(self):
                return [base * 0.5**self.last_epoch for base in self.base_lrs]

        return Halving

    a, b = ours(), torchs()
    mine = methods(lr_scheduler.LRScheduler)(a)
    theirs = methods(TORCH.LRScheduler)(b)
    x, _ = run(a, mine, 5)
    y, _ = run(b, theirs, 5)
    np.testing.assert_array_equal(x, y)
    with pytest.warns(UserWarning, match="epoch"):
        mine.step(2)
    assert rates_of(a) == [BASES[0] / 4, BASES[1] / 4]
    with pytest.raises(NotImplementedError, match="no closed form"):
        mine.lr_at(3)
    assert "<figcaption>" in mine._repr_html_()
    fresh = ours()
    loaded = methods(lr_scheduler.LRScheduler)(fresh)
    loaded.load_state_dict(mine.state_dict())
    assert rates_of(fresh) == [BASES[0] / 4, BASES[1] / 4]
    loaded.step()
    assert rates_of(fresh) == [BASES[0] / 8, BASES[1] / 8]


# Looking at it


@pytest.mark.parametrize("name", [*SIMPLE, "nested", "ReduceLROnPlateau"])
def test_a_notebook_shows_the_curve(name):
    opt = ours()
    scheduler = made(name, opt, {**SIMPLE, "ReduceLROnPlateau": {}})
    before = scheduler.state_dict()
    figure = ElementTree.fromstring(scheduler._repr_html_())
    lines = figure.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert 1 <= len(lines) <= 2
    assert type(scheduler).__name__ in figure.find("figcaption").text
    assert type(scheduler).__name__ in repr(scheduler)
    assert scheduler.state_dict() == before


def drawn(scheduler):
    """The points of each curve of the representation, and its title."""
    figure = ElementTree.fromstring(scheduler._repr_html_())
    svg = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points").split() for line in figure.findall(f".//{svg}polyline")]
    title = figure.find(f".//{svg}title")
    points = [np.array([point.split(",") for point in line], float) for line in lines]
    return points, None if title is None else title.text


def test_the_curve_keeps_every_swing_and_stays_in_its_frame():
    opt = ours([1.0])
    scheduler = lr_scheduler.CyclicLR(opt, 0.1, 0.5, 5)
    scheduler.last_epoch = 9999
    (points,), title = drawn(scheduler)
    assert title == "learning rate, 0 to 0.5, at steps 0 to 9999"
    y = points[:, 1]
    for part in np.array_split(y, 20):  # down to 0.1 and up to 0.5 everywhere
        assert part.max() - part.min() == pytest.approx((y.max() - y.min()), rel=1e-9)
    (points,), title = drawn(lr_scheduler.LambdaLR(ours([0.1]), lambda t: 1 - t / 10))
    assert title == "learning rate, -0.89 to 0.1, at steps 0 to 99"
    assert points[:, 1].min() >= 0
    assert points[:, 1].max() <= 90 - 14


def test_the_representation_never_raises():
    opt = ours([1.0])
    chain = [lr_scheduler.ExponentialLR(opt, 0.9), lr_scheduler.OneCycleLR(opt, 1.0, 50)]
    points, title = drawn(lr_scheduler.ChainedScheduler(chain))  # 100 steps, but for the budget
    assert len(points) == 1
    assert title.endswith("steps 0 to 49")
    sequence = lr_scheduler.SequentialLR(opt, [lr_scheduler.StepLR(opt, 3), chain[1]], [20])
    sequence.last_epoch = 90  # beyond the end
    assert drawn(sequence)[1].endswith("steps 0 to 70")
    raising = lr_scheduler.LambdaLR(opt, lambda t: 1 / (5 - t))
    short = lr_scheduler.LambdaLR(opt, [lambda t: 1.0])
    opt.add_param_group({"params": [np.ones(1)], "lr": 0.3})
    for scheduler in (raising, short):
        assert drawn(scheduler) == ([], None)


# The contract of torch


@pytest.mark.parametrize("name", [*SIMPLE, "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"])
def test_the_signature_is_torchs(name):
    def parameters(cls):
        found = inspect.signature(cls).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    assert parameters(find(name)) == parameters(find(name, torch))


@pytest.mark.parametrize("name", [*SIMPLE, "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"])
def test_torch_and_arrayopt_load_each_others_state(name):
    def make(opt, module=None):
        if name in SIMPLE or name == "ReduceLROnPlateau":
            return find(name, module)(opt, **SIMPLE.get(name, {}))
        members = [find(n, module)(opt, **SIMPLE[n]) for n in ("LinearLR", "CosineAnnealingLR")]
        if name == "ChainedScheduler":
            return find(name, module)(members)
        return find(name, module)(opt, members, [5])

    metrics = (1.0,) if name == "ReduceLROnPlateau" else ()
    for source, target in ((ours, torchs), (torchs, ours)):
        a, b = source(), target()
        first = make(a, torch if source is torchs else None)
        second = make(b, torch if target is torchs else None)
        a.step()
        b.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(7):
                first.step(*metrics)
            second.load_state_dict(first.state_dict())
            if target is torchs:  # which does not restore the rates
                for group, other in zip(b.param_groups, a.param_groups):
                    group["lr"] = other["lr"]
            assert rates_of(b) == rates_of(a)
            for _ in range(20):
                first.step(*metrics)
                second.step(*metrics)
                assert rates_of(b) == pytest.approx(rates_of(a), rel=1e-13)


def test_a_member_that_fails_leaves_the_whole_chain_where_it_was():
    opt = optim.SGD([np.zeros(1)], lr=1.0)
    broken = [False]

    def factor(step):
        if broken[0]:
            raise ZeroDivisionError
        return 0.5

    members = [lr_scheduler.MultiplicativeLR(opt, factor) for _ in range(2)]
    members[0].lr_lambdas = [lambda step: 0.25]
    chain = lr_scheduler.ChainedScheduler(members)
    opt.step(grads=[np.zeros(1)])
    chain.step()
    assert opt.param_groups[0]["lr"] == 0.125
    broken[0] = True
    with pytest.raises(ZeroDivisionError):
        chain.step()
    assert opt.param_groups[0]["lr"] == 0.125
    assert [s.last_epoch for s in (chain, *members)] == [1, 1, 1]
    broken[0] = False
    chain.step()
    assert opt.param_groups[0]["lr"] == 0.125**2
    assert chain.get_last_lr() == [0.125**2]
