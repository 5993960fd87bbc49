"""What a new process waits for: imports, and the first step, in which kernels are compiled.

asv runs these statements in a process of their own each time.
"""

from __future__ import annotations

from arrayopt.bench.workloads import problem

from .steps import ALGORITHMS, IMPLEMENTATIONS, warm_step


class Import:
    """Imports of arrayopt, and of its dependencies alone."""

    timeout = 120

    def timeraw_arrayopt(self) -> str:
        return "import arrayopt"

    def timeraw_dependencies(self) -> str:
        return "import numpy, array_api_compat"


class FirstStep:
    """The first step of a process, on a small array."""

    params = ([name for name in ALGORITHMS if name not in ("LBFGS", "EMA")], list(IMPLEMENTATIONS))
    param_names = ("algorithm", "implementation")
    timeout = 300

    def setup(self, algorithm: str, implementation: str) -> None:
        warm_step(algorithm, problem([(100,)]), implementation)  # left out where this cannot be

    def timeraw_first_step(self, algorithm: str, implementation: str) -> tuple[str, str]:
        setup = """
            import numpy as np
            import arrayopt as optim
            param, grad = np.ones((2, 100), np.float32)
        """
        options = IMPLEMENTATIONS[implementation]
        return f"optim.{algorithm}([param], **{options}).step(grads=[grad])", setup
