"""Checkpoints: saving a run, and going on with it to the bit.

>>> import tempfile
>>> import numpy as np
>>> from arrayopt import checkpoint
>>> with tempfile.TemporaryDirectory() as run:
...     _ = checkpoint.save(run, extra={"epoch": 3})
...     checkpoint.load(run).extra
{'epoch': 3}
"""

from arrayopt.checkpoint.container import DamagedCheckpoint
from arrayopt.checkpoint.runs import Checkpoint, load, save

__all__ = ["Checkpoint", "DamagedCheckpoint", "load", "save"]
