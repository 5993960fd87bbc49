"""What a rule does: as equations, as a program, and in numbers.

`explain` runs a rule on symbols (`symbolic`), watches its variables (`watching`), names its lines
(`naming`, `reading`, `merging`), and prints them (`layout`, `texts`). `record` watches it at work.
"""

from arrayopt.explaining.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
