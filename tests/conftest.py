"""What several test modules share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("host_kernels", "numerical", "nvrtc", "processes", "programs")

import sharing  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of a run, those of xdist among them, compile each kernel once."""
    sharing.begin(config)
    os.environ["ARRAYOPT_CACHE_DIR"] = str(sharing.folder("numba"))


@pytest.fixture(scope="session", autouse=True)
def _settle_torch() -> None:
    """Let torch set up its square root, and leave the other cores alone.

    The first root of a process can be off by 5e-11 in part of the elements. Threads that wait for
    the next small tensor cost more time than they save.
    """
    if importlib.util.find_spec("torch") is None:  # as in `make test-pythons`
        return
    import torch

    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64):
        torch.ones(1 << 16, dtype=dtype).sqrt()


@pytest.fixture
def torch_in_double_precision() -> Iterator[None]:
    """Make float64 the default dtype of torch.

    It keeps eta, mu and mu_product in that dtype, whatever the parameters have.
    """
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(default)


@pytest.fixture
def jax_in_double_precision() -> Iterator[None]:
    """Let jax compute in float64."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=["numpy", "torch", "array_api_strict"])
def xp(request: pytest.FixtureRequest) -> Any:
    """An array library."""
    return importlib.import_module(request.param)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("there is no browser: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = chromium
    for switch in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1280,1000",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def cupy() -> Iterator[Any]:
    """A stand-in for CuPy over NumPy, which counts what makes the host wait."""
    from cupy_standin import install

    with install() as standin:
        yield standin
