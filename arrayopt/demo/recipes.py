"""Which algorithms the demo runs, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import arrayopt.algorithms
from arrayopt.optimizer import Optimizer

__all__ = ["RECIPES", "Recipe", "algorithms", "recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an algorithm is used.

    Attributes
    ----------
    options : mapping
        Passed to its constructor, and to that of its counterpart in torch.
    batch_size : int or None, default 32
        How many images a gradient is the mean over. None stands for all of them: algorithms that
        compare one gradient with the next need gradients without noise.
    sparse : bool, default False
        Whether gradients are handed over as sparse ones, of the rows that are not zero. (A pixel
        that is blank in all images of a batch leaves a row of zeros.)
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = 32
    sparse: bool = False


#: Options with which the network learns in a few epochs. The defaults suit longer runs.
RECIPES: dict[str, Recipe] = {
    "ASGD": Recipe({"lr": 0.2}),
    "Adadelta": Recipe({"lr": 1.0}),
    "Adafactor": Recipe({"lr": 0.1}),
    "Adagrad": Recipe({"lr": 0.05}),
    "Adamax": Recipe({"lr": 0.01}),
    "LBFGS": Recipe({"line_search_fn": "strong_wolfe", "max_iter": 5}, batch_size=None),
    "Muon": Recipe({"lr": 0.005}),
    "NAdam": Recipe({"lr": 0.003}),
    "RAdam": Recipe({"lr": 0.01}),
    "RMSprop": Recipe({"lr": 0.001}),
    "Rprop": Recipe({"lr": 0.01}, batch_size=None),
    "Adam": Recipe({"lr": 0.003}),
    "AdamW": Recipe({"lr": 0.003}),
    "SGD": Recipe({"lr": 0.05, "momentum": 0.9}),
    "SparseAdam": Recipe({"lr": 0.003}, sparse=True),
}


def algorithms() -> dict[str, type[Optimizer]]:
    """The algorithms that arrayopt exports, by name.

    Examples
    --------
    >>> "Adam" in algorithms()
    True
    """
    exported = {name: getattr(arrayopt.algorithms, name) for name in arrayopt.algorithms.__all__}
    return {
        name: entry
        for name, entry in sorted(exported.items(), key=lambda item: item[0].lower())
        if isinstance(entry, type) and issubclass(entry, Optimizer)
    }


def recipe(name: str, lr: float | None = None) -> Recipe:
    """The recipe of an algorithm, with another learning rate if `lr` is given.

    Examples
    --------
    >>> recipe("SGD", lr=0.5).options
    {'lr': 0.5, 'momentum': 0.9}
    """
    known = RECIPES.get(name, Recipe())
    return known if lr is None else replace(known, options={**known.options, "lr": lr})
