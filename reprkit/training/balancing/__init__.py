"""Gradient and loss balancing: how the losses of several tasks become one update.

Three shapes: weights from the losses (one backward); weights from the K x K Gramian of the tasks' gradients; and the
full Jacobian. One scale: K identical tasks give exactly the update of their plain sum, for every method (for those
that learn weights, before they have learnt any).

The functions here are pure, from a Gramian G [K, K] to weights [K]; `build_method` makes what the trainer uses of them.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from reprkit import plugins
from reprkit.errors import InputError
from reprkit.recipe import METHODS, BalancingConfig, add_method_name
from reprkit.training.balancing.auto_lambda import AutoLambda
from reprkit.training.balancing.cagrad import cagrad
from reprkit.training.balancing.dwa import DWA
from reprkit.training.balancing.graddrop import graddrop
from reprkit.training.balancing.gradnorm import GradNorm
from reprkit.training.balancing.imtl_g import imtl_g
from reprkit.training.balancing.imtl_l import IMTLL
from reprkit.training.balancing.jacobian import GradDrop, GramianMethod, PCGrad, Weighting
from reprkit.training.balancing.method import Method, Weighted
from reprkit.training.balancing.mgda import mgda
from reprkit.training.balancing.nash_mtl import nash_mtl
from reprkit.training.balancing.pcgrad import pcgrad
from reprkit.training.balancing.uncertainty import Uncertainty

__all__ = [
    "Method", "Weighting", "build_method", "cagrad", "graddrop", "imtl_g", "mgda", "nash_mtl", "pcgrad", "register",
]  # fmt: skip

_registered: dict[str, Weighting] = {}


def register(name: str, weighting: Weighting) -> None:
    """Let recipes use `weighting`, any callable from a float64 Gramian [K, K] to weights [K], as the method `name`.

    torchjd's Weightings work unchanged. Their scale is their own: where they give a mean, the encoder's step is K times
    shorter than the other methods'. Every encoder trains with a copy; its memory is saved, so that a run that was
    stopped goes on to the same bits, if it is an `nn.Module` that keeps it in buffers. Packages can offer methods by
    entry points of the group `reprkit.methods` instead.

    Raises:
        InputError: a name of reprkit's own, or one that could not stand in a recipe.
    """
    add_method_name(name)
    _registered[name] = weighting


def build_method(name: str, config: BalancingConfig, num_tasks: int, seed: int) -> Method:
    """The method `name` (without additions) for K tasks.

    Args:
        name: one of `reprkit.recipe.METHODS`, or a registered or installed one.
        config: its options.
        num_tasks: K.
        seed: of its random draws.

    Raises:
        InputError: unknown name.
    """
    if name in METHODS:
        plugins.refuse_taken("methods", name)
    c, k = config, num_tasks
    gramian: dict[str, Any] = {
        "level": c.level, "update_every": c.update_every, "weight_heads": c.weight_heads, "num_tasks": k
    }  # fmt: skip
    match name:
        case "single" | "vanilla":
            return Weighted()
        case "uncertainty":
            return Uncertainty(k)
        case "dwa":
            return DWA(k, c.temperature)
        case "imtl_l":
            return IMTLL(k)
        case "gradnorm":
            return GradNorm(k, c.alpha)
        case "auto_lambda":
            return AutoLambda(k, meta_lr=c.meta_lr, lagged=c.lagged)
        case "pcgrad":
            return GramianMethod(PCGrad(seed), **gramian)
        case "cagrad":
            return GramianMethod(partial(cagrad, c=c.c), **gramian)
        case "imtl":
            return GramianMethod(imtl_g, **gramian)
        case "nash_mtl":
            return GramianMethod(nash_mtl, **gramian)
        case "mgda":
            return GramianMethod(partial(mgda, normalise=c.normalise), wants_losses=True, **gramian)
        case "graddrop":
            return GradDrop(c.level, c.leak, seed)
    return GramianMethod(copy.deepcopy(_external(name)), **gramian)


def _external(name: str) -> Weighting:
    if name in _registered:
        return _registered[name]
    offered = plugins.load("methods", name)
    if offered is None:
        raise InputError(f"method '{name}' is not known here; call reprkit.training.balancing.register first")
    weighting, plugin = offered
    if isinstance(weighting, type) or not callable(weighting):
        raise plugin.unusable("is no function (or module) from a Gramian [K, K] to weights [K]")
    return weighting
