"""Every notebook runs from top to bottom. Run as a script, this stores the fresh outputs."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

WIDGETS = re.compile(r"application/vnd\.jupyter\.widget-(view|state)\+json")
PICTURES = re.compile(r"image/|application/pdf")

#: What differs from run to run: where an object lies in memory, and random names of elements.
ADDRESS, RANDOM_NAME = re.compile(r" at 0x[0-9a-f]+"), re.compile(r"(?<![0-9a-zA-Z+/])[0-9a-f]{32}")

#: How a traceback is coloured in a terminal.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

#: What is of the machine on which a notebook ran.
PATHS = [str(Path.home()), str(FOLDER.parent), sys.prefix, "site-packages", "/tmp/", "/home/"]

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> nbformat.NotebookNode:
    """A notebook with fresh outputs, without what is not the same in the next run."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    asyncio.run(client.async_execute())
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            settle(output)
    return notebook


def settle(output: Any) -> None:
    """Take out of an output what is not the same in the next run."""
    data = output.get("data", {})
    for kind in [kind for kind in data if WIDGETS.match(kind)]:
        del data[kind]
    for kind, value in data.items():
        if isinstance(value, str) and not PICTURES.match(kind):
            data[kind] = _renamed(ADDRESS.sub("", value))
    if "text" in output:
        output.text = ADDRESS.sub("", output.text)


def _renamed(text: str) -> str:
    """Random names, numbered in their order."""
    for number, name in enumerate(dict.fromkeys(RANDOM_NAME.findall(text))):
        text = text.replace(name, f"{number:032x}")
    return text


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with the outputs of a notebook, a line each."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not run in order")
    if notebook.metadata.get("widgets"):
        found.append("the state of widgets is stored")
    for number, cell in enumerate(code, 1):
        found += [f"cell {number}: {fault}" for o in cell.outputs for fault in output_faults(o)]
    return found


def output_faults(output: Any) -> list[str]:
    """What is wrong with one output."""
    data = output.get("data", {})
    texts = [str(value) for kind, value in data.items() if not PICTURES.match(kind)]
    text = "\n".join([*texts, output.get("text", "")])
    found = [f"a widget: {kind}" for kind in data if WIDGETS.match(kind)]
    found += [f"a path of this machine: {path}" for path in PATHS if path in text]
    found += [f"an address in memory:{address}" for address in ADDRESS.findall(text)]
    if output.output_type == "error":
        found.append(f"an error: {output.ename}: {output.evalue}")
    if output.get("name") == "stderr":
        found.append(f"on stderr: {output.text}")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path) -> None:
    assert faults(run(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_outputs(path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    assert faults(stored) == []
    assert any(cell.get("outputs") for cell in stored.cells)
    assert path.stat().st_size < 2**20
    settled = stored.copy()
    for cell in settled.cells:
        for output in cell.get("outputs", []):
            settle(output)
    assert settled == stored
    assert stored.metadata == METADATA


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    links = [link for text in texts for link in re.findall(r"\]\(([^)#\s]+)", text)]
    assert links
    for link in links:
        assert link.startswith("https://") or (FOLDER / link).exists(), link


def test_faults_are_found() -> None:
    new = nbformat.v4
    outputs = [
        new.new_output("stream", name="stderr", text="UserWarning: no"),
        new.new_output("stream", name="stdout", text=f"{Path.home()}/x"),
        new.new_output("display_data", {"text/plain": "<Line2D at 0x7f00aa>"}),
        new.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
        new.new_output("error", ename="ValueError", evalue="no", traceback=[]),
    ]
    cells = [new.new_code_cell("x", outputs=outputs, execution_count=2)]
    notebook = new.new_notebook(cells=cells, metadata={"widgets": {"x": {}}})
    told = "\n".join(faults(notebook))
    for fault in ("in order", "state of widgets", "on stderr", "a path of", "an address"):
        assert fault in told
    for fault in ("a widget:", "an error: ValueError: no"):
        assert fault in told


def test_what_differs_from_run_to_run_is_left_out() -> None:
    name = "0123456789abcdef" * 2
    data = {
        "text/plain": "<Line2D at 0x7f00aa>",
        "text/html": f'<img id="_anim_img{name}"><a href="#{name}">',
        "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
        "image/png": name,
    }
    output = nbformat.v4.new_output("display_data", data)
    settle(output)
    assert set(output.data) == {"text/plain", "text/html", "image/png"}
    assert output.data["text/plain"] == "<Line2D>"
    assert output.data["image/png"] == name
    assert name not in output.data["text/html"]


def main(names: list[str]) -> int:
    """Run the notebooks whose names begin so (by default all), and store their outputs."""
    chosen = [path for path in NOTEBOOKS if path.name.startswith(tuple(names or [""]))]
    broken = 0
    for path in chosen:
        start = time.perf_counter()
        try:
            notebook = run(path)
            wrong = faults(notebook)
        except Exception as error:
            wrong = [COLOUR.sub("", str(error))]
        if not wrong:
            nbformat.write(notebook, path)
        broken += bool(wrong)
        size, seconds = path.stat().st_size / 2**10, time.perf_counter() - start
        print(f"{path.name}: {seconds:.0f} s, {size:.0f} KiB", *wrong, sep="\n  ", flush=True)
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
