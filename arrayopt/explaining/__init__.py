"""What a rule does: as equations, as a program, and in numbers.

`explain` runs a rule on symbols (`symbolic`), watches its variables (`watching`), names its lines
(`naming`, `reading`, `merging`), and prints them (`layout`, `texts`). `record` watches it at work.
"""

from arrayopt.explaining.explanation import Explanation, explain
from arrayopt.explaining.recorder import record
from arrayopt.explaining.recording import Recording

__all__ = ["Explanation", "Recording", "explain", "record"]
