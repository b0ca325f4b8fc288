"""From a `ModelConfig` to a model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reprkit.errors import InputError
from reprkit.models.aspp import ASPPHead
from reprkit.models.encoders import DenseResNet, build_encoder
from reprkit.models.heads import LinearHead, MLPHead
from reprkit.models.model import Model
from reprkit.models.mtan import MTAN, AttentionHead, stage_widths
from reprkit.models.split import Split
from reprkit.recipe import ModelConfig
from reprkit.tasks import Task


class PooledHead(nn.Module):
    """The head of an image's label on a feature map: its mean over positions, then a vector head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, z: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, C]."""
        return self.head(z.mean((2, 3)))


def build_model(config: ModelConfig, tasks: Sequence[Task], in_channels: int) -> Model:
    """A freshly initialised model; draws from torch's global generator.

    Args:
        config: encoder, structure and head settings; `config.weights` is not loaded here.
        tasks: the tasks to predict; if any is dense, the encoder gives a feature map.
        in_channels: image channels.

    Raises:
        InputError: a structure that the encoder or the tasks do not allow.
    """
    dense = any(task.is_dense for task in tasks)
    if config.structure == "mtan" and not (dense and config.encoder in ("resnet18", "resnet50")):
        raise InputError("model.structure: mtan attends to maps of resnet18 or resnet50, for dense tasks; use split")
    encoder, dim = build_encoder(config.encoder, in_channels, dense=dense)
    heads = {task.name: _head(config, task, dim, dense) for task in tasks}
    if config.structure == "split":
        return Split(encoder, dim, heads)
    assert isinstance(encoder, DenseResNet)
    widths = stage_widths(encoder)
    return MTAN(encoder, dim, {name: AttentionHead(widths, head) for name, head in heads.items()})


def _head(config: ModelConfig, task: Task, dim: int, dense: bool) -> nn.Module:
    if task.is_dense:
        return ASPPHead(dim, task.num_outputs, config.head_channels, config.head_rates)
    hidden = config.head_hidden
    vector = MLPHead(dim, task.num_outputs, hidden) if hidden else LinearHead(dim, task.num_outputs)
    return PooledHead(vector) if dense else vector
