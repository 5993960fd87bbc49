"""The numbers of a rule as a function of the step: when there is one, and what it returns."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import CASES, Spec, case_id

import arrayopt as optim
from arrayopt import backend
from arrayopt.scalars import Opaque, Tape
from arrayopt.trace import Formula, TraceError, formula, trace


def scaled(expression: Any) -> Any:
    """A rule whose only constant is ``expression(group, state)``."""

    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - expression(group, state) * grad, {}

    return rule


def constant(found: Formula | None, group: Any, state: Any) -> Any:
    assert found is not None
    program = found.program(state, group)
    return None if program is None else program.constants[0]


GROUP = {"lr": 0.5, "betas": (0.9, 0.999), "flag": True, "kind": "a", "none": None, "count": 3}
STATE = {"step": 7, "mu": 0.25}


ARITHMETIC = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
}  # fmt: skip
NUMBERS = st.integers(1, 9) | st.floats(0.1, 9.0) | st.sampled_from([-2, -0.5])


@settings(max_examples=200, deadline=None)
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(sorted(ARITHMETIC)), NUMBERS, st.booleans()), max_size=6
    ),
    steps=st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 2.0)), min_size=1, max_size=4),
)
def test_a_formula_computes_what_the_rule_computes(operations: Any, steps: Any) -> None:
    def expression(group: Any, state: Any) -> Any:
        value = group["lr"] * state["step"]
        for sign, number, reflected in operations:
            function = ARITHMETIC[sign]
            value = function(number, value) if reflected else function(value, number)
            if isinstance(value, complex):
                raise ZeroDivisionError
        return value

    def by_hand(step: int, lr: float) -> Any:
        try:
            return float(expression({"lr": lr}, {"step": step}))
        except (ArithmeticError, TypeError):
            return None

    found = formula(scaled(expression), (), {"step": 3}, {"lr": 0.5})
    if found is None:
        return
    for step, lr in steps:
        result = constant(found, {"lr": lr}, {"step": step})
        expected = by_hand(step, lr)
        assert result == expected or (result != result and expected != expected), found.source


UNARY = {"minus": lambda x: -x, "plus": lambda x: +x, "size": abs}


@pytest.mark.parametrize("function", UNARY.values(), ids=UNARY)
@pytest.mark.parametrize("value", [0.25, -3.0, -0.0])
def test_signs_are_written_down(function: Any, value: float) -> None:
    found = formula(scaled(lambda group, _: function(group["lr"])), (), {}, {"lr": 1.5})
    result = constant(found, {"lr": value}, {})
    assert math.copysign(1, result) == math.copysign(1, function(value))
    assert result == function(value)


def test_numbers_that_are_not_finite_are_written_down() -> None:
    for number in (math.inf, -math.inf):
        found = formula(scaled(lambda group, _, n=number: group["lr"] * n), (), {}, {"lr": 1.5})
        assert constant(found, {"lr": 2.0}, {}) == number


BRANCHES = {
    "a comparison": (lambda g, s: 1.0 if s["step"] > 5 else 2.0, {}, {"step": 5}),
    "the other way round": (lambda g, s: 1.0 if s["step"] < 5 else 2.0, {}, {"step": 3}),
    "equality": (lambda g, s: 1.0 if s["step"] % 7 == 0 else 2.0, {}, {"step": 8}),
    "inequality": (lambda g, s: 1.0 if s["step"] != 7 else 2.0, {}, {"step": 8}),
    "at least": (lambda g, s: 1.0 if s["step"] >= 7 else 2.0, {}, {"step": 6}),
    "at most": (lambda g, s: 1.0 if s["step"] <= 7 else 2.0, {}, {"step": 8}),
    "truth": (lambda g, s: 1.0 if g["count"] else 2.0, {"count": 0}, {}),
    "falsehood": (lambda g, s: 1.0 if not g["count"] else 2.0, {"count": 0}, {}),
    "the larger one": (lambda g, s: max(1, s["step"] - 5), {}, {"step": 2}),
    "a flag": (lambda g, s: 1.0 if g["flag"] else 2.0, {"flag": False}, {}),
    "a text": (lambda g, s: 1.0 if g["kind"] == "a" else 2.0, {"kind": "b"}, {}),
    "no number": (lambda g, s: 1.0 if g["none"] is None else 2.0, {"none": 3.0}, {}),
    "a number": (lambda g, s: 2.0 if g["lr"] is None else 1.0, {"lr": None}, {}),
    "another type": (lambda g, s: g["count"] // 2, {"count": 3.0}, {}),
    "an option that may be there": (lambda g, s: 1.0 if g.get("new") else 2.0, {"new": 1}, {}),
    "a longer tuple": (lambda g, s: sum(g["betas"]), {"betas": (0.5, 0.25, 0.125)}, {}),
}


@pytest.mark.parametrize(("expression", "group", "state"), BRANCHES.values(), ids=BRANCHES)
def test_another_branch_is_another_formula(expression: Any, group: Any, state: Any) -> None:
    rule = scaled(expression)
    found = formula(rule, (), STATE, GROUP)
    assert constant(found, GROUP, STATE) == expression(GROUP, STATE)
    group, state = GROUP | group, STATE | state
    assert constant(found, group, state) is None
    assert constant(formula(rule, (), state, group), group, state) == expression(group, state)


class Capped(optim.Optimizer):
    """A rule that asks what kind of number it has."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, {"lr": 0.25, "foreach": None, **options})

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        lr = group["lr"]
        if isinstance(lr, float) and lr > 0.5:
            lr = 0.5
        return param - lr * grad, {}


