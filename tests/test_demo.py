"""The demo: its gradients, its training, and how it compares with torch."""

import math
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from numerical import assert_gradients
from specs import BY_NAME

from arrayopt.demo.agreement import (
    BOUND,
    Agreement,
    agreement,
    average_agreement,
    relative_difference,
)
from arrayopt.demo.averaging import Averaging
from arrayopt.demo.model import MLP
from arrayopt.demo.plot import plot
from arrayopt.demo.recipes import RECIPES, Recipe, algorithms, recipe
from arrayopt.demo.training import Digits, Run, batches, load, train


@pytest.fixture(scope="module")
def few():
    """The first images of each half."""
    digits = load()
    return Digits(digits.x_train[:64], digits.x_test[:20], digits.y_train[:64], digits.y_test[:20])


def test_the_data_are_the_1797_digits_standardised():
    digits = load()
    assert digits.x_train.shape == (1347, 64)
    assert digits.x_test.shape == (450, 64)
    np.testing.assert_allclose(digits.x_train.mean(axis=0), 0, atol=1e-13)
    deviations = digits.x_train.std(axis=0)
    varying = deviations > 0
    assert varying.sum() >= 60
    np.testing.assert_allclose(deviations[varying], 1, rtol=1e-12)


@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), (6, 5, 4, 3)])
def test_gradients_are_central_differences(sizes):
    rng = np.random.default_rng(1)
    model = MLP(sizes, rng)
    x, labels = rng.normal(size=(7, 6)), rng.integers(3, size=7)
    assert_gradients(model, x, labels)


def test_the_loss_is_the_cross_entropy_of_torch():
    rng = np.random.default_rng(2)
    model, x, labels = MLP((4, 8, 3), rng), rng.normal(size=(9, 4)), rng.integers(3, size=9)
    expected = torch.nn.functional.cross_entropy(torch.tensor(model(x)), torch.tensor(labels))
    assert model.loss(x, labels) == pytest.approx(float(expected), rel=1e-14)
    assert model.loss_and_grads(x, labels)[0] == model.loss(x, labels)


def test_the_loss_stands_large_logits():
    model = MLP((1, 2), np.random.default_rng(0))
    model.layers[0].weight.data[...] = [[0.0, 1000.0]]
    assert model.loss(np.ones((1, 1)), np.array([0])) == 1000.0


@pytest.mark.parametrize("name", algorithms())
def test_every_algorithm_ends_where_torch_does(few, name):
    run = train(algorithms()[name], recipe(name), few, epochs=3, seed=3)
    steps = 3 if recipe(name).batch_size is None else 6
    assert len(run.seconds) == steps
    assert len(run.losses) == 4
    assert run.losses[-1] < run.losses[0]
    assert any((a != b).any() for a, b in zip(run.initial, run.final))
    assert agreement(run).ok


