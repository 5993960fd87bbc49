"""Recordings: that they hold what the steps did, in bounded memory, and leave nothing behind."""

import numpy as np
import pytest
import torch
from arrays import normal
from specs import CASES, case_id

import arrayopt as optim
from arrayopt.interop.arrays import to_numpy


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.float16])
def test_what_is_recorded_is_what_the_for_loop_did_to_the_bit(spec, options, dtype) -> None:
    param, *grads = normal(1, [(3, 2)] * 8, dtype)
    opt = spec.cls([param], foreach=False, **options)
    params, states = [param.copy()], []
    with optim.record(opt) as recording:
        for grad in grads:
            opt.step(grads=[grad])
            params.append(param.copy())
            states.append(
                {k: np.array(v) for k, v in opt.state[opt.param_groups[0]["params"][0]].items()}
            )
    assert recording.steps.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.array_equal(recording["param"], np.stack(params[1:]))
    assert recording["param"].dtype == dtype
    for name in states[-1]:
        assert np.array_equal(recording[name], np.stack([state[name] for state in states])), name
    if spec.name != "SGD":  # whose rule has an update of its own
        assert np.array_equal(recording["update"], np.diff(np.stack(params), axis=0))


@pytest.mark.parametrize("switch", [{}, {"foreach": True}, {"fused": True}, {"foreach": False}])
def test_recording_changes_nothing(switch) -> None:
    results = []
    for recorded in (False, True):
        weights = {"w": np.linspace(-1, 1, 6), "b": np.ones(2)}
        opt = optim.Adam(weights.items(), lr=0.1, **switch)
        grads = [{"w": weights["w"] * k, "b": weights["b"] + k} for k in range(5)]
        if recorded:
            with optim.record(opt) as recording:
                for grad in grads:
                    opt.step(grads=grad)
            np.testing.assert_allclose(recording["param", "w"][-1], weights["w"], rtol=1e-14)
            np.testing.assert_allclose(recording["param", 1][-1], weights["b"], rtol=1e-14)
        else:
            for grad in grads:
                opt.step(grads=grad)
        results.append((weights["w"].tobytes(), weights["b"].tobytes()))
    assert results[0] == results[1]


def test_variables_of_adam_are_those_of_its_formulas() -> None:
    w = np.array([1.0, -2.0])
    opt = optim.Adam([w], lr=0.5, betas=(0.5, 0.75), eps=1e-3, foreach=False)
    grads = normal(1, [(2,)] * 4)
    with optim.record(opt) as recording:
        for grad in grads:
            opt.step(grads=[grad])
    t = np.arange(1, 5)
    np.testing.assert_allclose(recording["bias_correction1"], 1 - 0.5**t, rtol=1e-15)
    np.testing.assert_allclose(recording["bias_correction2_sqrt"], np.sqrt(1 - 0.75**t), rtol=1e-15)
    step_size = 0.5 * np.sqrt(1 - 0.75**t) / (1 - 0.5**t)
    np.testing.assert_allclose(recording["step_size"], step_size, rtol=1e-15)
    weights = np.array([[0.25 * 0.75 ** (i - j) * (i >= j) for j in range(4)] for i in range(4)])
    second = weights @ np.square(grads)
    denom = np.sqrt(second) + 1e-3 * np.sqrt(1 - 0.75**t)[:, None]
    np.testing.assert_allclose(recording["denom"], denom, rtol=1e-14)
    assert np.array_equal(recording["grad"], grads)
    assert recording["beta1"].tolist() == [0.5] * 4


def test_torch_tensors_and_closures() -> None:
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    opt = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9, foreach=False)
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)

    def closure():
        opt.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        return loss

    with optim.record(opt) as recording:
        losses = [opt.step(closure), opt.step(closure=closure)]
        opt.step()
    assert losses[1] is not None
    assert recording.steps.tolist() == [1, 2, 3]
    assert recording.labels == {0: "weight", 1: "bias"}
    assert np.array_equal(recording["param", "weight"][-1], to_numpy(model.weight.detach()))
    assert np.array_equal(
        recording["momentum_buffer", "bias"][-1], to_numpy(opt.state[model.bias]["momentum_buffer"])
    )


