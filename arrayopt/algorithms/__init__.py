"""The algorithms, one file each: a class, its docstring and its rule."""

from arrayopt.algorithms.adam import Adam
from arrayopt.algorithms.adamw import AdamW
from arrayopt.algorithms.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW"]
