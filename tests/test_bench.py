"""The benchmark: what it says, and that it measures fairly; never how fast anything is."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from specs import BY_NAME

import arrayopt as optim
from arrayopt.bench import comparison, measure, memory, neighbours, record, saving
from arrayopt.bench.chart import chart
from arrayopt.bench.comparison import Result, Settings, compare
from arrayopt.bench.contenders import CONTENDERS, OURS, Side, Torch, rivals
from arrayopt.bench.measure import YARDSTICK, Effort, Timing, bytes_per_element, take_turns
from arrayopt.bench.report import duration, introduction, table
from arrayopt.bench.session import session
from arrayopt.bench.workloads import WORKLOADS, problem, size
from arrayopt.cli import main
from arrayopt.demo.recipes import algorithms
from arrayopt.trace import trace

#: Just one short turn.
ONCE = Effort(turns=1, least_turns=1, turn=1e-9, pause=0.0)


def settings(*against, **options):
    return Settings(against, **{"threads": 1, "effort": ONCE, **options})


# Workloads


@pytest.mark.parametrize(
    ("name", "arrays", "numbers"),
    [
        ("gpt2", 148, 124_439_808),  # as published for "124M", its head tied to the embedding
        ("resnet50", 161, 25_557_032),  # torchvision's resnet50
        ("1x16.7M", 1, 16_700_000),
        ("1000x100", 1000, 100_000),
        ("mlp", 10, 784 * 256 + 256 + 256 * 257 + 256 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
        ("10-small", 10, 5 * (16 * 16 + 16)),
        ("1x100", 1, 100),
        ("embedding", 1, 64_000_000),
    ],
)
def test_workloads_have_the_known_number_of_parameters(name, arrays, numbers):
    shapes = WORKLOADS[name].shapes
    assert (len(shapes), size(shapes)) == (arrays, numbers)


def test_reduced_workloads_are_small():
    assert max(size(workload.quick) for workload in WORKLOADS.values()) < 2_000_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_problem_is_always_the_same_and_its_gradients_are_far_from_zero(dtype):
    first, second = problem([(40, 50), (7,)], dtype), problem([(40, 50), (7,)], dtype)
    for a, b in zip(first.starts + first.grads, second.starts + second.grads):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)
    sizes = np.abs(first.grads[0])
    assert 0.5 <= sizes.min() < sizes.max() <= 1
    assert abs(np.sign(first.grads[0]).mean()) < 0.1, "either sign"
    assert first.starts[0].std() == pytest.approx(0.02, rel=0.1)
    assert (first.touched, first.nbytes) == (2007, 2007 * np.dtype(dtype).itemsize)


def test_a_sparse_problem_touches_so_many_rows_once():
    numbers = problem([(50, 4)], rows=20)
    assert numbers.sparse
    assert numbers.touched == 80
    assert len(np.unique(numbers.grads[0].indices)) == 20


# Turns


class Clock:
    """Time that passes only when somebody works or sleeps."""

    def __init__(self, monkeypatch):
        self.now, self.log = 0.0, []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.log.append("pause")
        self.now += seconds

    def side(self, name, *durations):
        """A step that takes these seconds, the last of them from then on."""
        remaining = list(durations)

        def step():
            self.log.append(name)
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return step


def test_sides_take_turns_with_a_pause_and_an_untimed_step_before_each(monkeypatch):
    clock = Clock(monkeypatch)
    effort = Effort(turns=3, least_turns=3, turn=0.02, pause=0.01)
    timings = take_turns({"a": clock.side("a", 0.02), "b": clock.side("b", 0.01)}, effort)
    settled = clock.log[clock.log.index("b") + 2 :]  # without the finding of lengths
    a, b = ["pause", "a", "a"], ["pause", "b", "b", "b"]  # one step is not timed
    assert settled == a + b + b + a + a + b
    assert timings["a"].median == pytest.approx(0.02)
    assert timings["b"].median == pytest.approx(0.01)
    assert (timings["a"].steps, timings["b"].steps) == (1, 2)
    assert len(timings["a"].samples) == len(timings["b"].samples) == 3


def test_a_first_step_that_compiles_does_not_count(monkeypatch):
    clock = Clock(monkeypatch)
    timing = take_turns({"a": clock.side("a", 5.0, 0.001)}, Effort(turn=0.02))["a"]
    assert timing.steps == 20
    assert timing.samples == pytest.approx([0.001] * 15)


def test_long_steps_have_fewer_turns(monkeypatch):
    clock = Clock(monkeypatch)
    timing = take_turns({"a": clock.side("a", 1.0)}, Effort(seconds=14.5, pause=0.0))["a"]
    assert len(timing.samples) == 7, "seven turns of two steps, of which one is timed"
    timing = take_turns({"a": clock.side("a", 9.0)}, Effort(seconds=14.5, pause=0.0))["a"]
    assert len(timing.samples) == 5


def test_a_timing_tells_median_and_quartiles_and_one_slow_turn_does_not_matter():
    timing = Timing([1.0, 2.0, 3.0, 4.0, 1000.0], steps=2)
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)
    assert (timing + timing).samples == timing.samples * 2


@pytest.mark.parametrize("name", list(measure.YARDSTICKS))
@pytest.mark.parametrize("threads", [1, 2])
def test_yardsticks_go_through_all_of_their_array(monkeypatch, name, threads):
    seen = []
    monkeypatch.setattr(measure, "YARDSTICK", 1000)
    monkeypatch.setattr(measure.np, "copyto", lambda target, source: seen.append(source.nbytes))
    monkeypatch.setattr(measure.np, "negative", lambda array, out: seen.append(array.nbytes))
    measure.YARDSTICKS[name](threads)()
    assert sum(seen) == 1000
    assert len(seen) == 4 * threads


# Bytes


@pytest.mark.parametrize(
    ("name", "options", "arrays"),
    [
        ("SGD", {}, 3),  # reads θ and g; writes θ
        ("SGD", {"momentum": 0.9}, 5),  # reads and writes the buffer as well
        ("Adam", {}, 7),  # reads θ, g, m, v; writes θ, m, v
        ("Adam", {"amsgrad": True}, 9),  # and the largest v
        ("AdamW", {}, 7),
        ("Adagrad", {}, 5),  # reads θ, g and the sum; writes θ and the sum
        ("ASGD", {}, 4),  # before averaging, the average is θ, and what it was is not read
        ("ASGD", {"t0": 0}, 5),
        ("Rprop", {}, 7),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bytes_to_be_moved_are_those_of_the_operands(name, options, arrays, dtype):
    optimizer = getattr(optim, name)([np.ones(3, dtype)], **options)
    for _ in range(3):
        optimizer.step(grads=[np.ones(3, dtype)])
    assert bytes_per_element(optimizer) == arrays * np.dtype(dtype).itemsize


def test_what_is_not_needed_or_not_changed_is_not_moved():
    def rule(xp, param, grad, state, group):
        _ = xp.sqrt(state["unused"])
        return param - grad * state["kept"], {"kept": state["kept"]}

    assert measure.moved_arrays(trace(rule, ("unused", "kept"), {}, {})) == 4


# Contenders


@pytest.mark.parametrize("name", list(algorithms()))
def test_all_contenders_agree(name):
    workload = "embedding" if name == "SparseAdam" else "10-small"
    numbers = problem(WORKLOADS[workload].quick, rows=WORKLOADS[workload].rows)
    results = compare(workload, name, numbers, settings(*rivals(), "for-loop", "foreach"))
    contenders = [result.contender for result in results]
    assert contenders[:2] == ["arrayopt", "arrayopt-torch"]
    assert ("torch" in contenders) == (BY_NAME[name].reference is None)
    assert ("torch-foreach" in contenders) == ("foreach" in algorithms_of_torch(name))
    assert ("torch-fused" in contenders) == ("fused" in algorithms_of_torch(name))
    for result in results:
        assert not result.failure
        assert result.timing.median > 0
    medians = {result.contender: result.timing.median for result in results}
    for result in results[2:]:
        expected = {ours: medians[ours] / medians[result.contender] for ours in OURS}
        assert result.ratios == pytest.approx(expected)


def test_averages_agree():
    numbers = problem(WORKLOADS["10-small"].quick)
    results = compare("10-small", "EMA", numbers, settings(*CONTENDERS))
    assert [result.contender for result in results] == [
        *("arrayopt", "arrayopt-torch", "torch-for-loop", "torch-foreach"),
        *("for-loop", "foreach", "fused"),
    ]
    for result in results:
        assert not result.failure
        # the average is read and written, the model read
        assert result.moved == 3 * 4 * numbers.touched
    step = OURS["arrayopt"].make("EMA", numbers)
    step.step()
    for found, start, value in zip(step.arrays(), numbers.starts, numbers.grads):
        np.testing.assert_allclose(found, 0.999 * start + 0.001 * value, rtol=0, atol=1e-8)


def algorithms_of_torch(name):
    cls = getattr(torch.optim, name, None)
    return inspect.signature(cls).parameters if cls else {}


def test_what_no_rival_has_is_timed_beside_the_for_loop(monkeypatch, capsys):
    monkeypatch.delattr(torch.optim, "NAdam")  # which optax lacks as well
    quick = ["bench", "--quick", "--workload=1x100", "--turns=1"]
    assert main([*quick, "--algorithm=NAdam", "--algorithm=SGD"]) == 0
    output = capsys.readouterr().out
    assert "No rival has NAdam: it was timed beside arrayopt's own for-loop.\n" in output
    assert "No rival has SGD" not in output
    found = compare("1x100", "NAdam", problem([(5,)]), settings("torch", instead=["for-loop"]))
    assert [result.contender for result in found] == ["arrayopt", "arrayopt-torch", "for-loop"]
    assert found[-1].ratios.keys() == {"arrayopt", "arrayopt-torch"}
    assert main([*quick, "--algorithm=NAdam", "--against=torch"]) == 0
    assert "for-loop" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad", "SGD"])
def test_sparse_steps_are_compared_with_torch_and_with_dense_ones(name):
    numbers = problem([(50, 4)], rows=20)
    results = compare("embedding", name, numbers, settings(*CONTENDERS))
    names = [result.contender for result in results if result.contender in CONTENDERS]
    assert names[:2] == ["torch", "dense"]
    assert not any(result.failure for result in results)


def test_optax_agrees():
    numbers = problem(WORKLOADS["10-small"].shapes)
    from arrayopt.bench.optax_step import RECIPES

    for name in RECIPES:
        result = compare("10-small", name, numbers, settings("optax"))[-1]
        assert (result.contender, result.failure) == ("optax", "")


def test_nobody_writes_to_the_numbers_that_all_share():
    numbers = problem([(5, 3)])
    copies = [array.copy() for array in numbers.starts + numbers.grads]
    for name in ("Adam", "LBFGS"):
        compare("mlp", name, numbers, settings("torch"))
    for array, copy in zip(numbers.starts + numbers.grads, copies):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(numbers.tensors[0].numpy(), numbers.grads[0])


def test_a_step_of_lbfgs_begins_anew_and_goes_down():
    numbers = problem([(5, 3)])
    side = OURS["arrayopt"].make("LBFGS", numbers)
    side.step()
    once = side.arrays()[0].copy()
    side.step()
    np.testing.assert_array_equal(side.arrays()[0], once)
    start = numbers.starts[0] / np.abs(numbers.starts[0]).sum()
    assert np.abs(once).max() < 0.01 * np.abs(start).max()


class Wrong(Torch):
    """A rival that is a little off."""

    def make(self, algorithm, problem):
        side = super().make(algorithm, problem)
        return Side(side.step, lambda: [array * 1.0001 for array in side.arrays()])


def test_a_rival_that_disagrees_is_not_timed(monkeypatch):
    monkeypatch.setitem(comparison.ALL, "torch", Wrong("wrong"))
    *ours, wrong, right = compare(
        "mlp", "Adam", problem([(5,)]), settings("torch", "torch-for-loop")
    )
    assert wrong.timing is None
    assert "1.0e-04 from arrayopt on NumPy arrays, out of bounds (1e-05)" in wrong.failure
    assert all(result.timing for result in (*ours, right))


def test_nan_does_not_pass_for_agreement(monkeypatch):
    numbers = problem([(5,)])
    numbers.grads[0][0] = np.nan
    results = compare("mlp", "SGD", numbers, settings("torch"))
    assert all(result.failure for result in results)
    assert not any(result.timing for result in results)


# Memory


def test_rivals_take_turns_one_by_one_where_memory_is_short():
    numbers = problem([(1000,)])  # 4,000 bytes; Adam has four arrays, and four are spare
    names = ["torch", "torch-fused", "optax"]
    assert memory.needed("Adam", numbers, sides=5) == 4000 * (4 * 5 + 4)
    assert memory.rounds("Adam", numbers, 2, names, 192_000) == [names]
    assert memory.rounds("Adam", numbers, 2, names, 191_999) == [[name] for name in names]
    assert memory.rounds("Adam", numbers, 2, [], 80_000) == [[]]
    assert memory.rounds("Adam", numbers, 2, names, 50_000) == []


def test_one_by_one_all_rounds_of_arrayopt_count(monkeypatch):
    monkeypatch.setattr(comparison, "available_memory", lambda: 130_000)
    told = []
    numbers = problem([(1000,)])
    results = compare("mlp", "Adam", numbers, settings("torch", "torch-fused"), told.append)
    assert told == ["mlp  Adam  torch", "mlp  Adam  torch-fused"]
    assert [len(result.timing.samples) for result in results] == [2, 2, 1, 1]
    assert all(result.ratios.keys() == OURS.keys() for result in results[2:])


def test_without_memory_a_case_is_left_out(monkeypatch):
    monkeypatch.setattr(comparison, "available_memory", lambda: 0)
    for result in compare("mlp", "Adam", problem([(10,)]), settings("torch")):
        assert result.skipped == "not enough memory"
        assert not result.failure
        assert result.timing is None


def test_available_memory_is_what_linux_tells(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  100 kB\nMemFree:  7 kB\nMemAvailable:   50 kB\n")
    assert memory.available_memory(file) == 50 * 1024
    assert memory.available_memory(tmp_path / "nowhere") == memory.ASSUMED


def test_the_neighbours_are_what_is_busy_beside_this_process(tmp_path, monkeypatch):
    def tell(text):
        (tmp_path / "stat").write_text(text)

    now = {"perf_counter": 0.0, "process_time": 0.0}
    for name in now:
        monkeypatch.setattr(neighbours.time, name, lambda name=name: now[name])
    ticks = os.sysconf("SC_CLK_TCK")
    tell("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 ...\n")
    others = neighbours.watch(tmp_path / "stat")
    now |= {"perf_counter": 10.0, "process_time": 12.0}
    # user, nice, system, idle, waiting, interrupts, softly, stolen: 27 of 40 seconds busy
    busy = " ".join(str(seconds * ticks) for seconds in (18, 1, 3, 10, 3, 1, 2, 2))
    tell(f"cpu {busy} 0 0\n")
    assert others() == pytest.approx((27 - 12) / 10)
    assert neighbours.watch(tmp_path / "nowhere")() is None


def test_a_busy_machine_is_a_warning(bench, monkeypatch):
    monkeypatch.setattr("arrayopt.bench.session.watch", lambda: lambda: 1.5)
    _, output, _ = bench("--workload=1x100", "--algorithm=SGD", "--against=torch")
    assert "Other processes kept 1.5 cores busy meanwhile: do not trust" in output
    monkeypatch.setattr("arrayopt.bench.session.watch", lambda: lambda: 0.05)
    _, output, _ = bench("--workload=1x100", "--algorithm=SGD", "--against=torch")
    assert "Other processes" not in output


# Showing it


def fake_results():
    """Adam on 16.7M numbers: 10 ms on NumPy arrays, 20 on tensors, against 40, 8, and a liar."""
    yardsticks = {
        "copy": Timing([2 * YARDSTICK / 40e9], 1),
        "in place": Timing([2 * YARDSTICK / 80e9], 1),
    }

    def result(name, seconds, **rest):
        timing = seconds and Timing([seconds], 3)
        return Result("1x16.7M", "Adam", name, 467_600_000, timing, yardsticks=yardsticks, **rest)

    return [
        result("arrayopt", 0.010),
        result("arrayopt-torch", 0.020),
        result("torch", 0.040, ratios={"arrayopt": 0.25, "arrayopt-torch": 0.5}),
        result("torch-fused", 0.008, ratios={"arrayopt": 1.25, "arrayopt-torch": 2.5}),
        result("torch-foreach", None, failure="it is off"),
        result("optax", None, skipped="not enough memory"),
    ]


def printed(shown, width=100):
    screen = Console(width=width, record=True, file=io.StringIO())
    screen.print(shown)
    return screen.export_text(clear=False), screen.export_text(styles=True)


def test_the_table_tells_ratios_bytes_and_bandwidth():
    text, styled = printed(table("1x16.7M", fake_results(), settings()))
    assert "1x16.7M: one tensor of 16.7M (1 array, 16,700,000 numbers)" in text
    rows = [line.split() for line in text.splitlines()]
    start = next(number for number, row in enumerate(rows) if row[:1] == ["Adam"])
    expected = "Adam NumPy 10 ms 0.250 disagrees 1.25 skipped 468 MB 46.8 117% 58%"
    assert rows[start] == expected.split()
    assert rows[start + 1][:5] == ["torch", "20", "ms", "0.500", "disagrees"]
    red = re.findall("\x1b\\[31m *([0-9.]+)", styled)
    assert red == ["1.25", "2.50"], "what is slower is red"


def test_what_was_skipped_and_why_is_told_once(bench, monkeypatch):
    monkeypatch.setattr(comparison, "available_memory", lambda: 0)
    status, output, _ = bench("--workload=1x100", "--algorithm=Adam")
    assert status == 0
    assert output.count("SKIPPED 1x100: Adam: not enough memory") == 1


def test_the_table_has_no_fraction_where_caches_hold_the_arrays_and_a_dash_for_the_absent():
    results = [
        Result("1x100", "Adam", "arrayopt", 2800, Timing([1e-5], 1)),
        Result("1x100", "Adam", "torch-fused", 2800, Timing([1e-4], 1), {"arrayopt": 0.1}),
        Result("1x100", "RAdam", "arrayopt", 2800, Timing([1e-5], 1)),
    ]
    text, _ = printed(table("1x100", results, settings()))
    assert "copy" not in text
    rows = [line.split() for line in text.splitlines()]
    assert ["RAdam", "NumPy", "10", "µs", "-", "2.8", "kB", "0.28"] in rows


def test_a_reduced_workload_is_called_so():
    text, _ = printed(table("gpt2", [], settings(quick=True)))
    assert "GPT-2 small, reduced" in text
    text, _ = printed(table("1x100", [], settings(quick=True)))
    assert "reduced" not in text


def test_durations_have_a_fitting_unit():
    assert [duration(s) for s in (2.0, 0.5, 1e-3, 99.9e-6)] == ["2 s", "500 ms", "1 ms", "99.9 µs"]


def test_the_introduction_tells_versions_threads_and_memory():
    text = introduction(settings(threads=3), {"copy": 40e9, "in place": 80e9}, {"optax": "get it"})
    assert f"numpy {np.__version__}" in text
    assert "3 threads a side" in text
    assert "copying 40.0 GB/s, negating in place 80.0 GB/s" in text
    assert "Without optax, which is missing: get it" in text


def test_the_record_holds_all_of_it():
    whole = json.loads(
        json.dumps(record.record(fake_results(), settings(threads=2), {"copy": 1.0}, 0.5))
    )
    assert (whole["threads"], whole["busy_cores"]) == (2, 0.5)
    assert whole["versions"]["torch"] == torch.__version__
    assert whole["machine"].keys() == {"cpu", "cores", "system"}
    assert whole["workloads"]["1x16.7M"]["elements"] == 16_700_000
    ours, _, default, _, wrong, left_out = whole["results"]
    assert default["seconds"] == {
        "median": 0.04,
        "quartiles": [0.04, 0.04],
        "turns": 1,
        "steps_per_turn": 3,
    }
    assert (default["ratio"], default["ratio_torch_tensors"]) == (0.25, 0.5)
    assert ours["ratio"] is None
    assert ours["bytes_moved"] == 467_600_000
    assert ours["bandwidth"] == pytest.approx(46.76e9)
    assert ours["memory"]["copy"] == pytest.approx(40e9)
    assert ours["fractions"] == pytest.approx({"copy": 1.169, "in place": 0.5845})
    assert (wrong["seconds"], wrong["failure"], wrong["skipped"]) == (None, "it is off", None)
    assert (left_out["failure"], left_out["skipped"]) == (None, "not enough memory")
    documented = record.record.__doc__
    for entry in (whole, ours, default["seconds"], whole["machine"]):
        for key in entry:
            assert f'``"{key}"``' in documented


def test_the_processor_is_named(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Abacus 3000\n")
    assert record._cpu(file) == "Abacus 3000"
    assert record._cpu(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(
    ("suffix", "beginning"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")]
)
def test_the_chart_is_written(tmp_path, suffix, beginning):
    path = tmp_path / f"chart.{suffix}"
    chart(fake_results(), path, "an abacus")
    assert path.read_bytes().startswith(beginning)


def test_the_chart_has_a_bar_from_one_for_each_ratio(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: drawn.append(figure))
    chart(fake_results(), tmp_path / "chart.png", "an abacus")
    (axes,) = drawn[0].axes
    ends = sorted(bar.get_y() + bar.get_height() for bar in axes.patches)
    assert ends == pytest.approx([1 / 1.25, 1 / 0.25])
    assert {bar.get_y() for bar in axes.patches} == {1}
    assert axes.get_yscale() == "log"
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["torch default", "torch fused"]


def test_a_chart_of_nothing_and_of_many_workloads_can_be_drawn(tmp_path):
    chart([], tmp_path / "empty.png", "")
    many = [Result(name, "Adam", "torch", ratios={"arrayopt": 2.0}) for name in list(WORKLOADS)[:5]]
    chart(many, tmp_path / "many.png", "")
    assert (tmp_path / "many.png").is_file()


# The command


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command with one turn, in an empty folder; returns the status and both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "YARDSTICK", 1 << 16)

    def run_bench(*args):
        status = main(["bench", "--quick", "--turns=1", "--threads=1", *args])
        return status, *capsys.readouterr()

    return run_bench


def test_the_command_prints_tables_and_writes_files(bench, tmp_path):
    before = optim.get_num_threads(), torch.get_num_threads()
    status, output, _ = bench(
        *("--workload=1x100", "--workload=embedding", "--algorithm=sgd", "--algorithm=LBFGS"),
        *("--json=all.json", "--plot=all.svg"),
    )
    assert status == 0, output
    assert output.index("1x100: one tensor of 100") < output.index("embedding: ")
    assert "1 thread a side" in output
    assert "below 1, arrayopt\nis faster" in output
    assert max(map(len, output.splitlines())) <= 104
    whole = json.loads((tmp_path / "all.json").read_text())
    assert whole["quick"]
    assert whole["threads"] == 1
    cases = {(entry["workload"], entry["algorithm"]) for entry in whole["results"]}
    assert cases == {("1x100", "SGD"), ("1x100", "LBFGS"), ("embedding", "SGD")}
    assert {entry["seconds"]["turns"] for entry in whole["results"]} == {1}
    assert (tmp_path / "all.svg").stat().st_size > 1000
    assert (optim.get_num_threads(), torch.get_num_threads()) == before


def test_what_was_measured_is_drawn_again(tmp_path, capsys):
    ratios = {"ratio": 0.25, "ratio_torch_tensors": None, "bytes_moved": None}
    names = {"workload": "1x100", "algorithm": "SGD", "contender": "torch"}
    whole = {"schema": 1, "machine": {"cpu": "a processor"}, "dtype": "float32", "threads": 1}
    whole |= {"quick": False, "results": [names | ratios]}
    file, picture = tmp_path / "all.json", tmp_path / "all.svg"
    file.write_text(json.dumps(whole))
    draw = ["bench", "--from", str(file), "--plot", str(picture)]
    assert main(draw) == 0
    assert "<svg" in picture.read_text()
    picture.unlink()
    for arguments, message in [
        ([*draw, "--quick"], "without --quick"),
        (draw[:3], "needs --plot FILE"),
        ([*draw, "--algorithm=Adam"], "has nothing of such an algorithm and workload"),
        ([*draw[:2], str(tmp_path / "none.json"), *draw[3:]], "none.json"),
    ]:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    for text in ("[1]", "{", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "results": [[]]}'):
        file.write_text(text)
        assert main(draw) == 2
        assert "is no record of `arrayopt bench --json`" in capsys.readouterr().err
    assert not picture.exists()


def test_checkpoints_are_timed_beside_plain_files(bench, tmp_path):
    status, output, _ = bench("--checkpoint", str(tmp_path))
    assert status == 0, output
    rows = [line.split() for line in output.splitlines()]
    for side, columns in (("write", 8), ("save", 7), ("read", 6), ("load", 7)):
        assert [len(row) for row in rows if row[:1] == [side]] == [columns]
    assert f"GB in {tmp_path}\n" in output
    assert not [*tmp_path.iterdir()]


def test_a_benchmark_of_checkpoints_that_cannot_be(bench, monkeypatch):
    status, _, error = bench("--checkpoint", "--algorithm=SGD", "--json=a.json")
    assert status == 2
    assert "times checkpoints alone, without --algorithm, --json" in error
    monkeypatch.setattr("arrayopt.bench.command.installed", lambda name: name != "xxhash")
    status, _, error = bench("--checkpoint")
    assert status == 2
    assert 'needs xxhash: pip install "arrayopt[checkpoint]"' in error
    with pytest.raises(SystemExit):
        bench("--checkpoint", "nowhere")


def test_the_plain_files_have_the_bytes_of_the_arrays(tmp_path):
    arrays = [np.arange(6.0).reshape(2, 3), np.ones(3, np.float32)]
    saving._write(tmp_path / "plain", arrays)
    assert (tmp_path / "plain").read_bytes() == b"".join(a.tobytes() for a in arrays)
    read = [np.empty_like(array) for array in arrays]
    saving._read(tmp_path / "plain", read)
    assert [a.tobytes() for a in read] == [a.tobytes() for a in arrays]


def test_the_order_of_the_columns_does_not_depend_on_that_of_the_arguments(bench):
    _, output, _ = bench(
        "--workload=1x100", "--algorithm=SGD", "--against=foreach", "--against=torch"
    )
    (headings,) = [line for line in output.splitlines() if "algorithm" in line]
    assert headings.split() == [
        "algorithm",
        "arrays",
        "a",
        "step",
        "default",
        "foreach",
        "moved",
        "GB/s",
    ]


def test_a_disagreement_fails_and_is_named(bench, monkeypatch):
    monkeypatch.setitem(comparison.ALL, "torch", Wrong("wrong"))
    status, output, _ = bench("--workload=1x100", "--algorithm=Adam", "--against=torch")
    assert status == 1
    assert "disagrees" in output
    assert "FAILED  Adam of torch on 1x100: after 6 steps, 1.0e-04 from arrayopt" in output


def test_without_torch_the_implementations_of_arrayopt_compete(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, output, _ = bench("--workload=1x100", "--algorithm=SGD")
    assert status == 0
    assert "Without torch, which is missing: pip install torch==" in output
    headings = next(line for line in output.splitlines() if "algorithm" in line).split()
    assert {"for-loop", "foreach"} <= {*headings}
    assert "default" not in headings


def test_a_rival_whose_library_is_missing_is_a_clear_error(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    status, _, error = bench("--against=optax")
    assert status == 2
    assert (
        "arrayopt bench: error: optax needs optax, which cannot be imported: pip install" in error
    )


def test_algorithms_without_a_fitting_workload_are_a_clear_error(bench):
    status, _, error = bench("--algorithm=SparseAdam", "--workload=mlp")
    assert status == 2
    assert "there is nothing to time" in error
    assert "those of embedding are sparse" in error


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "--algorithm",
            "Adum",
            f"unknown algorithm 'Adum'; choose from {', '.join(algorithms())}, EMA",
        ),
        ("--workload", "gpt3", f"unknown workload 'gpt3'; choose from {', '.join(WORKLOADS)}"),
        ("--against", "jax", f"unknown rival 'jax'; choose from {', '.join(CONTENDERS)}"),
        ("--threads", "0", "expected a whole number from 1 to 1024, but got '0'"),
        ("--threads", "1000000", "expected a whole number from 1 to 1024, but got '1000000'"),
        ("--turns", "few", "expected a whole number >= 1, but got 'few'"),
        ("--json", "nowhere/all.json", "there is no directory 'nowhere'"),
        ("--json", "all.txt", "expected a file that ends in .json, but got 'all.txt'"),
        ("--plot", "all.pdf", "expected a file that ends in .png or .svg, but got 'all.pdf'"),
    ],
)
def test_a_wrong_option_is_a_clear_error(bench, capsys, option, value, message):
    with pytest.raises(SystemExit, match="2"):
        bench(f"{option}={value}")
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_threads_are_given_back_after_an_error(monkeypatch):
    before = optim.get_num_threads(), torch.get_num_threads()
    monkeypatch.setattr("arrayopt.bench.session.compare", lambda *args: 1 / 0)
    monkeypatch.setattr(measure, "YARDSTICK", 1 << 16)
    monkeypatch.setenv("PJRT_NPROC", "7")
    with pytest.raises(ZeroDivisionError):
        session({"1x100": ["SGD"]}, settings(threads=3), {})
    assert (optim.get_num_threads(), torch.get_num_threads()) == before
    assert os.environ["PJRT_NPROC"] == "7"


def test_what_was_measured_is_kept_if_the_rest_is_lost(bench, monkeypatch, tmp_path):
    real = compare

    def until_the_second(workload, *rest):
        if workload == "10-small":
            raise KeyboardInterrupt
        return real(workload, *rest)

    monkeypatch.setattr("arrayopt.bench.session.compare", until_the_second)
    file = tmp_path / "all.json"
    workloads = ["--workload", "1x100", "--workload", "10-small"]
    status, _, _ = bench(
        "--algorithm", "SGD", *workloads, "--against", "for-loop", f"--json={file}"
    )
    assert status == 130  # interrupted
    record = json.loads(file.read_text())
    assert set(record["workloads"]) == {"1x100"}
    assert {result["algorithm"] for result in record["results"]} == {"SGD"}


# The asv suite


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "asv_benchmarks"))
    yield importlib.import_module
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_the_asv_suite_steps(suite):
    steps = suite("benchmarks.steps")
    names, implementations, workloads, dtypes = steps.Steps.params
    assert {*names} == {*algorithms(), "EMA"} - {"SparseAdam"}
    assert {*workloads} == {*WORKLOADS} - {"embedding"}
    benchmark = steps.Steps()
    benchmark.setup(names[0], implementations[0], workloads[0], dtypes[0])
    benchmark.time_step()
    with pytest.raises(NotImplementedError):
        benchmark.setup("LBFGS", "foreach", "1x100", "float32")


def test_the_asv_suite_times_the_first_step_of_a_process(suite):
    startup = suite("benchmarks.startup")
    statement, setup = startup.FirstStep().timeraw_first_step("SGD", "foreach")
    namespace = {}
    exec(textwrap.dedent(setup), namespace)
    exec(statement, namespace)
    np.testing.assert_allclose(namespace["param"], 1 - 1e-3)
