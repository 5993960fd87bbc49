"""Averaging the weights of a network while it is trained, as torch's documentation shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from arrayopt.demo.model import MLP, Floats, Labels
from arrayopt.lr_scheduler import CosineAnnealingLR
from arrayopt.optimizer import Optimizer
from arrayopt.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

__all__ = ["DECAY", "KINDS", "Averaging", "Kind"]

Kind = Literal["swa", "ema"]

#: The averages, and what they are called.
KINDS: dict[Kind, str] = {"swa": "SWA", "ema": "EMA"}

#: The decay rate of the exponential average: it remembers some 100 steps, which are two epochs.
DECAY = 0.99


class Averaging:
    """The average of the weights of a network, and how it comes about.

    SWA is the equal average of the models at the end of the last epochs, in which the learning rate
    goes back from the end of a cosine schedule to what it was, and stays there. EMA is the
    exponential average of the models after all steps.

    Parameters
    ----------
    kind : {"swa", "ema"}
        Which of the two.
    model : MLP
        The network, with batch normalization.
    optimizer : Optimizer
        Who trains it.
    epochs : int
        For how long.

    Attributes
    ----------
    averaged : AveragedModel
        The average.
    first : int
        The epoch, counted from 0, with which it begins.
    taken : list of list of array
        Copies of the weights of all models that are part of it.
    losses : list of float
        Its loss over the test images after each epoch; NaN as long as there is none.
    accuracy : float
        The fraction of the test images that it tells right in the end.
    """

    def __init__(self, kind: Kind, model: MLP, optimizer: Optimizer, epochs: int) -> None:
        self.kind = kind
        self.model = model
        if kind == "ema":
            self.first = 0
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        else:
            # as 160 of 300 epochs in the example, but at least the last one
            self.first = min(epochs * 160 // 300 + 1, epochs - 1)
            rates = [group["lr"] for group in optimizer.param_groups]
            self.averaged = AveragedModel(model)
            self.cosine = CosineAnnealingLR(optimizer, T_max=epochs)
            self.constant = SWALR(optimizer, swa_lr=rates, anneal_epochs=epochs // 6)
        self.taken: list[list[Floats]] = []
        self.losses = [math.nan]
        self.accuracy = math.nan

    def after_step(self) -> None:
        """Go on after a step of the optimizer."""
        if self.kind == "ema":
            self._take()

    def after_epoch(self, epoch: int) -> None:
        """Go on after an epoch."""
        if self.kind == "swa" and epoch >= self.first:
            self._take()
            self.constant.step()
        elif self.kind == "swa":
            self.cosine.step()

    def _take(self) -> None:
        self.averaged.update_parameters(self.model)
        self.taken.append([param.data.copy() for param in self.model.parameters()])

    def evaluate(self, batches: Sequence[Floats], x: Floats, labels: Labels) -> None:
        """See how good the average is.

        Parameters
        ----------
        batches : sequence of array
            Inputs, by which its statistics are computed.
        x : array of shape (images, inputs)
            The test images.
        labels : array of shape (images,)
            Their classes.
        """
        if not self.taken:
            self.losses.append(math.nan)
            return
        update_bn(batches, self.averaged)
        network: MLP = self.averaged.eval().module
        self.losses.append(network.loss(x, labels))
        self.accuracy = network.accuracy(x, labels)