def test_a_rule_that_asks_for_the_kind_of_a_number_is_run_at_every_step() -> None:
    w = np.zeros(1)
    opt = Capped([w])
    for step in range(5):
        opt.param_groups[0]["lr"] = 0.25 if step < 3 else 10.0
        opt.step(grads=[np.ones(1)])
    assert w == -3 * 0.25 - 2 * 0.5


def test_a_rule_that_is_replaced_takes_effect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    w = np.zeros(1)
    opt = Capped([w], lr=0.5)
    for _ in range(3):
        opt.step(grads=[np.ones(1)])
    monkeypatch.setattr(Capped, "rule", lambda self, xp, p, g, s, group: (p + group["lr"] * g, {}))
    opt.step(grads=[np.ones(1)])
    assert w == -3 * 0.5 + 0.5


class Late(optim.Optimizer):
    """A momentum that an option turns on, in a slot without a condition."""

    state_table = (optim.StateSlot("buf", initial=None),)

    def __init__(self, params: Any, foreach: bool | None) -> None:
        super().__init__(params, {"momentum": 0.0, "foreach": foreach})

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        if not group["momentum"]:
            return param - grad, {}
        buf = group["momentum"] * state["buf"] + grad if "buf" in state else grad
        return param - buf, {"buf": buf}


@pytest.mark.parametrize("foreach", [None, True, False])
def test_state_that_begins_late_is_kept_and_seen(foreach: bool | None) -> None:
    w = np.zeros(1)
    opt = Late([w], foreach)
    expected, buf = 0.0, None
    for step in range(8):
        if step == 3:
            opt.param_groups[0]["momentum"] = 0.5
        if step >= 3:
            buf = 1.0 if buf is None else 0.5 * buf + 1.0
        opt.step(grads=[np.ones(1)])
        expected -= 1.0 if buf is None else buf
        assert w == expected
    assert [list(entry) for entry in opt.state_dict()["state"].values()] == [["buf"]]


class Mine(optim.Optimizer):
    scale = 2.0

    def __init__(self, params: Any, expression: Any) -> None:
        super().__init__(params, {"lr": 0.5})
        self.expression = [expression]
        self.own = 0.5

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - group["lr"] * self.own * grad, {}


NO_FORMULA = {
    "a function of math": lambda g, s: math.sqrt(s["step"]),
    "a float": lambda g, s: float(s["step"]),
    "an index": lambda g, s: [1.0, 2.0][s["step"] - 6],
    "a key": lambda g, s: {7: 1.0}[s["step"]],
    "text": lambda g, s: float(str(s["step"])),
    "a type": lambda g, s: 1.0 if isinstance(s["step"], int) else 2.0,
    "rounding": lambda g, s: round(s["mu"], 1),
    "all options": lambda g, s: float(len(g)),
    "each option": lambda g, s: 1.0 * sum(1 for _ in g),
    "an array": lambda g, s: g["array"].sum(),
}


@pytest.mark.parametrize("expression", NO_FORMULA.values(), ids=NO_FORMULA)
def test_where_there_is_none_the_rule_is_traced(expression: Any) -> None:
    group = GROUP | {"array": np.ones(2)}

    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - float(expression(group, state)) * grad, {}

    assert formula(rule, (), STATE, group) is None
    assert trace(rule, (), STATE, group).constants == (float(expression(group, STATE)),)


