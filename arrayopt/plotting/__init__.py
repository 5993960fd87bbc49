"""Pictures of optimizers at work, drawn with matplotlib (``pip install 'arrayopt[plot]'``).

>>> import arrayopt as optim
>>> from arrayopt import plotting
>>> from arrayopt.problems import rosenbrock
>>> runs = [(optim.SGD, {"lr": 1e-3}), (optim.Adam, {"lr": 0.1})]
>>> figure = plotting.plot_trajectories(rosenbrock(), runs, steps=50)
>>> figure.savefig("paths.png")  # doctest: +SKIP

In a notebook, a figure shows itself, and `explore` puts sliders to it. Nothing of it goes through
``matplotlib.pyplot``: there is nothing to be closed, and ``plt.show`` is never called. Colours are
told apart with any kind of colour vision, and dashes and markers without colours.
"""

from arrayopt.plotting.animation import animate
from arrayopt.plotting.curves import plot_loss_curves
from arrayopt.plotting.elements import plot_intermediates, plot_step_sizes
from arrayopt.plotting.exploration import Exploration, explore
from arrayopt.plotting.schedules import plot_schedule
from arrayopt.plotting.style import new_figure
from arrayopt.plotting.surface import plot_trajectories
from arrayopt.problems.trajectory import Trajectory, trajectories, trajectory

__all__ = [
    "Exploration",
    "Trajectory",
    "animate",
    "explore",
    "new_figure",
    "plot_intermediates",
    "plot_loss_curves",
    "plot_schedule",
    "plot_step_sizes",
    "plot_trajectories",
    "trajectories",
    "trajectory",
]
