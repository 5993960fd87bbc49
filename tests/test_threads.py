"""The shared thread pool."""

import threading
import time
from collections import deque

import numpy as np
import pytest
from processes import python

from arrayopt import get_num_threads, set_num_threads
from arrayopt.threads import run_parallel


@pytest.fixture(autouse=True)
def _keep_num_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("number", [0, -1, 1.0, True, "2", None, np.int64(2)])
def test_number_of_threads_has_to_be_a_positive_int(number):
    before = get_num_threads()
    with pytest.raises(ValueError, match="num_threads must be a positive int, but got"):
        set_num_threads(number)
    assert get_num_threads() == before


def test_number_of_threads_is_what_was_set():
    set_num_threads(5)
    assert get_num_threads() == 5


CORES = "len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("3", "3"), *dict.fromkeys(["", "0", "-1", "two", "1.5"], CORES).items()],
)
def test_environment_variable_sets_the_default(variable, expected):
    code = f"import os, arrayopt; print(arrayopt.get_num_threads() == ({expected}))"
    assert python(code, ARRAYOPT_NUM_THREADS=variable) == "True"


def test_one_thread_is_the_calling_one():
    seen = []
    run_parallel(lambda: seen.append(threading.current_thread()), 1)
    assert seen == [threading.current_thread()]


def test_threads_work_at_once():
    barrier = threading.Barrier(3, timeout=30)  # breaks unless three threads wait together
    run_parallel(barrier.wait, 3)


@pytest.mark.parametrize("guilty", ["caller", "helper"])
def test_an_exception_in_any_thread_is_raised(guilty):
    caller = threading.current_thread()
    barrier = threading.Barrier(2, timeout=30)

    def work():
        barrier.wait()
        if (threading.current_thread() is caller) == (guilty == "caller"):
            raise ZeroDivisionError(guilty)

    with pytest.raises(ZeroDivisionError, match=guilty):
        run_parallel(work, 2)
    run_parallel(threading.Barrier(2, timeout=30).wait, 2)  # the pool is as good as before


def test_helpers_are_done_when_the_caller_gets_an_exception():
    caller = threading.current_thread()
    barrier = threading.Barrier(2, timeout=30)
    done = []

    def work():
        barrier.wait()
        if threading.current_thread() is caller:
            raise ZeroDivisionError
        time.sleep(0.05)
        done.append(True)

    with pytest.raises(ZeroDivisionError):
        run_parallel(work, 2)
    assert done == [True]


def test_work_within_work_does_not_wait_for_itself():
    done = deque()

    def outer():
        run_parallel(lambda: done.append(1), 3)

    run_parallel(outer, 3)
    assert len(done) >= 1


def test_several_threads_of_the_user_share_the_pool():
    totals = {}

    def train(name, num_threads):
        for _ in range(50):
            queue, taken = deque(range(40)), deque()

            def work(queue=queue, taken=taken):
                while queue:
                    try:
                        taken.append(queue.popleft())
                    except IndexError:
                        return

            run_parallel(work, num_threads)
            totals.setdefault(name, []).append(sum(taken))

    users = [threading.Thread(target=train, args=(n, n + 1)) for n in range(1, 6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert totals == {n: [780] * 50 for n in range(1, 6)}  # 0 + 1 + … + 39


STEP = """
import os, threading, time, warnings
import numpy as np
import arrayopt
from arrayopt.threads import run_parallel

arrayopt.set_num_threads(3)
weights = np.ones(1_000_000, np.float32)
optimizer = arrayopt.SGD([weights], lr=0.5)
def step():
    optimizer.step(grads=[np.ones_like(weights)])
"""


def test_a_forked_child_steps_with_threads_of_its_own():
    code = """
step()
warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process of several threads
child = os.fork()
if child == 0:
    step()
    run_parallel(threading.Barrier(3, timeout=30).wait, 3)
    os._exit(0 if (weights == 0).all() else 1)
print(os.waitpid(child, 0)[1], weights.min(), weights.max())
"""
    assert python(STEP + code) == "0 0.5 0.5"


@pytest.mark.parametrize("warm", ["", "step()\n"], ids=["first step", "later step"])
def test_a_thread_that_outlives_the_main_one_can_step(warm):
    code = """
def train():
    threading.main_thread().join()
    time.sleep(0.1)
    step()
    print(weights.min() == weights.max() < 1)
threading.Thread(target=train).start()
"""
    assert python(STEP + warm + code) == "True"
