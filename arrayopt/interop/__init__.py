"""Moving a run to and from other libraries: torch.optim's states, and optax's.

`from_torch` and `to_torch` convert the ``state_dict`` of an optimizer, a learning-rate scheduler or
an average of weights; `from_optax` and `to_optax` convert the states of those algorithms that both
libraries compute alike. All four are pure: they copy, and change nothing. torch, JAX and optax are
imported when they are needed, and not before.
"""

from arrayopt.interop.optax_states import from_optax, to_optax
from arrayopt.interop.torch_states import from_torch, to_torch

__all__ = ["from_optax", "from_torch", "to_optax", "to_torch"]
