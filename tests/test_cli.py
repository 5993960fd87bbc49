"""The command line, as a user meets it."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from specs import BY_NAME

import arrayopt
from arrayopt import backend, info
from arrayopt.cli import COMMANDS, main
from arrayopt.demo import show
from arrayopt.demo.agreement import INSTALL_TORCH, Agreement
from arrayopt.demo.recipes import algorithms

EXTRAS = ("sklearn", "tqdm", "rich", "matplotlib", "torch", "optax", "jax")


def run(*args, code="from arrayopt.__main__ import main; sys.exit(main())", **kwargs):
    command = [sys.executable, "-W", "error", "-c", f"import sys; {code}", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """Run the demo in an empty folder; returns the exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run_demo(*args):
        status = main(["demo", *args])
        return status, capsys.readouterr().out

    return run_demo


def rows(output, name):
    """The cells of the rows that begin with `name`."""
    lines = (line.split() for line in output.splitlines())
    return [cells for cells in lines if cells[:1] == [name]]


def test_the_whole_demo(demo, tmp_path):
    status, output = demo("--seed", "1")
    assert status == 0, output
    for name in algorithms():
        result, comparison = rows(output, name)
        assert float(result[-2]) >= 0.95
        assert float(result[-1]) > 0
        if BY_NAME[name].reference:
            assert comparison[1:] == ["not", "in", "torch"]
            continue
        assert float(comparison[1]) <= 1e-12
        assert comparison[2:] == ["1e-12", "ok"]
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "All test accuracies are at least 0.95" in output
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_the_demo_with_averages(demo, tmp_path, average):
    status, output = demo("--average", average, "--out", "averages.png")
    assert status == 0, output
    last, averaged, comparison = rows(output, "SGD")
    assert last[-4:-2] == ["the", "last"]
    assert averaged[-3] == average.upper()
    assert float(averaged[-2]) < float(last[-2]), "the average has the lower loss"
    assert min(float(last[-1]), float(averaged[-1])) >= 0.95
    assert comparison[2:] == ["1e-12", "ok"]
    assert not rows(output, "Adam")
    assert (tmp_path / "averages.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert max(map(len, output.splitlines())) <= 80


def test_the_average_of_one_epoch_is_told_when_it_fails(demo):
    status, output = demo("--average=ema", "--optimizer=SGD", "--epochs=1", "--lr=0")
    assert status == 1
    assert "FAILED  SGD: test accuracy 0." in output
    assert "FAILED  SGD, EMA: test accuracy 0." in output
    status, output = demo("--average=swa", "--epochs=1", "--lr=0")
    assert "the equal average of the weights after the last epoch." in output


def test_a_pipe_of_ascii_will_do(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = run(
        *["demo", "--optimizer=SGD", "--epochs=20"], cwd=tmp_path, env=environment, encoding="ascii"
    )
    assert result.returncode == 0, result.stderr
    assert "?s/step" in result.stdout


@pytest.mark.parametrize("arguments", [["explain", "adam"], ["info"]])
def test_a_pipe_that_nobody_reads_on_from_ends_quietly(arguments):
    command = [sys.executable, "-W", "error", "-m", "arrayopt", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141  # 128 + SIGPIPE, as a shell has it
    process.stderr.close()


def test_an_untrained_network_fails_and_the_algorithm_is_named(demo, tmp_path):
    out = tmp_path / "untrained [1].png"
    status, output = demo(
        "--optimizer", "sgd", "--optimizer", "SGD", "--lr", "0", "--epochs", "1", "--out", str(out)
    )
    assert status == 1
    assert "lr=0.0" in output
    assert "FAILED  SGD: test accuracy 0." in output
    assert len(rows(output, "SGD")) == 2, "once a table, though it was asked for twice"
    assert not rows(output, "Adam")
    assert str(out) in output
    assert out.is_file()


def test_an_agreement_out_of_bounds_fails_and_the_algorithm_is_named(demo, monkeypatch):
    monkeypatch.setattr(show, "agreement", lambda run: Agreement(run.name, 3e-7))
    status, output = demo("--optimizer", "SGD")
    assert status == 1
    assert rows(output, "SGD")[1] == ["SGD", "3.0e-07", "1e-12", "OUT", "OF", "BOUNDS"]
    assert "FAILED  SGD: 3.0e-07 from torch, out of bounds (1e-12)" in output


def test_a_run_that_overflows_fails(demo):
    status, output = demo("--optimizer", "SGD", "--lr", "1e308", "--epochs", "2")
    assert status == 1
    assert "OUT OF BOUNDS" in output


def test_an_algorithm_that_torch_lacks_is_no_failure(demo, monkeypatch):
    monkeypatch.delattr(torch.optim, "SGD")
    status, output = demo("--optimizer", "SGD")
    assert status == 0
    assert rows(output, "SGD")[1] == ["SGD", "not", "in", "torch"]


def test_without_torch_the_demo_says_how_to_install_it(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, output = demo("--optimizer", "SGD")
    assert status == 0
    assert INSTALL_TORCH in output


def test_the_torch_to_install_is_that_of_the_extra():
    pin = INSTALL_TORCH.removeprefix("pip install ")
    requirements = importlib.metadata.requires("arrayopt")
    assert any(re.match(rf"{pin}\s*;\s*extra == .torch.", line) for line in requirements)


@pytest.mark.parametrize("library", ["sklearn", "tqdm", "rich", "matplotlib"])
def test_a_missing_library_is_a_clear_error(library):
    code = f"sys.modules[{library!r}] = None; from arrayopt.cli import main; sys.exit(main())"
    result = run("demo", code=code)
    assert result.returncode == 2
    assert library in result.stderr
    assert 'pip install "arrayopt[demo]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("library", "options"), [("rich", ()), ("matplotlib", ("--plot=chart.png",))]
)
def test_a_library_that_the_benchmark_misses_is_a_clear_error(tmp_path, library, options):
    code = f"sys.modules[{library!r}] = None; from arrayopt.cli import main; sys.exit(main())"
    result = run("bench", *options, code=code, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("arrayopt bench: error: it needs a library")
    assert library in result.stderr
    assert 'pip install "arrayopt[bench]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_a_picture_that_cannot_be_written_is_a_clear_error(demo, monkeypatch, capsys):
    def refuse(curves, path, title):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(show, "plot", refuse)
    assert main(["demo", "--optimizer", "SGD", "--epochs", "1"]) == 2
    assert "Permission denied: 'demo.png'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--optimizer", "Adum", f"unknown optimizer 'Adum'; choose from {', '.join(algorithms())}"),
        ("--epochs", "0", "expected a whole number >= 1, but got '0'"),
        ("--epochs", "2.5", "expected a whole number >= 1, but got '2.5'"),
        ("--seed", "-1", "expected a whole number >= 0, but got '-1'"),
        ("--lr", "-0.1", "expected a finite number >= 0, but got '-0.1'"),
        ("--lr", "nan", "expected a finite number >= 0, but got 'nan'"),
        ("--lr", "inf", "expected a finite number >= 0, but got 'inf'"),
        ("--lr", "fast", "expected a finite number >= 0, but got 'fast'"),
        ("--average", "mean", "invalid choice: 'mean'"),
        ("--out", "curves.pdf", "expected a file that ends in .png, but got 'curves.pdf'"),
        ("--out", "nowhere/curves.png", "there is no directory 'nowhere'"),
        ("--out", "folder.png", "'folder.png' is a directory"),
    ],
)
def test_a_wrong_option_is_a_clear_error(demo, tmp_path, capsys, option, value, message):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit, match="2"):
        demo(f"{option}={value}")
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_importing_the_command_line_imports_no_extra():
    names = run(code="import json, arrayopt.cli; print(json.dumps(list(sys.modules)))").stdout
    assert set(json.loads(names)).isdisjoint(EXTRAS)


