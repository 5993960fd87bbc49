"""What a rule does: as equations, as a program, and in numbers.

`explain` runs a rule on symbols (`symbolic`, in the `surroundings` that a rule expects), watches
its variables (`watching`), and makes lines of `expressions` that bear their names (`naming` and
`merging`; all of that is `reading`). `layout` prints them by way of `texts` and `printing`, with
the letters of `symbols` and `unicode`. What there is to say of a group of parameters is one of the
`sections` of an `explanation`.

`record` watches a rule at work (`recorder`), and keeps what it sees (`recording`).
"""

from arrayopt.explaining.explanation import Explanation, explain
from arrayopt.explaining.recorder import record
from arrayopt.explaining.recording import Recording

__all__ = ["Explanation", "Recording", "explain", "record"]
