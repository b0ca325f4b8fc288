"""Probes that other packages add by name, under the same protocol as reprkit's own.

A package offers a probe by an entry point of the group `reprkit.probes`. Its object is called as
`fit(workspace, data, protocol) -> Outcome`; an `EstimatorProbe` is such an object, made of any scikit-learn estimator::

    from sklearn.naive_bayes import GaussianNB
    bayes = EstimatorProbe(classifier=GaussianNB(), grid={"var_smoothing": (1e-3, 1e-6, 1e-9)})
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprkit import plugins
from reprkit.analysis.probes import suite
from reprkit.analysis.probes.data import Scale, TaskData, fitting_rows, labelled_blocks, val_rows
from reprkit.analysis.probes.outcome import Outcome, Selection, score
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.workspace import Workspace


@dataclass(frozen=True)
class EstimatorProbe:
    """A probe made of scikit-learn estimators: fitted on train, chosen on val, test predicted once.

    Log-loss and calibration are those of its `predict_proba`, if it has one. Each candidate is a clone. A
    `random_state` that is None is set to the protocol's seed, so that results repeat. Large files are fitted to the
    protocol's subsamples, as trees and MLP are.

    Attributes:
        classifier: of class indices; None if the probe is for values only.
        regressor: of standardised values; None if it is for classes only.
        grid: parameter -> values, from simple to complex; the first of equally good combinations is kept.
        standardise: give it standardised features, else the raw ones.
    """

    classifier: Any = None
    regressor: Any = None
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    standardise: bool = True

    @property
    def classes_only(self) -> bool:
        """True if regression tasks do not have the probe."""
        return self.regressor is None

    def __call__(self, workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
        """Fit to one task."""
        discrete, scale = data.task.is_discrete, Scale.of(data)
        model = self.classifier if discrete else self.regressor
        if model is None:
            raise TypeError(f"this probe has no {'classifier' if discrete else 'regressor'} for '{data.task.name}'")
        picked, remarks = fitting_rows(data, protocol)
        held, more = val_rows(data, protocol)
        x, y = self._seen(workspace, workspace.rows("train", picked)), data.targets["train"][picked]
        held_x, held_y = self._seen(workspace, workspace.rows("val", held)), data.targets["val"][held]
        selection = Selection()
        for values in itertools.product(*self.grid.values()):
            params = dict(zip(self.grid, values, strict=True))
            fitted = _fresh(model, params, protocol.seed).fit(x, y if discrete else scale.forward(y))
            predicted = _predict(fitted, held_x, data, scale)
            selection.offer(score(data.task, predicted, held_y), params or {"default": True}, fitted)
        blocks = labelled_blocks(workspace, data, "test")
        test, log_p = [], []
        for block in blocks:
            seen = self._seen(workspace, block)
            test.append(_predict(selection.model, seen, data, scale))
            if discrete and hasattr(selection.model, "predict_proba"):
                log_p.append(_log_probabilities(selection.model, seen, data.task.num_outputs))
        return Outcome(
            np.concatenate(test),
            selection.params if self.grid else {},
            selection.value,
            len(picked),
            log_probabilities=np.concatenate(log_p) if log_p else None,
            remarks=remarks + more,
        )

    def _seen(self, workspace: Workspace, rows: NDArray[np.float32]) -> NDArray:
        return (rows - workspace.mean) * workspace.scale if self.standardise else rows


def _fresh(model: Any, params: Mapping[str, Any], seed: int) -> Any:
    from sklearn.base import clone

    fresh = clone(model).set_params(**params)
    unseeded = {k: seed for k, v in fresh.get_params().items() if k.endswith("random_state") and v is None}
    return fresh.set_params(**unseeded)


def _predict(model: Any, x: NDArray, data: TaskData, scale: Scale) -> NDArray:
    found = np.asarray(model.predict(x))
    return found.astype(np.int64) if data.task.is_discrete else scale.back(found.astype(np.float64))


def _log_probabilities(model: Any, x: NDArray, classes: int) -> NDArray[np.float64]:
    """[n, classes]; a class that the model has not seen is impossible to it."""
    found = np.zeros((len(x), classes))
    found[:, np.asarray(model.classes_, dtype=np.int64)] = model.predict_proba(x)
    with np.errstate(divide="ignore"):
        return np.log(found)


def enrol(name: str) -> None:
    """Give the suite the probe that an installed package offers under a name.

    Raises:
        InputError: it cannot be imported, or is no probe.
    """
    offered = plugins.load("probes", name)
    if offered is None or name in suite.FITS:
        return
    fit, plugin = offered
    if isinstance(fit, type) or not callable(fit):
        raise plugin.unusable("is no function of a workspace, a task's data and a protocol, such as an EstimatorProbe")
    suite.add_probe(name, partial(_checked, fit, plugin), classes_only=getattr(fit, "classes_only", False))


def _checked(fit: Any, plugin: plugins.Plugin, workspace: Workspace, data: TaskData, protocol: Protocol) -> Outcome:
    """The outcome of a plug-in's probe, if it is one; its status names the package."""
    outcome = fit(workspace, data, protocol)
    if not isinstance(outcome, Outcome):
        raise plugin.unusable(f"returned a {type(outcome).__name__}, not a reprkit.analysis.probes.Outcome")
    wanted, test = len(data.y["test"]), np.asarray(outcome.test)
    if test.shape[-1:] != (wanted,) or test.ndim not in (1, 2):
        raise plugin.unusable(f"predicted {test.shape} of {wanted} test samples")
    if data.task.is_discrete and not (
        test.dtype.kind in "iu" and np.isin(test, np.arange(data.task.num_outputs)).all()
    ):
        raise plugin.unusable(f"predicted what is no class index of task '{data.task.name}'")
    return replace(outcome, remarks=(*outcome.remarks, f"probe of {plugin.package}"))
