"""The documentation site: complete, correct, light, and fit to be read in a browser."""

from __future__ import annotations

import functools
import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sharing
from filelock import FileLock
from processes import python
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import arrayopt as optim
from arrayopt import (
    backend,
    check,
    checkpoint,
    interop,
    lr_scheduler,
    plotting,
    problems,
    swa_utils,
    testing,
    whole,
)
from arrayopt.bench.record import results_of
from arrayopt.cli import main

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))

from links import Page, broken, foreign  # noqa: E402

MODULES = (
    optim,
    backend,
    check,
    checkpoint,
    interop,
    lr_scheduler,
    problems,
    plotting,
    swa_utils,
    testing,
    whole,
)

#: All public names, and what they stand for; of several names for one thing, the first.
PUBLIC: dict[str, Any] = {}
for each in MODULES:
    for attribute in each.__all__:
        entry = getattr(each, attribute)
        known = isinstance(entry, ModuleType) or any(entry is other for other in PUBLIC.values())
        if not known and (inspect.isclass(entry) or inspect.isfunction(entry)):
            PUBLIC[f"{each.__name__}.{attribute}"] = entry

#: How many bytes the site may have.
WEIGHT = 15_000_000

#: One page of each kind, and all notebooks.
KINDS = [
    "index.html",
    "quick_start.html",
    "guide/schedules.html",
    "coming_from_torch.html",
    "differences_from_torch.html",
    "how_it_works.html",
    "benchmarks.html",
    "api/index.html",
    "api/optimizers.html",
    "generated/api/arrayopt.Adam.html",
    "generated/api/arrayopt.minimize.html",
    "genindex.html",
    "search.html",
    *(f"{notebook.stem}.html" for notebook in sorted(NOTEBOOKS.glob("*.ipynb"))),
]

#: Of a desktop and of a telephone.
WIDTHS = (1280, 390)


@pytest.fixture(scope="session")
def site() -> Path:
    """The site, built once for all processes of a test run."""
    folder = sharing.folder("docs")
    built = folder / "site"
    with FileLock(folder / "site.lock"):
        if not built.exists():
            command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q"]
            paths = ["-d", folder / "doctrees", NOTEBOOKS, folder / "unfinished"]
            result = subprocess.run(
                [*command, *map(str, paths)], capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
            (folder / "unfinished").rename(built)
    return built


# What there is


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(PUBLIC[name]) or ""), f"{name} has no example"


def test_a_public_name_has_a_page(site: Path) -> None:
    listed = [p.stem for p in (site / "generated" / "api").glob("*.html")]
    pages = {name.removesuffix("-class") for name in listed}
    assert len(PUBLIC) > 90
    assert not PUBLIC.keys() - pages, "list them in notebooks/api"
    for name in PUBLIC:
        stem = f"{name}-class" if f"{name}-class" in listed else name
        text = (site / "generated" / "api" / f"{stem}.html").read_text()
        assert f'id="{name}"' in text, name


def test_the_overview_leads_to_every_public_name(site: Path) -> None:
    links = Page((site / "api" / "index.html").read_text()).links
    named = {link.partition("#")[2] for link in links if "generated/api/" in link}
    assert not PUBLIC.keys() - named


def test_every_notebook_and_page_is_in_the_site(site: Path) -> None:
    sources = [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("*.md"), *NOTEBOOKS.glob("*/*.md")]
    assert len(sources) > 30
    for source in sources:
        page = site / source.relative_to(NOTEBOOKS).with_suffix(".html")
        assert page.exists(), source


def test_an_algorithm_shows_its_rule(site: Path) -> None:
    text = (site / "generated" / "api" / "arrayopt.Adam.html").read_text()
    shown = re.sub("<[^>]*>", "", text)
    assert "The rule" in shown
    assert "exp_avg_sq = ema_of_square(state[" in shown


# What it weighs and loads


