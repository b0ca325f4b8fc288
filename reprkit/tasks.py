"""What a task is: its kind, the size of its output, its loss, and which label values count.

Everything that trains, measures or stores a task asks this module, so that one rule holds everywhere:
a target that is missing (-1 for class indices, NaN for real values) takes no part in any loss or score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from reprkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Kind = Literal["classification", "ordinal", "regression"]
"""`ordinal` is trained and probed as classification; its class order adds order-aware scores."""

MISSING_CLASS = -1
"""The class index that means "no label"; regression targets use NaN."""


@dataclass(frozen=True)
class Task:
    """One task: a named target and the head that predicts it.

    Attributes:
        name: identifier, used for columns, files and heads.
        kind: `classification`, `ordinal` or `regression`.
        num_outputs: number of classes, or of real values (1) for regression.
        classes: class names in index order; empty for regression or when unnamed.
        unit: unit of a regression target, for axis labels.
        mean, std: standardisation of a regression target, from the training split; heads predict
            `(target - mean) / std`.
    """

    name: str
    kind: Kind
    num_outputs: int
    classes: tuple[str, ...] = field(default=())
    unit: str = ""
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"task '{self.name}': kind '{self.kind}' is not one of {', '.join(get_args(Kind))}")
        if self.num_outputs < 1 or (self.is_discrete and self.num_outputs < 2):
            raise InputError(
                f"task '{self.name}' has {self.num_outputs} class: nothing to learn; drop it or merge other labels"
            )
        if self.classes and len(self.classes) != self.num_outputs:
            raise InputError(f"task '{self.name}': {len(self.classes)} class names for {self.num_outputs} outputs")

    @property
    def is_discrete(self) -> bool:
        """True if targets are class indices."""
        return self.kind != "regression"

    @property
    def metric(self) -> str:
        """Name of the headline score: `accuracy`, or `r2` for regression. Higher is better for both."""
        return "accuracy" if self.is_discrete else "r2"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, or their indices as text where they are unnamed."""
        return self.classes or tuple(str(i) for i in range(self.num_outputs))

    def valid(self, targets: Any) -> Any:
        """Boolean mask of the targets that exist, for a Tensor or an array of shape [N]."""
        return targets != MISSING_CLASS if self.is_discrete else targets == targets  # NaN differs from itself

    def loss(self, outputs: Tensor, targets: Tensor, count: float | None = None) -> Tensor:
        """Mean loss over the valid targets of a batch; exactly 0 (with a graph) if there are none.

        Cross-entropy in nats for classes; squared error of the standardised target for regression.

        Args:
            outputs: [B, num_outputs] logits or standardised predictions.
            targets: [B] int64 class indices, or float targets in their own unit.
            count: what the sum over samples is divided by (0 counts as 1), where these are only part of a batch;
                None means the number of valid targets.
        """
        from torch.nn import functional as F

        valid = self.valid(targets)
        divisor = valid.sum().clamp(min=1) if count is None else count or 1
        if self.is_discrete:
            return F.cross_entropy(outputs, targets, ignore_index=MISSING_CLASS, reduction="sum") / divisor
        standard = ((targets - self.mean) / self.std).nan_to_num().to(outputs.dtype)[:, None]
        return ((outputs - standard) ** 2 * valid[:, None]).sum() / divisor

    def residual(self, outputs: Tensor, targets: Tensor, count: float | None = None) -> Tensor:
        """Derivative of `loss` with respect to `outputs`, as a differentiable expression.

        Args:
            outputs: [..., B, num_outputs]; leading dimensions are independent predictors on the same batch.
            targets: [B], as in `loss`.
            count: as in `loss`.

        Returns:
            A tensor of the shape of `outputs`.
        """
        from torch.nn import functional as F

        valid = self.valid(targets)
        share = (valid.to(outputs.dtype) / (valid.sum().clamp(min=1) if count is None else count or 1))[:, None]
        if self.is_discrete:
            one_hot = F.one_hot(targets.clamp(min=0), self.num_outputs).to(outputs.dtype)
            return (outputs.softmax(-1) - one_hot) * share
        standard = ((targets - self.mean) / self.std).nan_to_num().to(outputs.dtype)[:, None]
        return 2 * (outputs - standard) * share

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Headline score of model outputs [N, num_outputs] on targets [N]; NaN if no target is valid."""
        valid = self.valid(targets)
        if not valid.any():
            return float("nan")
        truth = targets[valid]
        if self.is_discrete:
            return float((outputs[valid].argmax(1) == truth).mean())
        predicted = outputs[valid, 0] * self.std + self.mean
        spread = ((truth - truth.mean()) ** 2).sum()
        return float(1 - ((truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON types; `from_json` reads it back."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Task:
        """Read a record written by `to_json`; unknown fields of newer versions are ignored."""
        known = {k: record[k] for k in cls.__dataclass_fields__ if k in record}
        try:
            return cls(**{**known, "classes": tuple(known.get("classes", ()))})
        except TypeError as error:
            raise InputError(f"not a task record: {dict(record)!r} ({error})") from None
