"""The two-layer network as an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis.probes.data import TaskData
from reprkit.analysis.probes.estimators.base import Probe, Regressor, WithLogits, seed_of
from reprkit.analysis.rows import stratified_rows
from reprkit.analysis.universal.perceptron import choose_mlp
from reprkit.analysis.workspace import Workspace


class _MLP(Probe):
    """D -> 64 -> C; penalty and epoch by the loss of held-out rows."""

    validation_fraction: float
    random_state: Any

    def _learn(self, workspace: Workspace, data: TaskData) -> None:
        y, seed = data.y["train"], seed_of(self.random_state)
        every = np.arange(len(y))
        kept = stratified_rows(y, max(1, round((1 - self.validation_fraction) * len(y))), seed=seed)
        held = np.setdiff1d(every, kept)
        x = ((workspace.z("train") - self.mean_.astype(np.float32)) * self.scale_.astype(np.float32)).astype(np.float32)
        target = y if data.task.is_discrete else self._unit.forward(y)
        outputs = data.task.num_outputs if data.task.is_discrete else 1
        held = held if len(held) else kept
        self._network = choose_mlp(x[kept], target[kept], x[held], target[held], outputs, seed=seed)

    def _scores(self, X: Any) -> NDArray[np.float64]:
        x = self._centred(X) * self.scale_.astype(np.float32)
        return self._network.logits(x).T


class MLPClassifier(_MLP, WithLogits):
    """`mlp`: one hidden layer of 64 ReLUs, by Adam.

    Args:
        validation_fraction: share of the rows held out to choose the penalty and the epoch; the suite has its val
            split.
        random_state: of the first weights, the batches and the rows held out.
    """

    def __init__(self, validation_fraction: float = 0.2, random_state: Any = 0) -> None:
        self.validation_fraction, self.random_state = validation_fraction, random_state


class MLPRegressor(_MLP, Regressor):
    """`mlp` of real values, by squared error.

    Args:
        validation_fraction, random_state: as of `MLPClassifier`.
    """

    def __init__(self, validation_fraction: float = 0.2, random_state: Any = 0) -> None:
        self.validation_fraction, self.random_state = validation_fraction, random_state

    def _values(self, X: Any) -> NDArray[np.float64]:
        return self._scores(X)[:, 0]