def test_the_site_is_light(site: Path) -> None:
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < WEIGHT


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = [file for file in site.rglob("*.html") if "_static" not in file.parts]
    loaded = {str(file): found for file in pages if (found := foreign(Page(file.read_text())))}
    assert not loaded
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_what_another_host_would_send_is_found() -> None:
    page = Page('<script src="https://example.org/a.js"></script><img src="b.png"><a href="//c">')
    assert foreign(page) == ["https://example.org/a.js"]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a> <a href="b.html#gone">2</a> <img src="c.png"> '
        '<a href="https://example.org">3</a> <a href="#here" id="here">4</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    assert [*broken(tmp_path)] == [
        "a.html: b.html#gone leads to no place in its page",
        "a.html: c.png leads to no file",
    ]


# In a browser


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def look(browser: Any, width: int = 1280, theme: str = "light") -> None:
    """Be a screen of so many pixels, of somebody who likes it light or dark."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def settled(browser: Any, address: str, page: str) -> None:
    """Open a page, and wait until it is all there, equations included."""
    browser.get_log("browser")
    browser.get(f"{address}/{page}")
    done = """
        const loaded = document.readyState === "complete";
        const set = window.MathJax?.startup?.promise ?? Promise.resolve();
        if (!loaded) { return false; }
        for (const image of document.images) { image.loading = "eager"; }
        return set.then(() => [...document.images].every(image => image.complete));
    """
    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(done))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_of_each_kind_is_whole(address: str, browser: Any, width: int, theme: str) -> None:
    look(browser, width, theme)
    for page in KINDS:
        settled(browser, address, page)
        assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"], page
        missing = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
        assert browser.execute_script(missing) == [], page
        unnamed = """return [...document.querySelectorAll("article img")].map(i => i.alt)
            .filter(alt => !alt || /\\.(png|svg)$/.test(alt))"""
        assert browser.execute_script(unnamed) == [], page
        wider = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(wider) <= 0, page
        errors = "return document.querySelectorAll('mjx-merror, .problematic').length"
        assert browser.execute_script(errors) == 0, page
        source = r"""return [...document.querySelectorAll("article p")].map(p => p.textContent)
            .filter(text => /\$\$|\\begin\{|\\\(/.test(text))"""
        assert browser.execute_script(source) == [], page
        hosts = """return performance.getEntriesByType("resource").map(e => new URL(e.name).host)
            .filter(host => host !== location.host)"""
        assert browser.execute_script(hosts) == [], page
        ground = "return getComputedStyle(document.body).backgroundColor"
        red, green, blue = map(int, re.findall(r"\d+", browser.execute_script(ground))[:3])
        assert (red + green + blue < 128 * 3) == (theme == "dark"), page


def test_equations_are_set(address: str, browser: Any) -> None:
    look(browser)
    settled(browser, address, "generated/api/arrayopt.Adam.html")
    equation = browser.find_element(By.CSS_SELECTOR, "mjx-container[display=true]")
    assert equation.size["height"] > 80  # five lines
    glyph = "return [...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert any("MJX" in family for family in browser.execute_script(glyph))
    body = browser.find_element(By.TAG_NAME, "article").text
    assert "\\beta" not in body
    assert "\\(" not in body


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("Adam", "generated/api/arrayopt.Adam.html"),
        ("per-layer learning rate", "guide/groups.html"),
        ("port torch training loop", "coming_from_torch.html"),
        ("resume from checkpoint", "guide/checkpoints.html"),
        ("plot warmup cosine", "guide/schedules.html"),
        ("Lion kernel", "write_your_own_optimizer.html"),
    ],
)
def test_the_search_finds_a_page(address: str, browser: Any, query: str, page: str) -> None:
    look(browser)
    settled(browser, address, f"search.html?q={query}")
    results = WebDriverWait(browser, 30).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert any(f"/{page}" in link.get_attribute("href") for link in results[:5])


def test_one_finds_ones_way(address: str, browser: Any) -> None:
    look(browser)
    settled(browser, address, "index.html")
    browser.find_element(By.CSS_SELECTOR, ".bd-header").find_element(By.LINK_TEXT, "API").click()
    for text in ("Optimizers", "Adam"):
        sidebar = browser.find_element(By.CSS_SELECTOR, ".bd-sidebar-primary")
        sidebar.find_element(By.LINK_TEXT, text).click()
    assert browser.current_url.endswith("generated/api/arrayopt.Adam.html")
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("Adam")
    browser.find_element(By.LINK_TEXT, "Optimizer").click()
    assert "arrayopt.Optimizer.html" in browser.current_url


# What the pages say


def test_the_backend_of_the_page_is_found_and_agrees(tmp_path: Path) -> None:
    text = (NOTEBOOKS / "write_your_own_backend.md").read_text()
    block = next(part for part in text.split("```pycon\n")[1:] if "class Interpreter" in part)
    lines = [line[4:] for line in block.split("```")[0].splitlines() if line[:3] in (">>>", "...")]
    (tmp_path / "my_package.py").write_text("\n".join(lines))
    (target,) = re.findall(r'^interpreter = "(.*)"$', text, re.MULTILINE)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[arrayopt.backends]\ninterpreter = {target}\n")
    code = textwrap.dedent("""
        import numpy as np, arrayopt as optim
        opt = optim.Adam([np.zeros(3)], foreach=True)
        print(*opt.implementation)
        for dtype in ("float64", "float32"):
            report = optim.compare(
                ["SGD", "Adam", "RAdam", "ASGD", "Rprop"], dtype=dtype, stream="fixed", steps=10,
                implementation="foreach",
            )
            print(report.ok, len(report) > 20)
    """)
    first, *others = python(code, PYTHONPATH=str(tmp_path)).splitlines()
    assert "foreach (interpreter)" in first
    assert others == ["True True"] * 2


def test_the_script_of_the_page_of_checkpoints_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    page = (NOTEBOOKS / "guide" / "checkpoints.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]

    def run(folder: Path) -> tuple[str, list[str]]:
        """What it prints, and the files that it leaves."""
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return result.stdout, sorted(file.name for file in (folder / "run").iterdir())

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    printed, files = run(whole)
    shutil.copytree(whole, stopped)
    for file in files[1:]:  # as if it had been stopped before the last two were saved
        (stopped / "run" / file).unlink()
    assert run(stopped) == (printed, files)


def test_the_loops_side_by_side_run_and_arrive() -> None:
    page = (NOTEBOOKS / "coming_from_torch.md").read_text()
    blocks = re.findall(r"```\{code-block\} python\n:caption: (\w+)\n(.*?)```", page, re.DOTALL)
    assert [caption for caption, _ in blocks] == ["torch", "arrayopt"]
    for _, block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        A, b = np.asarray(names["A"]), np.asarray(names["b"])
        _, (squares,), *_ = np.linalg.lstsq(A, b)
        assert names["loss"].item() < 1.01 * squares / len(b)


def test_the_charts_come_from_what_was_measured(tmp_path: Path, site: Path) -> None:
    record = json.loads((NOTEBOOKS / "benchmarks.json").read_text())
    for name in record["workloads"]:
        assert (site / "_images" / f"bench_{name}.png").exists()
    page = (site / "benchmarks.html").read_text()
    assert ("This is a short run" in page) == record["quick"]
    assert record["machine"]["cpu"] in page
    target = tmp_path / "all.svg"
    assert main(["bench", "--from", f"{NOTEBOOKS / 'benchmarks.json'}", "--plot", f"{target}"]) == 0
    assert "<svg" in target.read_text()


def test_ratios_come_back_from_a_record() -> None:
    record = json.loads((NOTEBOOKS / "benchmarks.json").read_text())
    for entry, result in zip(record["results"], results_of(record), strict=True):
        assert result.ratios.get("arrayopt") == entry["ratio"]
        assert (result.workload, result.algorithm) == (entry["workload"], entry["algorithm"])
