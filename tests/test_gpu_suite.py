"""The tests for a GPU: that they are sound where there is none, and refuse to run there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arrayopt.backends.cupy_memory import trouble

HERE = Path(__file__).parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ, "COVERAGE_PROCESS_START": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_they_pass_on_the_stand_in() -> None:
    result = run("tests/gpu", ARRAYOPT_GPU="standin")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout


def test_without_a_gpu_they_say_what_is_missing() -> None:
    reason = trouble()
    if not reason:
        pytest.skip("there is a GPU")
    result = run("tests/gpu", ARRAYOPT_GPU="")
    assert result.returncode not in (0, 5)
    assert f"these tests need a GPU: {reason}" in result.stdout + result.stderr


def test_they_are_not_part_of_the_other_tests() -> None:
    others = "--ignore-glob=tests/test_[!g]*.py"  # (most of which need not be looked at)
    result = run("--collect-only", others, "tests")
    assert "test_gpu_suite" in result.stdout
    assert "test_gpu_running" not in result.stdout
