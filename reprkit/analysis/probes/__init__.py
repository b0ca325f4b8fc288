"""Supervised probes of frozen embeddings: how much of each task a simple predictor reads from them."""

from __future__ import annotations

from reprkit.analysis.probes.external import EstimatorProbe
from reprkit.analysis.probes.outcome import Outcome
from reprkit.analysis.probes.protocol import Protocol
from reprkit.analysis.probes.spread import probe_many
from reprkit.analysis.probes.suite import ProbeResult, probe, probe_with_predictions
from reprkit.recipe import PROBES

__all__ = [
    "PROBES", "EstimatorProbe", "Outcome", "ProbeResult", "Protocol", "probe", "probe_many", "probe_with_predictions",
]  # fmt: skip