def test_a_closure_that_returns_gradients() -> None:
    w = np.array([1.0])
    opt = optim.SGD([w], lr=0.5)
    with optim.record(opt) as recording:
        assert opt.step(lambda: (3.0, [w * 1.0])) == 3.0
    assert recording["grad"].tolist() == [[1.0]]
    assert recording["param"].tolist() == [[0.5]]


def test_bfloat16_tensors() -> None:
    w = torch.ones(3, dtype=torch.bfloat16)
    opt = optim.Adam([optim.Parameter(w)], lr=0.1, foreach=False)
    with optim.record(opt) as recording:
        opt.step(grads=[torch.ones(3, dtype=torch.bfloat16)])
    assert recording["param"][0].astype(np.float32).tolist() == w.float().tolist()
    assert recording["denom"].dtype == np.float32  # the rule computes in it


def test_parameters_that_take_no_part_and_groups() -> None:
    a, b, c = (optim.Parameter(np.ones(2), name=name) for name in "abc")
    c.requires_grad = False
    opt = optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b, c], "lr": 0.25}], foreach=False)
    with optim.record(opt) as recording:
        opt.step(grads=[np.ones(2), None, np.ones(2)])
        opt.step(grads=[np.ones(2), np.ones(2), np.ones(2)])
    assert recording.labels == {0: "a", 1: "b"}
    assert recording["param", "a"].tolist() == [[0.5, 0.5], [0.0, 0.0]]
    missing, there = recording["param", "b"]
    assert np.isnan(missing).all()
    assert there.tolist() == [0.75, 0.75]
    assert [row["of"] for row in recording.table()] == ["a", "a", "b"]


def test_a_schedule_is_seen() -> None:
    opt = optim.SGD([np.zeros(1)], lr=1.0)
    scheduler = optim.lr_scheduler.ExponentialLR(opt, 0.5)
    with optim.record(opt, names=["update"]) as recording:
        for _ in range(3):
            opt.step(grads=[np.ones(1)])
            scheduler.step()
    assert recording.names == ("update",)


def test_steps_that_fail_leave_nothing() -> None:
    w = np.ones(2)
    opt = optim.Adam([w], foreach=False)
    with optim.record(opt) as recording:
        with pytest.raises(RuntimeError):
            opt.step(grads=[np.ones(3)])
        opt.step(grads=[np.ones(2)])
    assert recording.steps.tolist() == [1]
    opt.step(grads=[np.ones(2)])
    assert len(recording) == 1
    assert not opt._step_pre_hooks
    assert not opt._step_post_hooks


def test_hooks_go_when_the_block_raises() -> None:
    opt = optim.SGD([np.ones(2)])
    with pytest.raises(ZeroDivisionError), optim.record(opt):
        raise ZeroDivisionError
    assert not opt._step_pre_hooks
    assert not opt._step_post_hooks


# Bounds


def run(steps, **options):
    opt = optim.Adam([np.ones(100)], foreach=False)
    with optim.record(opt, **options) as recording:
        for _ in range(steps):
            opt.step(grads=[np.ones(100)])
    return recording


def test_every_and_last() -> None:
    assert run(10, every=4).steps.tolist() == [1, 5, 9]
    assert run(10, last=3).steps.tolist() == [8, 9, 10]
    assert run(10, every=2, last=2).steps.tolist() == [7, 9]


def test_memory_is_bounded() -> None:
    one = run(1, names=["param"])
    assert one.nbytes == 100 * 8
    recording = run(50, names=["param"], max_bytes=8 * 800 + 799)
    assert recording.nbytes == 8 * 800
    assert recording.steps.tolist() == [*range(43, 51)]


def test_a_step_that_is_too_large_is_refused_before_anything_has_changed() -> None:
    w = np.ones(100)
    opt = optim.SGD([w], lr=0.1)
    message = "more than the max_bytes=100 of a recording: record fewer"
    with optim.record(opt, max_bytes=100), pytest.raises(ValueError, match=message):
        opt.step(grads=[np.ones(100)])
    assert (w == 1).all()
    assert opt.step_count == 0


