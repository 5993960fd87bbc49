"""The benchmark on a GPU, on a stand-in for CuPy: that it runs and compares, never how fast."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from arrayopt.bench import comparison, cuda, memory
from arrayopt.bench.comparison import Settings, compare
from arrayopt.bench.measure import Effort
from arrayopt.bench.workloads import WORKLOADS
from arrayopt.cli import main

ONCE = Effort(turns=1, least_turns=1, turn=1e-9, pause=0.0)


@pytest.fixture
def torch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch take part, on the CPU."""
    monkeypatch.setattr(cuda, "home", lambda: "cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short yardstick."""
    monkeypatch.setattr(cuda, "YARDSTICK", 1 << 20)


def bench(*arguments: str) -> int:
    return main(["bench", "--device", "cuda", "--quick", "--turns", "1", *arguments])


def test_without_a_gpu_it_says_what_is_missing(capsys: Any) -> None:
    reason = cuda.trouble()
    if not reason:
        pytest.skip("there is a GPU")
    assert bench("--workload", "1x100") != 0
    assert f"--device cuda needs a GPU: {reason}" in capsys.readouterr().err


@pytest.mark.usefixtures("cupy", "torch_too")
def test_the_command_prints_a_table_and_writes_a_file(capsys: Any, tmp_path: Any) -> None:
    file = tmp_path / "a.json"
    chosen = ["--algorithm", "Adam", "--workload", "10-small", "--json", str(file)]
    assert bench(*chosen) == 0
    text = capsys.readouterr().out
    assert "float32, on stand-in" in text
    assert "CuPy" in text
    assert "fused" in text
    record = json.loads(file.read_text())
    assert record["device"].startswith("stand-in (CuPy ")
    assert record["memory"].keys() == {"copy", "in place"}
    found = {result["contender"]: result for result in record["results"]}
    assert found.keys() == {
        "arrayopt",
        *(name for name in cuda.CONTENDERS if name.startswith("torch")),
    }
    for result in found.values():
        assert result["failure"] is None
        assert result["seconds"]["median"] > 0
    assert found["arrayopt"]["bytes_moved"] == 7 * 4 * 5 * (16 * 16 + 16)  # read 4, write 3


@pytest.mark.usefixtures("cupy")
def test_without_cuda_in_torch_the_implementations_compete(capsys: Any) -> None:
    if cuda.home():
        pytest.skip("torch has CUDA")
    assert bench("--algorithm", "SGD", "--workload", "1x100") == 0
    text = capsys.readouterr().out
    assert "Without torch with CUDA, which is missing" in text
    assert "for-loop" in text


@pytest.mark.usefixtures("cupy", "torch_too")
@pytest.mark.parametrize(
    ("workload", "algorithm"),
    [("embedding", "SparseAdam"), ("embedding", "SGD"), ("mlp", "EMA"), ("1x100", "RAdam")],
)
def test_all_sides_agree(workload: str, algorithm: str) -> None:
    entry = WORKLOADS[workload]
    numbers = cuda.numbers([(60, 4)] if entry.rows else entry.quick, entry.rows and 20)
    assert len(numbers.others) == cuda.SETS - 1
    assert (numbers.starts[0] != numbers.others[0].starts[0]).any()
    results = compare(
        workload, algorithm, numbers, Settings([*cuda.CONTENDERS], 1, ONCE, True, cuda.place())
    )
    assert len(results) >= 2
    for result in results:
        assert result.failure == ""
        assert result.timing is not None


@pytest.mark.usefixtures("cupy")
def test_lbfgs_takes_no_part() -> None:
    numbers = cuda.numbers([(3,)])
    settings = Settings([*cuda.CONTENDERS], 1, ONCE, True, cuda.place())
    assert compare("1x100", "LBFGS", numbers, settings) == []


@pytest.mark.usefixtures("cupy")
def test_where_no_cache_holds_the_arrays_memory_is_the_measure(monkeypatch: Any) -> None:
    monkeypatch.setattr(comparison, "OUT_OF_CACHE", 0)
    settings = Settings([], 1, ONCE, True, cuda.place())
    (result,) = compare("1x100", "SGD", cuda.numbers([(100,)]), settings)
    assert result.fractions.keys() == {"copy", "in place"}
    assert cuda.free_memory() > 0
    assert memory.needed("SGD", cuda.numbers([(100,)]), 1) == 3 * memory.needed(
        "SGD", cuda._moved(cuda.problem([(100,)])), 1
    )


@pytest.mark.usefixtures("cupy")
def test_a_rival_of_another_place(capsys: Any) -> None:
    assert bench("--against", "optax") != 0
    assert "--device cuda has no optax; choose from" in capsys.readouterr().err


def test_sides_that_disagree_are_reported(cupy: Any, monkeypatch: Any, capsys: Any) -> None:
    class Wrong(cuda.OursOnCuda):
        def make(self, algorithm: str, problem: Any) -> Any:
            side = super().make(algorithm, problem)
            side.arrays = lambda: [2 * start.get() for start in problem.starts]
            return side

    monkeypatch.setitem(cuda.CONTENDERS, "foreach", Wrong("wrong", foreach=True))
    assert bench("--algorithm", "SGD", "--workload", "1x100", "--against", "foreach") == 1
    output = capsys.readouterr().out
    assert re.search(r"SGD of foreach on 1x100: after 6 steps, \S+ from arrayopt on CuPy ", output)