@pytest.mark.parametrize("average", ["swa", "ema"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS", "SparseAdam"])
def test_every_average_ends_where_torch_does(few, name, average):
    run = train(algorithms()[name], recipe(name), few, epochs=6, seed=3, average=average)
    averaging = run.averaging
    steps = len(run.seconds)
    assert (
        averaging.averaged.n_averaged == len(averaging.taken) == (steps if average == "ema" else 2)
    )
    assert len(averaging.losses) == len(run.test_losses) == len(run.losses) == 7
    assert average_agreement(run, batches(few.x_train)).ok
    final = averaging.averaged.module.layers[0].weight.data
    final *= 1 + 1e-9
    assert not average_agreement(run, batches(few.x_train)).ok


def test_swa_takes_the_last_epochs_and_goes_back_to_a_constant_rate(few):
    run = train(algorithms()["SGD"], recipe("SGD"), few, epochs=15, seed=0, average="swa")
    averaging = run.averaging
    assert averaging.first == 9
    assert len(averaging.taken) == 6
    assert [math.isnan(loss) for loss in averaging.losses] == [True] * 10 + [False] * 6
    assert averaging.constant.get_last_lr() == pytest.approx([0.05], rel=1e-12)
    weights = [weights[0] for weights in averaging.taken]
    np.testing.assert_allclose(
        averaging.averaged.module.layers[0].weight.data, np.mean(weights, axis=0), atol=1e-15
    )


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_swa_averages_at_least_the_last_epoch(epochs):
    model = MLP((2, 3, 2), np.random.default_rng(0), batch_norm=True)
    averaging = Averaging("swa", model, algorithms()["SGD"](model.parameters()), epochs)
    assert averaging.first == {1: 0, 2: 1, 300: 161}[epochs]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_algorithms_and_options_of_torch(name):
    BY_NAME[name].theirs([torch.zeros(1, 1)], **RECIPES[name].options)


def test_a_seed_determines_the_run(few):
    first, again, other = (
        train(algorithms()["SGD"], recipe("SGD"), few, epochs=1, seed=seed) for seed in (0, 0, 1)
    )
    assert first.losses == again.losses
    assert first.losses != other.losses


def test_an_algorithm_without_a_recipe_uses_its_defaults():
    assert recipe("Unheard") == Recipe({})
    assert recipe("Unheard", lr=0.5).options == {"lr": 0.5}


def replayed(name, options, steps=3):
    """A run of which torch itself made the parameters, minimizing the sum of squares."""
    param = torch.tensor([3.0, -2.0], dtype=torch.float64)
    run = Run(name, options, [param.numpy().copy()])
    optimizer = getattr(torch.optim, name)([param], **options)

    def closure():
        param.grad = 2 * param
        loss = (param**2).sum()
        run.evaluations.append((float(loss), [param.grad.numpy().copy()]))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        run.seconds.append(0.0)
    run.final = [param.numpy()]
    return run


def test_agreement_covers_algorithms_that_evaluate_several_times_a_step():
    run = replayed("LBFGS", {"lr": 0.1, "max_iter": 4})
    assert len(run.evaluations) > len(run.seconds)
    assert agreement(run).difference == 0


def test_a_deviation_is_out_of_bounds():
    run = replayed("SGD", {"lr": 0.1})
    run.final[0][0] *= 1 + 1e-10
    assert agreement(run).difference == pytest.approx(1e-10, rel=1e-4)
    assert not agreement(run).ok


def test_another_number_of_gradients_is_out_of_bounds():
    run = replayed("SGD", {"lr": 0.1})
    extra = Run("SGD", run.options, run.initial, run.final, run.evaluations * 2, run.seconds)
    short = Run("SGD", run.options, run.initial, run.final, run.evaluations[:1], run.seconds)
    assert [agreement(extra).difference, agreement(short).difference] == [math.inf, math.inf]


def test_what_torch_lacks_is_not_compared():
    assert agreement(Run("Unheard", {}, [])) == Agreement("Unheard", None)
    assert Agreement("Unheard", None).ok


def test_torch_is_needed_only_to_compare(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError):
        agreement(Run("SGD", {}, []))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-300, 0.0], [0.0, 0.0], math.inf),
        ([4.0, 1.5], [4.0, 1.0], 0.125),
        ([math.nan, 1.0], [1.0, 1.0], math.nan),
    ],
)
def test_the_relative_difference_is_to_the_largest_element(ours, theirs, expected):
    found = relative_difference([np.ones(3), np.array(ours)], [np.ones(3), np.array(theirs)])
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("difference", [math.nan, math.inf, 1.01 * BOUND])
def test_a_difference_that_is_no_number_is_out_of_bounds(difference):
    assert not Agreement("Adam", difference).ok


def test_the_picture_is_a_whole_png_fit_for_print(tmp_path):
    path = tmp_path / "curves.png"
    losses = [[1.0, 0.1, 0.01], [1.0, math.inf, math.nan], [1.0, 0.0, 0.0]]
    plot({f"run {n}": loss for n, loss in enumerate(losses)}, path, "A title")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, position = {}, 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(body)
        chunks.setdefault(body[:4], body[4:])
        position += 12 + length
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    dots_per_metre = struct.unpack_from(">I", chunks[b"pHYs"])[0]
    assert b"IEND" in chunks
    assert width > height > 1000
    assert round(dots_per_metre * 0.0254) == 300
