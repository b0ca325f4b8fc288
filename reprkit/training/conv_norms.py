"""The squared gradient norm of any one head, without the gradients of its wide convolutions.

A convolution of T taps turns patches X [P, T I] into outputs at P = B h w positions. With delta [P, O], the loss's
derivative with respect to the outputs,

    dL/dW = delta' X,    ||dL/dW||^2 = <delta delta', K>,    K = X X' = sum over taps t of (Z Z')[p + t, q + t].

K [P, P] is a sum of shifted copies of the Gram matrix of the inputs Z. That of the representation itself is formed
once and shared by all heads (an ASPP head's first layers hold most of its cost), and neither dL/dW nor the two
convolutions of its derivative are. Where this does not pay (see `gram_pays`), and for all other parameters, the
gradient is taken as it is, with a graph. Taps that only ever meet padding (rates beyond the map's size) have no
gradient and are left out of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

GRAM_BYTES = 64 << 20
"""Most bytes of one [P, P] matrix: 4096 positions in float32. The first layers of ASPP heads keep up to eight."""

Offsets = tuple[int, ...]


def gram_pays(positions: int, inputs: int, outputs: int, taps: int, *, shared: bool, itemsize: int = 4) -> bool:
    """Whether the Gram form of a convolution costs fewer multiply-adds than the gradient, within `GRAM_BYTES`.

    The gradient costs its own convolution and, in the backward pass, two more. The Gram form costs K delta and
    delta delta', and where K is this head's alone also its two products with the inputs.

    Args:
        positions: P = B h w.
        inputs, outputs: channels.
        taps: that meet the map.
        shared: K is that of the representation.
        itemsize: bytes a number.
    """
    gradient = 3 * taps * positions * inputs * outputs
    gram = 2 * positions**2 * (outputs if shared else outputs + inputs)
    return gram < gradient and positions**2 * itemsize <= GRAM_BYTES


class Kernels:
    """The matrices K of the maps of a representation, shared by all heads.

    Heads see each as a leaf; what flows into it is kept until `backward` sends it on to the maps at once.

    Args:
        maps: leaves, [B, C, h, w] each (others are never asked for).
    """

    def __init__(self, maps: tuple[Tensor, ...]) -> None:
        self.maps = maps
        self._grams: dict[int, Tensor] = {}
        self._shared: dict[tuple[int, Offsets, Offsets], tuple[Tensor, Tensor]] = {}

    def __contains__(self, inputs: Tensor) -> bool:
        return any(inputs is x for x in self.maps)

    def of(self, inputs: Tensor, rows: Offsets, columns: Offsets) -> Tensor:
        """K of one of the maps for the taps at these offsets: a leaf."""
        key = (id(inputs), rows, columns)
        if key not in self._shared:
            if id(inputs) not in self._grams:
                self._grams[id(inputs)] = _gram(inputs)
            kernel = _shifted(self._grams[id(inputs)], inputs, rows, columns)
            self._shared[key] = (kernel, kernel.detach().requires_grad_())
        return self._shared[key][1]

    @property
    def leaves(self) -> list[Tensor]:
        """The maps and all K so far: what heads may depend on."""
        return [*self.maps, *(leaf for _, leaf in self._shared.values())]

    def backward(self) -> None:
        """Add what has flowed into the K to the maps' `.grad`."""
        pairs = [(kernel, leaf.grad) for kernel, leaf in self._shared.values() if leaf.grad is not None]
        if pairs:
            torch.autograd.backward([k for k, _ in pairs], [g for _, g in pairs], inputs=list(self.maps))


