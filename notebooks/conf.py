"""How the documentation site is built: `make docs`."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import sys
from abc import ABC
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Protocol

import mathjax
from docutils import nodes
from sphinx.util import logging

HERE = Path(__file__).parent
GENERATED = HERE / "generated"  # pictures, and the sources of the pages of public names
shutil.rmtree(GENERATED, ignore_errors=True)
sys.path.insert(0, str(HERE))

from links import broken  # noqa: E402
from pictures import caption, draw_all  # noqa: E402
from speed_table import MEASURED, table  # noqa: E402

from arrayopt.algorithms import links as helpers  # noqa: E402
from arrayopt.bench.neighbours import TOLERATED  # noqa: E402
from arrayopt.info import versions_text  # noqa: E402

project = "arrayopt"
author = "the arrayopt developers"
project_copyright = author
version = release = version_of("arrayopt")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["**/.ipynb_checkpoints", "generated/pictures"]

# Docstrings

default_role = "autolink"
autosummary_filename_map = {"arrayopt.Functional": "arrayopt.Functional-class"}  # beside functional
autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types stand in the section Parameters
autodoc_preserve_defaults = True  # as they are written: algorithm=Adam, max_bytes=2**28
maximum_signature_line_length = 60
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them

# Notebooks and pages: the stored outputs are shown

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # equations in outputs are equations
myst_enable_extensions = [
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "dollarmath",
    "substitution",
]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# What the page of benchmarks tells, read from the record


def measured() -> dict[str, str]:
    """What was measured, where, and how far it can be trusted; a table, and the charts."""
    record = json.loads(MEASURED.read_text())
    versions = versions_text(record["versions"])
    lines = [f"Measured on: {caption(record)}. Versions: {versions}."]
    if record["quick"]:
        lines.append(
            ":::{warning}\nThis is a short run (`--quick`), of few turns, on reduced parameters: "
            "it shows that all of it works, and says little of how fast it is.\n:::"
        )
    if record["busy_cores"] and record["busy_cores"] > TOLERATED:
        busy = f"{record['busy_cores']:.1f}"
        lines.append(f":::{{warning}}\nOther processes kept {busy} cores busy meanwhile.\n:::")
    charts = [
        f"### {entry['title'][0].upper()}{entry['title'][1:]}\n\n"
        f"![Speed-ups on {name}](generated/pictures/bench_{name}.png){{.wide}}"
        for name, entry in record["workloads"].items()
    ]
    return {
        "measured": "\n\n".join(lines),
        "speeds": table(record),
        "charts": "\n\n".join(charts),
    }


# What the overview of the public names tells, read from the pages that list them


def overview() -> str:
    """A table of those pages, each with its names."""
    folder = HERE / "api"
    (listed,) = re.findall(r"```{toctree}\n(.*?)```", (folder / "index.md").read_text(), re.DOTALL)
    rows = ["| | |", "|---|---|"]
    for page in re.findall(r"^\w+$", listed, re.MULTILINE):
        module, names = "", []
        for line in (folder / f"{page}.md").read_text().splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = found[1]
            elif found := re.fullmatch(r"   (\w+)", line):
                names.append(f"{{py:obj}}`~{module}.{found[1]}`")
        rows.append(f"| {{doc}}`{page}` | {', '.join(names)} |")
    return "\n".join(rows)


myst_substitutions = measured() | {"overview": overview()}

# The pages

#: Words that somebody may search for, and that a page says in others.
KEYWORDS = {
    "quick_start": "install pip per layer rates resume",
    "coming_from_torch": "port migrate pytorch",
    "write_your_own_optimizer": "custom optimizer lion kernel equations",
    "guide/parameters": "freeze frozen layers jax pytorch embedding",
    "guide/groups": "per layer learning rate weight decay biases callback",
    "guide/schedules": "warmup warm up cosine plot learning rate decay restarts",
    "guide/averaging": "ema swa polyak",
    "guide/clipping": "gradient clipping norm exploding",
    "guide/checkpoints": "resume from checkpoint restart continue save load",
    "guide/gpu": "gpu cuda amp mixed precision float16",
    "guide/speed": "numba compile kernel cache fast",
    "guide/minimize": "scipy jax jit functional differentiable",
    "guide/explain": "equations latex kernel plot animation",
    "guide/choosing": "which optimizer closure",
}

#: What has nothing beside it that a sidebar could list.
ALONE = ("index", "quick_start", "coming_from_torch", "_modules/**")

html_theme = "pydata_sphinx_theme"
html_title = "arrayopt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = LOGO = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_sidebars = {page: [] for page in ALONE}
html_theme_options = {
    "logo": {"text": project, "image_light": LOGO, "image_dark": LOGO},
    "header_links_before_dropdown": 5,
    "collapse_navigation": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}

# Equations are set by the copy of MathJax that a Python package brings, not by another host's

mathjax_path = "mathjax/tex-mml-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # MyST adds which elements are equations


def strip_code(app: Any, doctree: nodes.document) -> None:
    """Take away the empty line that ends an example, which doctest needs and nobody else."""
    for node in doctree.findall(nodes.literal_block):
        if isinstance(node[0], nodes.Text):
            node.rawsource = node.astext().rstrip()
            node.children = [nodes.Text(node.rawsource)]


def describe_pictures(app: Any, doctree: nodes.document) -> None:
    """Say of a notebook's picture where it belongs, instead of the name of its file."""
    for image in doctree.findall(nodes.image):
        section = image
        while section.parent is not None and not isinstance(section, nodes.section):
            section = section.parent
        title = section.next_node(nodes.title)
        if title is not None:
            image.setdefault("alt", f"Picture: {title.astext()}")


