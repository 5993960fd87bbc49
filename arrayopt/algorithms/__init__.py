"""The algorithms, one file each: a class, its docstring and its rule."""

from arrayopt.algorithms.adadelta import Adadelta
from arrayopt.algorithms.adafactor import Adafactor
from arrayopt.algorithms.adagrad import Adagrad
from arrayopt.algorithms.adam import Adam
from arrayopt.algorithms.adamax import Adamax
from arrayopt.algorithms.adamw import AdamW
from arrayopt.algorithms.asgd import ASGD
from arrayopt.algorithms.lbfgs import LBFGS
from arrayopt.algorithms.muon import Muon
from arrayopt.algorithms.nadam import NAdam
from arrayopt.algorithms.radam import RAdam
from arrayopt.algorithms.rmsprop import RMSprop
from arrayopt.algorithms.rprop import Rprop
from arrayopt.algorithms.sgd import SGD
from arrayopt.algorithms.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
]