def squared_norm(
    head: nn.Module,
    z: tuple[Tensor, ...],
    loss: Callable[[Any], Tensor],
    kernels: Kernels | None = None,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """||grad of loss(head(z)) w.r.t. all parameters of the head||^2, with a graph that ends at `z` and `kernels`.

    Args:
        head: any module whose output is a function of `z` and its parameters; it takes the tuple if there are several.
        z: the maps of `kernels`.
        loss: of the head's output.
        kernels: None means that every gradient is formed.
        mean: applied to each gradient before its norm is taken: the mean over the ranks of a distributed run. The
            Gram matrices know one rank's positions only, so that it goes with `kernels=None`.
    """
    parameters = parameters_of(head)
    names: set[str] = set(parameters) if kernels is not None else set()
    while True:
        convolutions = _Convolutions({name: parameters[name] for name in names}, kernels)
        with convolutions:
            output = call(head, parameters, z)
        sites = convolutions.sites
        found = torch.autograd.grad(
            loss(output), [*parameters.values(), *(y for y, _ in sites.values())], create_graph=True, allow_unused=True
        )
        gradients = dict(zip(parameters, found, strict=False))
        deltas = dict(zip(sites, found[len(parameters) :], strict=True))
        # A weight that serves elsewhere too has cross terms, which the Gram form of one convolution does not see.
        elsewhere = {name for name in sites if gradients[name] is not None}
        if not elsewhere:
            break
        names -= elsewhere
    formed = [g if mean is None else mean(g) for g in gradients.values() if g is not None]
    terms = [(g**2).sum() for g in formed]
    terms += [_quadratic(delta, sites[name][1]) for name, delta in deltas.items() if delta is not None]
    return torch.stack(terms).sum()


def parameters_of(head: nn.Module) -> dict[str, Tensor]:
    """Fresh leaves with the values of a head's parameters."""
    return {name: p.detach().requires_grad_() for name, p in head.named_parameters()}


def call(head: nn.Module, parameters: Mapping[str, Tensor], z: tuple[Tensor, ...]) -> Any:
    """The output of a head with other parameters; it takes the tuple of maps if there are several."""
    return functional_call(head, dict(parameters), (z if len(z) > 1 else z[0],))


class _Convolutions(TorchFunctionMode):
    """Runs a head's convolutions without taps that meet padding alone, and notes those that take the Gram form.

    Attributes:
        sites: name of a weight -> its convolution's outputs, and K of its inputs.
    """

    def __init__(self, weights: Mapping[str, Tensor], kernels: Kernels | None) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in weights.items()}
        self.kernels = kernels
        self.sites: dict[str, tuple[Tensor, Tensor]] = {}
        self._grams: dict[int, tuple[Tensor, Tensor]] = {}  # with the inputs, so that no id is used again

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d:
            return self._conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _conv2d(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if inputs.ndim != 4 or groups != 1 or not _keeps_size(weight, stride, padding, dilation):
            return torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)
        kernel = tuple(weight.shape[2:])
        rows, columns = (_live(*axis) for axis in zip(inputs.shape[2:], kernel, _pair(dilation), strict=True))
        name = self.names.get(id(weight))
        gram = name is not None and name not in self.sites and self._pays(inputs, weight, len(rows) * len(columns))
        if gram:
            weight = weight.detach()
        if (len(rows), len(columns)) != kernel:
            weight = _middle(_middle(weight, 2, len(rows)), 3, len(columns)).contiguous()
            padding = (max(rows), max(columns))
        outputs = torch.conv2d(inputs, weight, bias, stride, padding, dilation)
        if gram:
            assert name is not None
            self.sites[name] = (outputs, self._kernel(inputs, rows, columns))
        return outputs

    def _pays(self, inputs: Tensor, weight: Tensor, taps: int) -> bool:
        shared = self.kernels is not None and inputs in self.kernels
        positions = inputs.numel() // inputs.shape[1]
        return gram_pays(
            positions, weight.shape[1], weight.shape[0], taps, shared=shared, itemsize=inputs.element_size()
        )

    def _kernel(self, inputs: Tensor, rows: Offsets, columns: Offsets) -> Tensor:
        if self.kernels is not None and inputs in self.kernels:
            return self.kernels.of(inputs, rows, columns)
        if id(inputs) not in self._grams:
            self._grams[id(inputs)] = (inputs, _gram(inputs))
        return _shifted(self._grams[id(inputs)][1], inputs, rows, columns)


def _keeps_size(weight: Tensor, stride: Any, padding: Any, dilation: Any) -> bool:
    if isinstance(padding, str):
        return False
    axes = zip(weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation), strict=True)
    return all(k % 2 and s == 1 and p == d * (k // 2) for k, s, p, d in axes)


def _pair(x: Any) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else tuple(x)


def _live(size: int, kernel: int, dilation: int) -> Offsets:
    """Offsets of the taps that meet a map of this size somewhere."""
    half = kernel // 2
    return tuple(i * dilation for i in range(-half, half + 1) if abs(i * dilation) < size)


def _middle(weight: Tensor, axis: int, taps: int) -> Tensor:
    return weight.narrow(axis, (weight.shape[axis] - taps) // 2, taps)


def _as_rows(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [P, C]."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """[P, C] -> [B, C, h, w] of the size of `like`."""
    return rows.view(like.shape[0], *like.shape[2:], -1).movedim(-1, 1)


def _gram(x: Tensor) -> Tensor:
    return _Gram.apply(x)


def _shifted(gram: Tensor, inputs: Tensor, rows: Offsets, columns: Offsets) -> Tensor:
    if rows == columns == (0,):
        return gram
    size = (inputs.shape[0], *inputs.shape[2:])
    return _ShiftedSum.apply(gram, size, rows, columns)


def _quadratic(delta: Tensor, kernel: Tensor) -> Tensor:
    return _Quadratic.apply(delta, kernel)


class _Gram(Function):
    """Z Z' of a map [B, C, h, w]: [P, P]. Its cotangents are symmetric: they come from `_Quadratic`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        rows = _as_rows(x)
        return rows @ rows.T

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _as_map((2 * slopes[0]) @ _as_rows(x), x)


class _ShiftedSum(Function):
    """sum over offsets t of G[p + t, q + t]. Offsets come with their opposites, so that it is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, gram: Tensor, size: tuple[int, int, int], rows: Offsets, columns: Offsets) -> Tensor:
        ctx.how = (size, rows, columns)
        return _shifted_sum(gram, *ctx.how)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _shifted_sum(slopes[0], *ctx.how), None, None, None


def _shifted_sum(gram: Tensor, size: tuple[int, int, int], rows: Offsets, columns: Offsets) -> Tensor:
    grid = gram.view(*size, *size)
    total = torch.zeros_like(grid)
    for dy in rows:
        here_y, there_y = _overlap(size[1], dy)
        for dx in columns:
            here_x, there_x = _overlap(size[2], dx)
            total[:, here_y, here_x, :, here_y, here_x] += grid[:, there_y, there_x, :, there_y, there_x]
    return total.view_as(gram)


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """Positions p for which p + offset is on the map, and the latter."""
    first, last = max(0, -offset), size - max(0, offset)
    return slice(first, last), slice(first + offset, last + offset)


class _Quadratic(Function):
    """<delta delta', K> of a symmetric K [P, P] and delta [B, O, h, w]."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, kernel: Tensor) -> Tensor:
        rows = _as_rows(delta)
        product = kernel @ rows
        ctx.save_for_backward(delta, product)
        return (rows * product).sum()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor | None]:
        delta, product = ctx.saved_tensors
        rows = _as_rows(delta)
        outer = (slopes[0] * rows) @ rows.T if ctx.needs_input_grad[1] else None
        return _as_map(2 * slopes[0] * product, delta), outer
