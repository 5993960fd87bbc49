"""The statistics of batch normalization: against torch, and whatever happens on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numerical import assert_gradients
from torch.optim import swa_utils as theirs

from arrayopt import Buffer, Module, Parameter
from arrayopt.demo.model import MLP, BatchNorm, Linear
from arrayopt.swa_utils import AveragedModel, update_bn


def data(sizes=(8, 8, 8), features=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.normal(), 2, (size, features)) for size in sizes]


def statistics(layer):
    return [np.asarray(getattr(b, "data", b)) for _, b in layer.named_buffers(recurse=False)]


# The layer


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_the_layer_is_torchs(momentum):
    ours, torchs = BatchNorm(3, momentum), torch.nn.BatchNorm1d(3, momentum=momentum).double()
    rng = np.random.default_rng(1)
    for tensor, param in zip(torchs.parameters(), ours.parameters()):
        param.data[...] = rng.normal(size=3)
        tensor.data.copy_(torch.tensor(param.data))
    for training in (True, False, True):
        ours.train(training)
        torchs.train(training)
        for batch in data((2, 5, 9)):
            x = torch.tensor(batch, requires_grad=True)
            expected = torchs(x)
            delta = rng.normal(size=batch.shape)
            expected.backward(torch.tensor(delta))
            found, backward = ours.forward(batch)
            inputs, grads = backward(delta)
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-13, atol=1e-13)
            np.testing.assert_allclose(inputs, x.grad, rtol=1e-11, atol=1e-12)
            for grad, tensor in zip(grads, torchs.parameters()):
                np.testing.assert_allclose(grad, tensor.grad, rtol=1e-11, atol=1e-12)
                tensor.grad = None
    for a, b in zip(statistics(ours), statistics(torchs)):
        np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_central_differences(training):
    rng = np.random.default_rng(2)
    model = MLP((4, 5, 3, 2), rng, batch_norm=True)
    x, labels = rng.normal(size=(7, 4)), rng.integers(2, size=7)
    model.loss(x, labels)  # statistics other than those of the beginning
    model.train(training)
    assert_gradients(model, x, labels)


def test_the_layer_needs_two_samples_to_train_on():
    layer = BatchNorm(2)
    with pytest.raises(ValueError, match="batches of two or more to train on, but got one of 1"):
        layer(np.ones((1, 2)))
    assert layer.eval()(np.ones((1, 2))).shape == (1, 2)


# update_bn


def pair(momentum=0.3):
    """The same network twice: ours, and torch's."""
    model = MLP((3, 4, 2), np.random.default_rng(3), batch_norm=True)
    linear, norm = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, momentum=momentum)
    twin = torch.nn.Sequential(linear, norm, torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    model.layers[1].momentum = momentum
    for tensor, param in zip(twin.parameters(), model.parameters()):
        tensor.data = torch.tensor(param.data.T)
    return model, twin


@pytest.mark.parametrize("form", ["array", "tuple", "list"])
def test_statistics_are_torchs(form):
    model, twin = pair()
    batches = data((8, 3, 5))
    wrap = {"array": lambda x: x, "tuple": lambda x: (x, "label"), "list": lambda x: [x]}[form]
    update_bn(map(wrap, batches), model)
    theirs.update_bn([wrap(torch.tensor(batch)) for batch in batches], twin)
    for a, b in zip(statistics(model.layers[1]), statistics(twin[1])):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert model.layers[1].momentum == twin[1].momentum == 0.3


def test_a_model_of_torch_will_do():
    _, twin = pair()
    _, other = pair()
    instance = torch.nn.InstanceNorm1d(4, track_running_stats=True).double()
    twin.append(instance)
    batches = [torch.tensor(batch) for batch in data((4, 6))]
    update_bn(batches, twin[:4])
    theirs.update_bn(batches, other)
    for a, b in zip(statistics(twin[1]), statistics(other[1])):
        assert (a == b).all()
    assert not twin[1].running_mean.requires_grad
    assert twin[1](batches[0][:, :1].expand(4, 4)).requires_grad, "graphs are recorded again"
    update_bn([torch.ones(2, 4, 3)], torch.nn.Sequential(instance.float()))
    assert instance.num_batches_tracked == 0, "instance normalization is left alone, as by torch"


@pytest.mark.parametrize("sizes", [(8, 8, 8), (9, 2, 4), (2, 7)])
def test_weighted_statistics_count_every_sample_alike(sizes):
    """The mean is that of all samples; the variance, of the batches by their lengths."""
    layer, batches = BatchNorm(3), data(sizes)
    update_bn(batches, layer, weighted=True)
    everything = np.concatenate(batches)
    np.testing.assert_allclose(layer.running_mean.data, everything.mean(axis=0), rtol=1e-13)
    variances = [batch.var(axis=0, ddof=1) for batch in batches]
    expected = np.average(variances, axis=0, weights=sizes)
    np.testing.assert_allclose(layer.running_var.data, expected, rtol=1e-13)
    _, twin = pair()
    tensors = [torch.tensor(batch) for batch in batches]
    update_bn(tensors, twin, weighted=True)
    inputs = twin[0](torch.cat(tensors)).mean(dim=0).detach()
    np.testing.assert_allclose(twin[1].running_mean, inputs, rtol=1e-12, atol=1e-14)


def test_a_layer_that_a_batch_passes_by_does_not_count_it():
    class Sometimes(Module):
        def __init__(self):
            self.always, self.norm = BatchNorm(3), BatchNorm(3)

        def __call__(self, x):
            return self.always(x) if len(x) == 4 else self.norm(self.always(x) + x)

    model, batches = Sometimes(), data((4, 6, 4, 2))
    update_bn(batches, model, weighted=True)
    inputs = [(x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) + x for x in batches[1::2]]
    np.testing.assert_allclose(
        model.norm.running_mean.data, np.concatenate(inputs).mean(axis=0), rtol=1e-12
    )


def test_batches_of_the_same_length_need_no_weights():
    plain, weighted = BatchNorm(3), BatchNorm(3)
    update_bn(data(), plain)
    update_bn(data(), weighted, weighted=True)
    for a, b in zip(statistics(plain), statistics(weighted)):
        np.testing.assert_allclose(a, b, rtol=1e-14)


class Keywords(Module):
    """A model with several inputs."""

    def __init__(self):
        self.norm = BatchNorm(3)

    def __call__(self, x, scale=1.0):
        return self.norm(x * scale)


@pytest.mark.parametrize(
    "batch_fn",
    [
        lambda batch: {"x": batch["images"], "scale": 2.0},
        lambda batch: (batch["images"], 2.0),
        lambda batch: 2.0 * batch["images"],
    ],
    ids=["dict", "tuple", "input"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_batch_fn_makes_what_the_model_is_called_with(batch_fn, weighted):
    model, expected = Keywords(), BatchNorm(3)
    batches = data((5, 2))
    update_bn([{"images": x} for x in batches], model, batch_fn=batch_fn, weighted=weighted)
    update_bn([2 * x for x in batches], expected, weighted=weighted)
    for a, b in zip(statistics(model.norm), statistics(expected)):
        assert (a == b).all()


def test_an_input_that_is_a_dict_is_the_one_argument():
    class Model(Keywords):
        def __call__(self, inputs):
            return self.norm(inputs["x"])

    model, expected = Model(), BatchNorm(3)
    update_bn([({"x": x}, "label") for x in data()], model)
    update_bn(data(), expected)
    for a, b in zip(statistics(model.norm), statistics(expected)):
        assert (a == b).all()


def test_a_dict_needs_a_batch_fn():
    model = Keywords()
    before = statistics(model.norm)
    with pytest.raises(TypeError, match="but got a dict; pass batch_fn"):
        update_bn([{"x": np.ones((2, 3))}], model)
    assert all((a == b).all() for a, b in zip(statistics(model.norm), before))


def test_an_empty_list_is_no_batch():
    with pytest.raises(ValueError, match=r"a batch that begins with an array, but got \[\]"):
        update_bn([[]], BatchNorm(3))


@pytest.mark.parametrize("batch", [np.float64(1), np.ones(()), np.ones((0, 3))])
def test_weights_need_a_length(batch):
    layer = BatchNorm(3)
    with pytest.raises(ValueError, match="weighted=True needs batches that begin with an array of"):
        update_bn([batch], layer, weighted=True)
    assert layer.num_batches_tracked.data == 0


def test_inputs_are_moved_to_a_device():
    seen = []

    class Model(Module):
        def __init__(self):
            self.norm = BatchNorm(2)

        def __call__(self, x):
            seen.append(str(x.device))

    update_bn([torch.ones(2), (torch.ones(2), 1)], Model(), device="meta")
    update_bn([torch.ones(2)], Model(), "meta", batch_fn=lambda x: {"x": x})
    assert seen == ["meta"] * 3
    update_bn(data(), BatchNorm(3), device="cpu")


def flags(model):
    return [(module, module.training) for module in model.modules()]


def mixed():
    """A network with a frozen layer of normalization beside one that trains."""
    model = MLP((3, 4, 4, 2), np.random.default_rng(4), batch_norm=True)
    model.layers[1].eval()
    model.layers[4].momentum = None
    model(data()[0])
    return model


@pytest.mark.parametrize("training", [True, False])
def test_every_flag_and_momentum_is_as_before(training):
    model = mixed()
    model.training = training
    before = flags(model)
    update_bn(data(), model)
    assert flags(model) == before
    assert [layer.momentum for layer in (model.layers[1], model.layers[4])] == [0.1, None]
    assert model.layers[1].num_batches_tracked.data == 3, "a frozen layer has statistics, too"


@pytest.mark.parametrize("trouble", ["loader", "model", "empty"])
def test_an_exception_leaves_everything_as_before(trouble):
    model = mixed()
    norms = model.layers[1], model.layers[4]
    before, kept = flags(model), [a.copy() for layer in norms for a in statistics(layer)]
    arrays = [a for layer in norms for a in statistics(layer)]

    def loader():
        yield data()[0]
        if trouble == "loader":
            raise KeyError("no more")
        yield np.ones((2, 9))  # of too many features

    with pytest.raises((KeyError, ValueError), match=r"no more|matmul|at least one batch"):
        update_bn(loader() if trouble != "empty" else [], model)
    assert flags(model) == before
    assert [layer.momentum for layer in norms] == [0.1, None]
    after = [a for layer in norms for a in statistics(layer)]
    assert all(a is b for a, b in zip(after, arrays))
    assert all((a == b).all() for a, b in zip(after, kept))


def test_without_a_layer_of_batch_normalization_the_loader_is_not_touched():
    def loader():
        raise AssertionError
        yield

    update_bn(loader(), MLP((3, 2), np.random.default_rng(0)))
    update_bn(loader(), Linear(3, 2, np.random.default_rng(0)))


@pytest.mark.parametrize("model", [None, [np.ones(3)], Module(), len])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match="expected a Module that can be called as the model"):
        update_bn([], model)


def test_a_layer_of_ones_own_is_known_by_its_protocol():
    class Centre(Module):
        """Running means, no more."""

        def __init__(self):
            self.mean = Buffer(np.zeros(3))
            self.scale = Parameter(np.ones(3))
            self.momentum = 0.5
            self.batches = 0

        def reset_running_stats(self):
            self.mean.data = np.zeros(3)
            self.batches = 0

        def __call__(self, x):
            self.batches += 1
            momentum = 1 / self.batches if self.momentum is None else self.momentum
            self.mean.data = (1 - momentum) * self.mean.data + momentum * x.mean(axis=0)
            return x - self.mean.data

    layer, batches = Centre(), data()
    layer(batches[0])
    update_bn(batches, layer)
    expected = np.mean([batch.mean(axis=0) for batch in batches], axis=0)
    np.testing.assert_allclose(layer.mean.data, expected, rtol=1e-14)
    assert layer.momentum == 0.5


def test_statistics_of_an_average():
    model, twin = pair()
    ours, torchs = AveragedModel(model), theirs.AveragedModel(twin)
    for _ in range(3):
        for tensor, param in zip(twin.parameters(), model.parameters()):
            param.data += 0.1
            tensor.data = torch.tensor(param.data.T)
        ours.update_parameters(model)
        torchs.update_parameters(twin)
    batches = data((6, 5))
    update_bn(batches, ours)
    theirs.update_bn(map(torch.tensor, batches), torchs)
    ours.eval()
    torchs.eval()
    x = data()[0]
    np.testing.assert_allclose(ours(x), torchs(torch.tensor(x)).detach(), rtol=1e-13, atol=1e-14)
