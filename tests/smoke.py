"""Does an installed arrayopt work, and does each extra do what it is for? ``smoke.py [EXTRA]``

Needs nothing but the package. The features of extras whose packages are installed have to work;
each of the others has to fail with an error that names its extra.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import arrayopt as optim
from arrayopt import checkpoint, plotting
from arrayopt.info import extras
from arrayopt.interop import from_torch, to_optax, to_torch
from arrayopt.lr_scheduler import CosineWarmupLR


def bowl(x):
    """A function of which the minimum is 0."""
    return ((x - 3.0) ** 2).sum()


def slope(x):
    return 2 * (x - 3.0)


def command(*arguments):
    """Run ``python -m arrayopt``; what it says when it fails is the error."""
    result = subprocess.run(
        [sys.executable, "-m", "arrayopt", *arguments],
        capture_output=True, text=True, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    return result.stdout


def core():
    """Without any extra: optimizers, schedules, averages, explanations, the command line."""
    assert "site-packages" in optim.__file__, optim.__file__
    heavy = {"torch", "scipy", "matplotlib", "numba", "jax"} & set(sys.modules)
    assert not heavy, heavy
    for cls in (optim.SGD, optim.Adam, optim.Rprop):
        for foreach in (False, True):
            x = np.zeros(4, np.float32)
            opt = cls([x], lr=0.1, foreach=foreach)
            scheduler = CosineWarmupLR(opt, warmup_steps=5, total_steps=400)
            for _ in range(400):
                opt.step(grads=[slope(x)])
                scheduler.step()
            assert abs(x - 3).max() < 0.01, (cls, foreach, x)
            again = cls([x.copy()])
            again.load_state_dict(opt.state_dict())
    result = optim.minimize(bowl, [1.0, 2.0], optim.LBFGS, jac=slope)
    assert result.success, result
    average = optim.swa_utils.AveragedModel([x])
    average.update_parameters([x])
    assert "exp_avg" in optim.explain(optim.Adam).text
    assert optim.__version__ in command("info")


def numba():
    opt = optim.AdamW([np.ones(3)], fused=True)
    opt.step(grads=[np.ones(3)])
    assert "numba_fused" in opt.implementation[0]


def plot():
    scheduler = CosineWarmupLR(optim.SGD([np.ones(1)]), warmup_steps=2, total_steps=9)
    assert plotting.plot_schedule(scheduler, 9).axes


def torch():
    ours = optim.NAdam([np.ones(3)])
    ours.step(grads=[np.ones(3)])
    state = to_torch(ours)
    import torch as library

    theirs = library.optim.NAdam([library.ones(3, dtype=library.float64)])
    theirs.load_state_dict(state)
    assert from_torch(theirs)["state"][0]["step"] == 1


def optax():
    ours = optim.Adam([np.ones(3, np.float32)])
    ours.step(grads=[np.ones(3, np.float32)])
    if not installed("jax"):
        to_optax(ours, None)  # tells what to install
    import optax as library

    like = library.adam(0.1).init([np.ones(3, np.float32)])
    assert to_optax(ours, like)[0].count == 1


def jax():
    import jax as library

    init, update = optim.functional(optim.Adam, lr=0.1)
    params = {"w": library.numpy.zeros(2)}
    state = init(params)
    step = library.jit(update)
    for _ in range(200):
        params, state = step(params, {"w": slope(params["w"])}, state)
    assert abs(params["w"] - 3).max() < 0.1, params


def scipy():
    assert abs(optim.minimize(bowl, [1.0, 2.0], optim.LBFGS).x - 3).max() < 1e-3
    import scipy as library

    method = optim.scipy_method(optim.LBFGS)
    result = library.optimize.minimize(bowl, [1.0], jac=slope, method=method)
    assert abs(result.x - 3).max() < 1e-3, result


def progress():
    optim.minimize(bowl, [1.0], optim.LBFGS, jac=slope, progress=True)


def saving():
    x = np.arange(3.0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder, model=[x])
        x[:] = 0
        checkpoint.load(folder, model=[x])
    assert x.tolist() == [0, 1, 2]


def demo():
    assert "0.9" in command("demo", "--optimizer", "SGD", "--epochs", "12")


def bench():
    command("bench", "--quick", "--algorithm", "SGD", "--workload", "10-small", "--turns", "1")


def check():
    """Of a function of one's own beside arrayopt's; beside torch needs the extra torch as well."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "mine.py")
        script.write_text("def sgd(param, grad, state, lr=0.001):\n    return param - lr * grad\n")
        own = ("--script", f"{script}:sgd", "--option", "lr=0.1", "--algorithm", "SGD")
        command("check", *own, "--against", "arrayopt", "--dtype", "bfloat16", "--steps", "3")


def sliders():
    assert plotting.explore(lambda ax, lr: ax.plot([lr]), lr=(0.01, 1.0)).widget().children


def beside_torch():
    optim.compare(optim.SGD, "torch.SGD", steps=3, dtype="float64")


#: What there is to try, and the extra that it needs.
FEATURES: list[tuple[str, Callable[[], None]]] = [
    ("numba", numba),
    ("plot", plot),
    ("torch", torch),
    ("torch", beside_torch),
    ("optax", optax),
    ("jax", jax),
    ("scipy", scipy),
    ("progress", progress),
    ("checkpoint", saving),
    ("demo", demo),
    ("bench", bench),
    ("check", check),
    ("notebooks", sliders),
]


def installed(extra):
    """Whether all packages of an extra are there."""
    try:
        return all([version(package) for package in extras()[extra]])
    except PackageNotFoundError:
        return False


def failure(feature):
    """The error of a feature, if it is one."""
    try:
        feature()
    except Exception as error:
        return error


def names_its_extra(error, extra):
    """Whether an error says what to install; jax and optax may also be what a user imports."""
    if extra in {"jax", "optax"} and isinstance(error, ModuleNotFoundError) and error.name == extra:
        return True
    return isinstance(error, (ImportError, RuntimeError)) and f"arrayopt[{extra}]" in str(error)


def main(wanted):
    core()
    for extra in wanted:
        assert extra not in extras() or installed(extra), f"{extra} is not installed"
    done, refused = ["core"], []
    for extra, feature in FEATURES:
        if installed(extra):
            feature()
            done.append(feature.__name__)
            continue
        error = failure(feature)
        assert error is not None, f"{feature.__name__} works without the extra {extra}"
        assert names_its_extra(error, extra), f"{extra} is not named by {error!r}"
        refused.append(feature.__name__)
    print(f"works: {', '.join(done)}")
    print(f"says what to install: {', '.join(refused) or 'all is there'}")


if __name__ == "__main__":
    main(sys.argv[1:])
