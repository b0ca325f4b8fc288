"""The record of one task, and what may be asked of it.

Everything that trains, measures or stores a task asks this package, so that one rule holds everywhere: a target that
is missing (-1 for class indices, NaN for real values) takes no part in any loss or score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from reprkit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.tasks.scores import Scores

Kind = Literal[
    "classification", "ordinal", "regression",
    "segmentation", "depth", "disparity", "normals", "saliency", "edges",
]  # fmt: skip
"""What is predicted: of an image (`ordinal` is trained and probed as classification; its class order adds order-aware
scores), or, from `segmentation` on, of every pixel."""

VECTOR_KINDS = ("classification", "ordinal", "regression")
"""Kinds whose targets are one an image."""

DENSE_KINDS = ("segmentation", "depth", "disparity", "normals", "saliency", "edges")
"""Kinds whose targets are labelled pixel by pixel."""

MISSING_CLASS = -1
"""The class index that means "no label"; real-valued targets use NaN."""

_CLASSES = ("classification", "ordinal", "segmentation")
_BINARY = ("saliency", "edges")
_OUTPUTS = {"depth": 1, "disparity": 1, "normals": 3, "saliency": 1, "edges": 1}


@dataclass(frozen=True)
class Task:
    """One task: a named target and the head that predicts it.

    Targets are [N] for an image's label. Dense ones are [N, H, W]: class indices (segmentation), 0 or 1 (saliency,
    edges), metres (depth) or pixels (disparity); normals are unit vectors [N, 3, H, W].

    Attributes:
        name: identifier, used for columns, files and heads.
        kind: see `Kind`.
        num_outputs: number of classes; 1 for regression, depth, disparity, saliency and edges; 3 for normals.
        classes: class names in index order; empty where there are no classes, or unnamed ones.
        unit: unit of a real-valued target, for axis labels.
        mean, std: standardisation of a regression target, from the training split; heads predict
            `(target - mean) / std`. Heads of depth and disparity predict the target itself.
        weight: factor of the loss: a data set's convention on what its losses are worth beside each other.
    """

    name: str
    kind: Kind
    num_outputs: int
    classes: tuple[str, ...] = field(default=())
    unit: str = ""
    mean: float = 0.0
    std: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"task '{self.name}': kind '{self.kind}' is not one of {', '.join(get_args(Kind))}")
        if self.num_outputs < 1 or (self.kind in _CLASSES and self.num_outputs < 2):
            raise InputError(
                f"task '{self.name}' has {self.num_outputs} class: nothing to learn; drop it or merge other labels"
            )
        if self.num_outputs != _OUTPUTS.get(self.kind, self.num_outputs):
            raise InputError(
                f"task '{self.name}': {self.kind} has {_OUTPUTS[self.kind]} outputs, not {self.num_outputs}"
            )
        if self.classes and self.kind in _CLASSES and len(self.classes) != self.num_outputs:
            raise InputError(f"task '{self.name}': {len(self.classes)} class names for {self.num_outputs} outputs")
        if self.kind in _BINARY and len(self.classes) not in (0, 2):
            raise InputError(f"task '{self.name}': {len(self.classes)} class names; {self.kind} has two, no and yes")
        if not 0 < self.weight < float("inf"):
            raise InputError(f"task '{self.name}': weight {self.weight} is not a positive number")

    @property
    def is_dense(self) -> bool:
        """True if every pixel has a target."""
        return self.kind in DENSE_KINDS

    @property
    def is_discrete(self) -> bool:
        """True if targets are class indices."""
        return self.kind in _CLASSES or self.kind in _BINARY

    @property
    def metric(self) -> str:
        """Name of the headline score."""
        from reprkit.tasks.scores import HEADLINES

        return HEADLINES[self.kind]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the headline score."""
        from reprkit.tasks.scores import LOWER_IS_BETTER

        return self.metric not in LOWER_IS_BETTER

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, or their indices as text where they are unnamed."""
        return self.classes or tuple(str(i) for i in range(max(self.num_outputs, 2 * (self.kind in _BINARY))))

    def valid(self, targets: Any) -> Any:
        """Boolean mask of the targets that exist, for a Tensor or an array: [N], or [N, H, W] for dense tasks.

        An infinite depth, disparity or component of a normal is none: it cannot be learnt.
        """
        if self.is_discrete:
            return targets != MISSING_CLASS
        if not self.is_dense:
            return targets == targets  # NaN differs from itself
        known = abs(targets) < float("inf")
        return known.all(1) if self.kind == "normals" else known

    def loss(self, outputs: Tensor, targets: Tensor, count: float | None = None) -> Tensor:
        """Mean loss over the valid targets of a batch, times `weight`; exactly 0 (with a graph) if there are none.

        Cross-entropy in nats for classes; squared error of the standardised target for regression; for the other
        dense kinds see `reprkit.tasks.dense`. Dense outputs of another resolution than the targets' are resized to it,
        bilinearly. Outputs of 16 bits are widened to float32 first.

        Args:
            outputs: [B, num_outputs] logits or standardised predictions; [B, num_outputs, h, w] for dense tasks.
            targets: [B] int64 class indices, or float targets in their own unit; dense ones as in `Task`.
            count: what the sum over samples (pixels) is divided by (0 counts as 1), where these are only part of a
                batch; None means the number of valid targets.
        """
        from torch.nn import functional as F

        outputs, valid = widened(outputs), self.valid(targets)
        divisor = valid.sum().clamp(min=1) if count is None else count or 1
        if self.is_dense:
            from reprkit.tasks.dense import loss_sum

            return self.weight * loss_sum(self.kind, outputs, targets, valid) / divisor
        if self.is_discrete:
            total = F.cross_entropy(outputs, targets, ignore_index=MISSING_CLASS, reduction="sum")
            return self.weight * total / divisor
        standard = ((targets - self.mean) / self.std).nan_to_num().to(outputs.dtype)[:, None]
        return self.weight * ((outputs - standard) ** 2 * valid[:, None]).sum() / divisor

    def residual(self, outputs: Tensor, targets: Tensor, count: float | None = None) -> Tensor:
        """Derivative of `loss` with respect to `outputs`, as a differentiable expression; not for dense tasks.

        Args:
            outputs: [..., B, num_outputs]; leading dimensions are independent predictors on the same batch.
            targets: [B], as in `loss`.
            count: as in `loss`.

        Returns:
            A tensor of the shape of `outputs`.
        """
        from torch.nn import functional as F

        if self.is_dense:
            raise TypeError(f"task '{self.name}': {self.kind} has no closed residual; differentiate its loss")
        valid = self.valid(targets)
        divisor = valid.sum().clamp(min=1) if count is None else count or 1
        share = (self.weight * valid.to(outputs.dtype) / divisor)[:, None]
        if self.is_discrete:
            one_hot = F.one_hot(targets.clamp(min=0), self.num_outputs).to(outputs.dtype)
            return (outputs.softmax(-1) - one_hot) * share
        standard = ((targets - self.mean) / self.std).nan_to_num().to(outputs.dtype)[:, None]
        return 2 * (outputs - standard) * share

    def new_scores(self) -> Scores:
        """An empty account of outputs beside targets, to be filled batch by batch; see `Scores`."""
        from reprkit.tasks.scores import scores_of

        return scores_of(self)

    def skill(self, metrics: Mapping[str, float]) -> float:
        """One number by which epochs are compared: at most 1, higher is better whatever the task's direction.

        The headline score where higher is better; 1 - relative error for depth and disparity; 1 - mean angle / 90
        degrees for normals.

        Args:
            metrics: what `Scores.compute` gave.
        """
        if self.kind in ("depth", "disparity"):
            return 1 - metrics["rel_error"]
        if self.kind == "normals":
            return 1 - metrics["mean_angle"] / 90
        return metrics[self.metric]

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON types; `from_json` reads it back."""
        record = {**asdict(self), "classes": list(self.classes)}
        if self.weight == 1:  # as it always was
            record.pop("weight")
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Task:
        """Read a record written by `to_json`; unknown fields of newer versions are ignored.

        Raises:
            InputError: a record that lacks a field, or whose values do not fit together.
        """
        known = {k: record[k] for k in cls.__dataclass_fields__ if k in record}
        try:
            return cls(**{**known, "classes": tuple(known.get("classes", ()))})
        except TypeError as error:
            raise InputError(f"not a task record: {dict(record)!r} ({error})") from None


def widened(x: Tensor) -> Tensor:
    """At least float32, whatever autocast made of it."""
    return x if x.is_floating_point() and x.element_size() >= 4 else x.float()
