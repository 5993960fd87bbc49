"""Saves 200 checkpoints in processes that are killed at random, and loads after each death.

Started by tests/test_checkpoint_files.py with a folder and a seed. It is a script, since a process
that forks should have no threads.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import arrayopt
from arrayopt import checkpoint

SAVES = 200


def content(number: int) -> dict[str, np.ndarray]:
    """What the save of that number holds."""
    rng = np.random.default_rng(number)
    return {"w": rng.standard_normal((200, 200)), "n": np.array(number)}


def save_on(run: str, number: int, told: int) -> None:
    """Save one after the other, and tell of each that is done."""
    while number < SAVES:
        number += 1
        checkpoint.save(run, model=content(number), extra={"number": number}, keep=2)
        os.write(told, b"%d\n" % number)


def killed(run: str, number: int, saves: int, fraction: float) -> int:
    """Let a child save from there on, and kill it in the midst of the save after so many.

    Returns the number of the last save that was told.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save_on(run, number, writing)
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        for _ in range(saves):
            begin = time.perf_counter()
            number = int(told.readline() or number)
        time.sleep(fraction * (time.perf_counter() - begin))  # of what the last one took
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return max(map(int, told), default=number)


def main(run: str, seed: str) -> None:
    arrayopt.set_num_threads(1)
    chance = random.Random(seed)
    done = deaths = untold = abandoned = 0
    while done < SAVES:
        told = killed(run, done, chance.randint(1, 3), chance.uniform(0, 1.2))
        deaths += 1
        abandoned += any(name.endswith("tmp") for name in os.listdir(run))
        model = {name: np.zeros_like(array) for name, array in content(0).items()}
        number = checkpoint.load(run, model=model).extra["number"]
        assert number in (told, told + 1), f"{number} was loaded, but {told} was saved"
        untold += number > told
        for name, array in content(number).items():
            assert model[name].tobytes() == array.tobytes(), f"{name} of {number} has changed"
        done = number
    checkpoint.save(run, model=content(0), keep=2)
    left = sorted(os.listdir(run))
    assert len(left) == 2, left
    print(deaths, untold, abandoned)


if __name__ == "__main__":
    os.makedirs(Path(sys.argv[1]))
    main(*sys.argv[1:])
