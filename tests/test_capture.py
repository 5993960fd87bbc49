"""Steps in CUDA graphs, on a stand-in whose graphs are launches that are kept and done again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import normal
from cupy_standin import late, waiting
from specs import BY_NAME, DTYPE_CASES, Spec, case_id

import arrayopt as optim

#: Of which RAdam takes another branch in the first steps.
WARM, REPLAYED = 7, 5

SHAPES = [(4, 3), (7,), (), (0,)]


def capture(cupy: Any, opt: optim.Optimizer, grads: Any) -> Any:
    """A step as a graph."""
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        try:
            opt.step(grads=grads)
        finally:
            graph = stream.end_capture()
    return graph


class Run:
    """An optimizer on CuPy arrays, with gradients that are always in the same memory."""

    def __init__(self, cupy: Any, spec: Spec, options: Any, dtype: str, shapes: Any) -> None:
        self.cupy = cupy
        self.params = [*map(cupy.asarray, normal(0, shapes, dtype))]
        self.grads = [*map(cupy.zeros_like, self.params)]
        self.dtype, self.shapes = dtype, shapes
        self.opt = spec.cls([{"params": self.params, "capturable": True, **options}])
        self.count = 0

    def look(self) -> None:
        """New numbers in the gradients, and another learning rate."""
        self.count += 1
        for grad, new in zip(self.grads, normal(self.count, self.shapes, self.dtype), strict=True):
            grad[...] = self.cupy.asarray(new)
        self.opt.param_groups[0]["lr"] = 0.01 / self.count

    def step(self) -> None:
        self.look()
        self.opt.step(grads=self.grads)

    def capture(self) -> Any:
        return capture(self.cupy, self.opt, self.grads)

    def replay(self, graph: Any) -> None:
        self.look()
        self.opt.prepare_replay()
        graph.launch()

    def same(self, other: Run) -> None:
        """The same bits, the same counts."""
        for array, expected in zip(self.params, other.params, strict=True):
            np.testing.assert_array_equal(array.get(), expected.get())
        assert self.opt.step_count == other.opt.step_count
        ours, theirs = self.opt.state_dict(), other.opt.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for number, entry in ours["state"].items():
            for name, value in entry.items():
                expected = theirs["state"][number][name]
                if hasattr(value, "get"):
                    value, expected = value.get(), expected.get()
                np.testing.assert_array_equal(value, expected)


def runs(cupy: Any, name: str = "Adam", shapes: Any = SHAPES, **options: Any) -> tuple[Run, Run]:
    """Two that are alike, after enough steps that another one can be captured."""
    pair = [Run(cupy, BY_NAME[name], options, "float32", shapes) for _ in range(2)]
    for run in pair:
        for _ in range(WARM):
            run.step()
    return pair[0], pair[1]


@pytest.mark.parametrize(("spec", "options", "dtype"), DTYPE_CASES, ids=case_id)
def test_replays_are_steps_to_the_bit(
    cupy: Any, spec: Spec, options: dict[str, Any], dtype: str
) -> None:
    captured, plain = (Run(cupy, spec, options, dtype, SHAPES) for _ in range(2))
    for _ in range(WARM):
        captured.step()
        plain.step()
    before = [array.get() for array in captured.params]
    graph = captured.capture()
    for array, expected in zip(captured.params, before, strict=True):
        np.testing.assert_array_equal(array.get(), expected)
    captured.same(plain)  # what is captured has not been done, nor counted
    for _ in range(REPLAYED):
        captured.replay(graph)
        plain.step()
    captured.same(plain)


def test_one_array_is_captured_as_well(cupy: Any) -> None:
    captured, plain = runs(cupy, "NAdam", [(5, 2)])
    graph = captured.capture()
    captured.replay(graph)
    plain.step()
    captured.same(plain)


def test_replays_wait_for_nothing_however_late_they_are_done(cupy: Any) -> None:
    captured, plain = runs(cupy)
    graph = captured.capture()
    with late():
        with waiting() as log:
            for _ in range(REPLAYED):
                captured.replay(graph)
            assert log.waits == []
        for _ in range(REPLAYED):
            plain.step()
    captured.same(plain)


def test_steps_and_replays_can_alternate(cupy: Any) -> None:
    captured, plain = runs(cupy, "ASGD")
    graph = captured.capture()
    for turn in range(6):
        if turn % 3:
            captured.replay(graph)
        else:
            captured.step()
        plain.step()
    captured.same(plain)


def test_schedulers_drive_replays(cupy: Any) -> None:
    captured, plain = runs(cupy)
    schedules = [optim.lr_scheduler.StepLR(run.opt, 1, gamma=0.5) for run in (captured, plain)]
    graph = captured.capture()
    for _ in range(REPLAYED):
        captured.opt.prepare_replay()
        graph.launch()
        schedules[0].step()
        plain.opt.step(grads=plain.grads)
        schedules[1].step()
    captured.same(plain)
    assert captured.opt.param_groups[0]["lr"] < 0.01 / WARM / 16


def test_several_groups(cupy: Any) -> None:
    def make() -> tuple[optim.Optimizer, list[Any], list[Any]]:
        params = [cupy.ones(3), cupy.ones(4)]
        grads = [cupy.full(3, 0.5), cupy.full(4, 0.25)]
        groups = [{"params": [params[0]], "lr": 0.1}, {"params": [params[1]], "lr": 0.2}]
        return optim.AdamW(groups, capturable=True), params, grads

    (opt, params, grads), (plain, others, _) = make(), make()
    opt.step(grads=grads)
    graph = capture(cupy, opt, grads)
    plain.step(grads=grads)
    for _ in range(3):
        opt.prepare_replay()
        graph.launch()
        plain.step(grads=grads)
    for param, other in zip(params, others, strict=True):
        np.testing.assert_array_equal(param.get(), other.get())


@pytest.mark.parametrize("on_device", [True, False])
def test_a_scale_that_changes_between_replays(cupy: Any, on_device: bool) -> None:
    captured, plain = runs(cupy)
    scale = cupy.full(1, 1.0, dtype="float32") if on_device else np.ones(())
    captured.opt.grad_scale = scale
    graph = captured.capture()
    for turn in range(REPLAYED):
        captured.look()
        scale[...] = 2.0**turn
        for grad in captured.grads:
            grad[...] = grad * 2.0**turn
        captured.opt.prepare_replay()
        graph.launch()
        plain.step()
    captured.same(plain)


@pytest.mark.parametrize("name", ["Adam", "NAdam", "SGD"])
def test_replays_that_are_skipped_on_the_device(cupy: Any, name: str) -> None:
    captured, plain = runs(cupy, name)
    captured.opt.found_inf = found = cupy.zeros(1, dtype="float32")
    graph = captured.capture()
    for skipped in (False, True, True, False, True):
        found[...] = float(skipped)
        captured.replay(graph)
        if skipped:
            plain.look()
            plain.opt.step_count += 1  # (which counts what was skipped)
        else:
            plain.step()
    captured.same(plain)


def test_an_overflow_that_the_host_knows_of(cupy: Any) -> None:
    captured, _ = runs(cupy)
    captured.capture()
    captured.opt.found_inf = 1.0
    with pytest.raises(RuntimeError, match="found_inf tells that the step is to be skipped"):
        captured.opt.prepare_replay()


def unchanged(run: Run, match: str) -> None:
    """No replay, and nothing counted."""
    before = {number: dict(entry) for number, entry in run.opt.state_dict()["state"].items()}
    count = run.opt.step_count
    with pytest.raises(RuntimeError, match=match):
        run.opt.prepare_replay()
    assert run.opt.step_count == count
    for number, entry in run.opt.state_dict()["state"].items():
        assert entry.keys() == before[number].keys()
        assert all(entry[name] is before[number][name] for name in entry if name != "step")
        assert entry.get("step") == before[number].get("step")


def test_another_branch_has_to_be_captured_anew(cupy: Any) -> None:
    run = Run(cupy, BY_NAME["RAdam"], {}, "float32", SHAPES)
    plain = Run(cupy, BY_NAME["RAdam"], {}, "float32", SHAPES)
    for _ in range(3):
        run.step()
        plain.step()
    graph = run.capture()
    run.replay(graph)
    run.replay(graph)
    for _ in range(2):
        plain.step()
    run.same(plain)
    unchanged(run, "computes something else than the one that was captured.*capture the step anew")
    run.step()
    graph = run.capture()
    run.replay(graph)
    for _ in range(2):
        plain.step()
    run.same(plain)


def test_an_option_that_changes_what_is_computed(cupy: Any) -> None:
    run, _ = runs(cupy)
    run.capture()
    run.opt.param_groups[0]["weight_decay"] = 0.5
    unchanged(run, "an option or, as in RAdam's first steps, its number has changed")


def test_arrays_that_have_been_replaced(cupy: Any) -> None:
    run, _ = runs(cupy)
    run.capture()
    run.opt.load_state_dict(run.opt.state_dict())
    with pytest.raises(RuntimeError, match="or a state has been loaded"):
        run.opt.prepare_replay()
    run.capture()
    run.opt.param_groups[0]["params"][0].data = cupy.ones((4, 3), dtype="float32")
    unchanged(run, "a parameter or its state is another array than the one that was captured")


def test_step_counts_that_differ(cupy: Any) -> None:
    run, _ = runs(cupy)
    run.capture()
    run.opt.state[run.opt.param_groups[0]["params"][0]]["step"] = 99
    unchanged(run, "the parameters do not have the same step count any more")


def test_without_a_capture_there_is_no_replay(cupy: Any) -> None:
    run, _ = runs(cupy)
    unchanged(run, "no step has been captured: call step")


class Remainder(optim.Optimizer):
    """A rule that CUDA has no kernel for."""

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - group["lr"] * xp.remainder(grad, 2.0), {}


def test_what_cannot_be_captured(cupy: Any) -> None:
    def refused(opt: optim.Optimizer, grads: Any, match: str, warm: bool = True) -> None:
        if warm:
            opt.step(grads=grads)
        count, state = opt.step_count, {param: dict(entry) for param, entry in opt.state.items()}
        with pytest.raises(RuntimeError, match=match):
            capture(cupy, opt, grads)
        assert opt.step_count == count
        assert opt.state.keys() == state.keys()
        for param, entry in opt.state.items():
            assert entry.keys() == state[param].keys()
            assert all(value is state[param][name] for name, value in entry.items())

    ones = cupy.ones(3)
    refused(optim.Adam([cupy.ones(3)]), [ones], "capturable is False; set it to True")
    refused(
        optim.Adam([cupy.ones(3)], capturable=True),
        [ones],
        r"the state \['exp_avg', 'exp_avg_sq'\] is made by the first step.*take a step before",
        warm=False,
    )
    refused(
        optim.SGD([cupy.ones(3)], momentum=0.9),
        [ones],
        r"the state \['momentum_buffer'\] is made by the first step",
        warm=False,
    )
    refused(
        optim.Adam([cupy.ones(3)], capturable=True, foreach=True),
        [ones],
        "fused, on CuPy arrays with dense gradients, but this one is carried out by cupy_packed",
    )
    refused(
        optim.SparseAdam([cupy.ones(3)]),
        [optim.SparseGrad(np.array([1]), cupy.ones(1), (3,))],
        "with dense gradients",
    )
    refused(
        optim.Adam([cupy.ones(3), np.ones(3)], capturable=True),
        [ones, np.ones(3)],
        "a step cannot be captured in part",
    )
    refused(
        optim.Adam([cupy.ones(3, dtype="float32")], capturable=True),
        [ones],
        r"expected float32, but got \['float64'\]",
    )
    refused(
        Remainder([cupy.ones(3)], {"lr": 0.1, "capturable": True}),
        [ones],
        "a step that cannot be fused cannot be captured: .*remainder",
    )
    memory = cupy.ones(4)
    refused(
        optim.Adam([memory[:3], memory[1:]], capturable=True),
        [ones, ones],
        "a step on arrays that overlap cannot be captured",
    )


def test_sgd_and_adagrad_need_no_option(cupy: Any) -> None:
    for cls in (optim.SGD, optim.Adagrad):
        params, others, grads = [cupy.ones(3)], [cupy.ones(3)], [cupy.ones(3)]
        opt, plain = cls(params, lr=0.1), cls(others, lr=0.1)
        opt.step(grads=grads)
        graph = capture(cupy, opt, grads)
        opt.prepare_replay()
        graph.launch()
        for _ in range(2):
            plain.step(grads=grads)
        np.testing.assert_array_equal(params[0].get(), others[0].get())