# Refusals


def test_bad_arguments() -> None:
    opt = optim.SGD({"w": np.ones(2)}.items())
    for options, error, message in (
        ({"params": ["v"]}, ValueError, r"no parameter 'v' to record; there are \['w'\]"),
        ({"params": [1]}, ValueError, "no parameter 1"),
        ({"params": "w"}, TypeError, "got one string"),
        ({"every": 0}, ValueError, "every must be an int > 0, but got 0"),
        ({"last": 1.5}, ValueError, "last must be an int > 0, but got 1.5"),
        ({"max_bytes": True}, ValueError, "max_bytes must be an int > 0, but got True"),
    ):
        with pytest.raises(error, match=message):
            optim.record(opt, **options)
    with pytest.raises(TypeError, match="LBFGS has a step of its own"):
        optim.record(optim.LBFGS([np.ones(2)]))
    with pytest.raises(TypeError, match="SparseAdam takes sparse gradients only"):
        optim.record(optim.SparseAdam([np.ones(2)]))
    with pytest.raises(TypeError, match="expected an Optimizer to record, but got type"):
        optim.record(optim.SGD)


def test_sparse_gradients() -> None:
    sparse = optim.SparseGrad([1], np.ones((1, 2)), (3, 2))
    w = np.ones((3, 2))
    opt = optim.SGD([w])
    refused = pytest.raises(RuntimeError, match="sparse gradient: a step on some of its entries")
    with optim.record(opt) as recording, refused:
        opt.step(grads=[sparse])
    assert len(recording) == 0
    assert (w == 1).all()
    opt = optim.SGD([w], momentum=0.9, foreach=False)  # which makes them dense
    with optim.record(opt) as recording:
        opt.step(grads=[sparse])
    assert recording["grad"][0].tolist() == [[0, 0], [1, 1], [0, 0]]


# Looking at it


def test_what_is_not_there_is_named() -> None:
    opt = optim.SGD({"w": np.ones(2), "b": np.ones(1)}.items())
    with optim.record(opt) as recording:
        opt.step(grads=[np.ones(2), np.ones(1)])
    with pytest.raises(KeyError, match=r"of 2 parameters: say of which.*\['w', 'b'\]"):
        recording["param"]
    with pytest.raises(KeyError, match="no parameter 'x' has been recorded"):
        recording["param", "x"]
    with pytest.raises(KeyError, match="no 'velocity' has been recorded of parameter 'w'"):
        recording["velocity", "w"]
    with optim.record(opt) as recording, pytest.raises(KeyError, match="no step has been recorded"):
        recording["param"]


def test_table_and_summary() -> None:
    recording = run(2)
    rows = recording.table(np.linalg.norm)
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["exp_avg"] == pytest.approx(1.0)  # the norm of a hundred times 0.1
    assert recording.table()[1]["exp_avg"].shape == (100,)
    assert "<Recording of 2 steps, 1 parameter, " in repr(recording)
    html = recording._repr_html_()
    assert "<th>denom</th><td>2</td><td>float64[100]</td>" in html


def test_a_branch_that_is_taken_later_has_nan_before() -> None:
    opt = optim.RAdam([np.ones(2)], foreach=False)
    with optim.record(opt) as recording:
        for _ in range(8):
            opt.step(grads=[np.ones(2)])
    rect, rho = recording["rect"], recording["rho_t"]
    assert np.array_equal(np.isnan(rect), rho <= 5)
    assert 0 < np.isnan(rect).sum() < 8


def test_a_gradient_that_carries_a_scale_is_recorded_as_the_step_takes_it() -> None:
    param = np.array([3.0, -2.0])
    opt = optim.SGD([param], lr=0.25)
    with optim.record(opt) as recording:
        opt.grad_scale = 8.0
        opt.step(grads=[np.array([8.0, 16.0])])
        opt.found_inf = np.ones(1)  # the step is skipped: no parameter takes part
        opt.step(grads=[np.array([np.inf, 16.0])])
    np.testing.assert_array_equal(recording["param"], [[2.75, -2.5], [np.nan, np.nan]])
    np.testing.assert_array_equal(param, [2.75, -2.5])