def test_info_imports_no_extra():
    code = "from arrayopt.cli import main; main(['info']); import json; print(json.dumps"
    *_, names = run(code=f"{code}(list(sys.modules)))").stdout.splitlines()
    assert set(json.loads(names)).isdisjoint(EXTRAS)


def test_info_tells_versions_threads_and_backends(capsys):
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    for name in ("numpy", "array-api-compat", "torch", "rich"):
        assert re.search(rf"{name} +{re.escape(importlib.metadata.version(name))}\n", output)
    assert len(re.findall(rf"^  arrayopt +{re.escape(arrayopt.__version__)}$", output, re.M)) == 1
    assert f"Threads: {arrayopt.get_num_threads()} " in output
    for name, executor in backend.available().items():
        assert f"{name} ({executor.implementation})" in output
    assert max(map(len, output.splitlines())) <= 80


def test_info_tells_what_is_missing_and_how_to_install_it(monkeypatch):
    real = importlib.metadata.version

    def version(package):
        if package in ("tqdm", "torch"):
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(info, "version", version)
    monkeypatch.setattr(backend, "missing", lambda: {"abacus": "No module named 'beads'"})
    output = info.info()
    assert re.search(r'demo +missing tqdm; install with: pip install "arrayopt\[demo\]"', output)
    assert re.search(r'torch +missing torch; install with: pip install "arrayopt\[torch\]"', output)
    assert re.search(r"abacus +No module named 'beads'", output)
    assert not re.search(r"(test|dev|asv) +missing", output)


def test_info_works_in_a_checkout_that_is_not_installed(monkeypatch):
    def requires(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(info, "requires", requires)
    assert info.extras() == {}
    assert f"arrayopt          {arrayopt.__version__}" in info.info()


def test_python_m_arrayopt_tells_all_commands():
    result = subprocess.run(
        [sys.executable, "-m", "arrayopt"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    for command in (*COMMANDS, "info"):
        assert command in result.stdout


def test_version():
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"arrayopt {arrayopt.__version__}\n")
