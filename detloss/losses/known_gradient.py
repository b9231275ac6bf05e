"""A loss whose gradient was found together with its value, as an autograd node."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def with_gradient(logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return ``value``, a scalar, with derivative ``gradient`` with respect to ``logits`` (same shape).

    It can be differentiated once. Nothing but ``gradient`` is kept for the backward pass.
    """
    result: Tensor = _KnownGradient.apply(logits, value, gradient)
    return result


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)  # type: ignore[attr-defined]
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * output_gradient[0], None, None
