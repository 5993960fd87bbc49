"""The wheel holds everything, and works in an empty environment outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import arrayopt

ROOT = Path(__file__).parent.parent

SMOKE = """
import numpy as np, arrayopt as optim, arrayopt.backends.numpy_blocked as blocked, sys
assert "site-packages" in optim.__file__ and "site-packages" in blocked.__file__, optim.__file__
assert not {"torch", "scipy", "matplotlib"} & set(sys.modules)
w = np.array([3.0, -2.0])
opt = optim.Adam([w], lr=0.1)
for _ in range(200):
    opt.step(grads=[2 * w])
assert abs(w).max() < 0.01, w
print(optim.__version__, *opt.implementation)
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that building leaves nothing behind in the checkout.
    source = folder / "source"
    for name in ("arrayopt", "backends"):
        for file in (ROOT / name).rglob("*"):
            if file.suffix in (".py", ".typed"):
                target = source / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    run(*pip, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {str(file.relative_to(ROOT)) for file in (ROOT / "arrayopt").rglob("*.py")} | {
        f"arrayopt/{file.relative_to(ROOT)}" for file in (ROOT / "backends").rglob("*.py")
    }
    assert packed == expected | {"arrayopt/py.typed"}
    assert wheel.name.startswith(f"arrayopt-{arrayopt.__version__}-")


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert run(python, "-W", "error", "-c", SMOKE, cwd=tmp_path) == (
        f"{arrayopt.__version__} group 0: 1 numpy float64 parameter: foreach (numpy_blocked), "
        "the fastest available\n"
    )
    assert "numpy_blocked" in run(python, "-m", "arrayopt", "info", cwd=tmp_path)