def test_a_rule_that_reads_its_optimizer_is_run_at_every_step() -> None:
    w = np.zeros(1)
    opt = Mine([w], None)
    for step in range(6):
        opt.own = float(step)
        before = w.copy()
        opt.step(grads=[np.ones(1)])
        assert before - w == 0.5 * step


def test_a_rule_that_writes_to_its_optimizer_is_run_at_every_step() -> None:
    class Counting(Mine):
        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            self.called = getattr(self, "called", 0) + 1
            return param - grad, {}

    opt = Counting([np.zeros(1)], None)
    counts = []
    for _ in range(5):
        opt.step(grads=[np.ones(1)])
        counts.append(opt.called)
    assert sorted(set(counts)) == counts


def test_methods_and_tuples_of_the_class_may_be_used() -> None:
    class Helped(Mine):
        powers = (1, 2)

        def half(self, number: Any) -> Any:
            return number * 0.5

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - self.half(group["lr"] ** self.powers[1]) * grad, {}

    opt = Helped([np.zeros(2)], None)
    found = formula(opt.rule, (), {}, {"lr": 0.5})
    assert constant(found, {"lr": 3.0}, {}) == 4.5

    class Scaled(Mine):
        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - self.scale * grad, {}

    assert formula(Scaled([np.zeros(2)], None).rule, (), {}, {}) is None


def test_numbers_of_an_earlier_trace_are_not_taken() -> None:
    kept: list[Any] = []

    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        kept.append(group["lr"])
        return param - kept[0] * grad, {}

    assert formula(rule, (), {}, {"lr": 0.5}) is None
    with pytest.raises(TraceError, match="multiply in a rule was given a number of an earlier"):
        trace(rule, (), {}, {"lr": 0.5})
    tape = Tape()
    with pytest.raises(Opaque):
        tape.source([tape.number("group['lr']", 1.0), "text"], {})


def test_an_error_is_the_rules_own() -> None:
    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - 1 / (state["step"] - 4) * grad, {}

    class Failing(optim.Optimizer):
        state_table = (optim.StateSlot("step", 0, scalar=True),)

        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        def rule(self, *arguments: Any) -> Any:
            return rule(*arguments)

    opt = Failing([w := np.zeros(2)])
    for _ in range(3):
        opt.step(grads=[np.ones(2)])
    before = w.copy()
    with pytest.raises(ZeroDivisionError):
        opt.step(grads=[np.ones(2)])
    np.testing.assert_array_equal(w, before)


def test_a_rule_that_changes_its_mind_is_traced_in_the_end() -> None:
    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        for number in range(state["step"]):
            if state["step"] == number + 1:
                return param - float(number) * grad, {}
        raise TraceError("no step")

    batch = backend.Batch(rule, {}, [], [], [], {}, {"step": 1})
    for step in range(1, 40):
        batch.scalars["step"] = step
        assert batch.trace().constants == (step - 1.0,)
    assert batch.traced == 39


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_every_algorithm_has_a_formula_which_gives_its_programs(
    spec: Spec, options: dict[str, Any]
) -> None:
    opt = spec.cls([np.ones(3)], **options)
    compared = 0
    for step in range(12):
        if step == 8:
            opt.param_groups[0]["lr"] = options.get("lr", 0.01) / 3  # what a schedule does
        opt.step(grads=[np.ones(3)])
        (work,) = opt._last[0].works
        batch = work.batch
        if step > 2 and batch.formula.structure is work.program.structure:
            scalars = {**batch.scalars, **({"step": step + 2} if "step" in batch.scalars else {})}
            expected = trace(batch.rule, tuple(batch.states), scalars, batch.group)
            program = batch.formula.program(scalars, batch.group)
            if program is not None:  # as it is where another branch is taken
                assert repr(program) == repr(expected)
                compared += 1
    assert compared > 0
    assert batch.traced < 8


def test_the_structure_is_not_made_anew_for_another_rate() -> None:
    opt = optim.Adam([np.ones(3)])
    traced = []
    for step in range(1, 10):
        opt.param_groups[0]["lr"] = 0.1 / step
        opt.step(grads=[np.ones(3)])
        traced.append(opt._last[0].works[0].batch.traced)
    assert traced[1:] == [2] * 8