def add_keywords(app: Any, doctree: nodes.document) -> None:
    """Let the search find a page by other words, too."""
    if words := KEYWORDS.get(app.env.docname):
        content = ", ".join(words.split())  # the search takes what stands between commas
        doctree.insert(0, nodes.meta(name="keywords", content=content))


def copy_mathjax(app: Any, error: Exception | None) -> None:
    """Put MathJax and its fonts among the static files."""
    if error is None and app.builder.format == "html":
        source = Path(mathjax.__path__[0]) / "static" / "mathjax" / "es5"
        target = Path(app.outdir) / "_static" / "mathjax"
        fonts = "output/chtml/fonts/woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copy(source / "tex-mml-chtml.js", target)


def drop_unused(app: Any, error: Exception | None) -> None:
    """Leave out what no browser loads: maps of the theme's own code, and fonts it has twice."""
    static = Path(app.outdir) / "_static"
    fonts = [file for file in static.rglob("*.ttf") if file.with_suffix(".woff2").exists()]
    for file in [*static.rglob("*.map"), *fonts]:
        file.unlink()


def check_links(app: Any, error: Exception | None) -> None:
    """Warn of links that lead nowhere."""
    if error is None and app.builder.name == "html":
        for problem in broken(Path(app.outdir)):
            logging.getLogger(__name__).warning("%s", problem)


def draw_pictures(app: Any) -> None:
    """Draw what the pages show."""
    draw_all(GENERATED / "pictures")


# What the templates of public names ask for


def entry_of(name: str, module: str) -> Any:
    """What a page is about."""
    return getattr(importlib.import_module(module), name, None)


def exported(cls: type) -> bool:
    """Whether a class of arrayopt has a page of its own."""
    package = ".".join(cls.__module__.split(".")[:2])
    return any(
        cls.__name__ in module.__all__ and getattr(module, cls.__name__) is cls
        for module in map(importlib.import_module, dict.fromkeys((package, "arrayopt")))
        if hasattr(module, "__all__")
    )


def public_bases(cls: Any) -> list[Any]:
    """What a class inherits from, as far as a reader can look it up."""
    found: list[Any] = []
    for base in getattr(cls, "__orig_bases__", getattr(cls, "__bases__", ())):
        if not base.__module__.startswith("arrayopt"):
            found += [] if base in (object, ABC, Protocol) else [base]
        elif exported(base):
            found.append(base)
        else:
            found += public_bases(base)
    return list(dict.fromkeys(found))


def bases_of(name: str, module: str) -> list[str]:
    """The names of the classes that an entry inherits from, near and far."""
    entry = entry_of(name, module)
    found = public_bases(entry) if inspect.isclass(entry) else []
    for base in found:
        found += [further for further in public_bases(base) if further not in found]
    return [base.__name__ for base in found]


def rule_of(name: str, module: str) -> str:
    """The file that an optimizer has its own rule in, from the root of the sources, or nothing."""
    entry = entry_of(name, module)
    if "Optimizer" in bases_of(name, module) and "rule" in vars(entry):
        return str(Path("/..") / Path(inspect.getfile(entry)).relative_to(HERE.parent))
    return ""


def helpers_of(name: str, module: str) -> list[str]:
    """The functions of `arrayopt.algorithms.links` that a rule calls, and those that they call."""
    found: dict[str, None] = {}
    waiting = [entry_of(name, module).rule]
    while waiting:
        called = waiting.pop(0).__code__.co_names
        new = [name for name in helpers.__all__ if name in called and name not in found]
        found |= dict.fromkeys(new)
        waiting += [getattr(helpers, name) for name in new]
    return list(found)


#: What functions return, and nobody else makes.
RESULTS = {
    "arrayopt.Explanation",
    "arrayopt.MinimizeResult",
    "arrayopt.check.Comparison",
    "arrayopt.check.Report",
    "arrayopt.checkpoint.Checkpoint",
    "arrayopt.plotting.Exploration",
}


def hide_signature(app: Any, what: str, name: str, *others: Any) -> tuple[str, str] | None:
    """Say nothing of the arguments of what nobody makes."""
    return ("", "") if name in RESULTS else None


def name_bases(app: Any, name: str, cls: type, options: Any, bases: list[Any]) -> None:
    """Name no base class that has no page."""
    bases[:] = public_bases(cls)


def skip_fields(
    app: Any, what: str, name: str, entry: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of named tuples, which the section Attributes tells of."""
    return True if type(entry).__name__ == "_tuplegetter" else None


autosummary_context = {"rule_of": rule_of, "helpers_of": helpers_of, "bases_of": bases_of}
suppress_warnings = ["config.cache"]  # a function is part of the configuration


def setup(app: Any) -> None:
    """What is done before and after the pages are built."""
    app.connect("builder-inited", draw_pictures, priority=400)
    app.connect("autodoc-process-bases", name_bases)
    app.connect("autodoc-process-signature", hide_signature)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", strip_code)
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", add_keywords)
    app.connect("build-finished", copy_mathjax, priority=400)
    app.connect("build-finished", drop_unused, priority=800)
    app.connect("build-finished", check_links, priority=900)
