"""ResNet with a feature pyramid, with the parameter names of torchvision's detectors."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from detloss.errors import UserError, nearest

DEPTHS = (18, 34, 50, 101, 152)

Norm = Callable[[int], nn.Module]

NORMS: dict[str, Norm] = {
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "frozen": FrozenBatchNorm2d,
    "group": partial(nn.GroupNorm, 32),
}


class ResNetFPN(nn.Module):
    """ResNet (He et al., CVPR 2016) and FPN (Lin et al., CVPR 2017); level l has stride 2**l.

    Levels 2 to 5 are ResNet's stages. Level 6 alone is a max-pool (Faster R-CNN); with 7, both are
    strided convolutions (RetinaNet).
    """

    def __init__(
        self,
        *,
        depth: int,
        levels: Sequence[int],
        channels: int = 256,
        norm: str = "batch",
        weights: str | None = None,
        trainable_layers: int = 5,
    ) -> None:
        """Build the network and load its ImageNet weights.

        Args:
            depth: 18, 34, 50, 101 or 152.
            levels: consecutive pyramid levels out of 2..7.
            channels: of every level.
            norm: one of ``NORMS``.
            weights: ``imagenet``, the path of a torchvision state dict, or None.
            trainable_layers: how many of the stem and four stages learn, counted from the end.

        Raises:
            UserError: unknown depth or norm, weights that cannot be had or do not fit.
        """
        super().__init__()
        if depth not in DEPTHS:
            raise UserError(f"backbone.depth={depth}: expected one of {', '.join(map(str, DEPTHS))}")
        if norm not in NORMS:
            raise UserError(f"backbone.norm={norm}: expected one of {', '.join(NORMS)}{nearest(norm, NORMS)}")
        body = getattr(torchvision.models, f"resnet{depth}")(norm_layer=NORMS[norm])
        if weights is not None:
            load_resnet_weights(body, depth, weights)
        freeze(body, trainable_layers)
        stages = [level for level in levels if level <= 5]
        widths = [body.inplanes // 2 ** (5 - level) for level in stages]
        layers = {f"layer{level - 1}": str(index) for index, level in enumerate(stages)}
        self.body = IntermediateLayerGetter(body, return_layers=layers)
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=extra_levels(levels, channels))
        self.out_channels = channels
        self.stage_names = list(layers.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid, finest level first, of images [B, 3, H, W]."""
        pyramid: dict[str, Tensor] = self.fpn(self.body(images))
        return pyramid


def extra_levels(levels: Sequence[int], channels: int) -> ExtraFPNBlock | None:
    """Return what makes the levels beyond ResNet's last stage."""
    if 7 in levels:
        return LastLevelP6P7(channels, channels)
    return LastLevelMaxPool() if 6 in levels else None


def freeze(body: nn.Module, trainable_layers: int) -> None:
    """Stop the gradients of all but the last ``trainable_layers`` of stem and stages."""
    if not 0 <= trainable_layers <= 5:
        raise UserError(f"backbone.trainable_layers={trainable_layers}: expected 0 to 5")
    trained = ("layer4", "layer3", "layer2", "layer1", "conv1")[:trainable_layers]
    for name, parameter in body.named_parameters():
        stem = name.startswith("bn1") and trainable_layers == 5
        parameter.requires_grad_(stem or name.startswith(trained))


def load_resnet_weights(body: nn.Module, depth: int, weights: str) -> None:
    """Load ImageNet classification weights, by name or from a file, into a ResNet body."""
    if weights == "imagenet":
        source = torchvision.models.get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"]
        state = downloaded(source, option="backbone.weights", otherwise="null backbone.norm=batch")
    else:
        state = read_state_dict(Path(weights), option="backbone.weights")
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    shapes = {name: value.shape for name, value in body.state_dict().items() if not name.startswith("fc.")}
    wrong = {name for name in shapes.keys() | state if name not in state or state[name].shape != shapes.get(name)}
    # Whether BatchNorm counted its batches does not matter to anything.
    wrong = {name for name in wrong if not name.endswith("num_batches_tracked")}
    if wrong:
        raise UserError(
            f"backbone.weights={weights} does not fit ResNet-{depth} with this backbone.norm: "
            f"{', '.join(sorted(wrong)[:3])}{' ...' if len(wrong) > 3 else ''}; try backbone.weights=null"
        )
    body.load_state_dict(state, strict=False)


def downloaded(weights: torchvision.models.WeightsEnum, *, option: str, otherwise: str) -> dict[str, Tensor]:
    """Return torchvision's state dict, from its cache or the network."""
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"could not download {weights} ({reason}); give a local file with {option}=PATH, or none with "
            f"{option}={otherwise}"
        ) from error
    return state


def read_state_dict(path: Path, *, option: str) -> dict[str, Tensor]:
    """Read a file of named tensors without running any code in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{option}={path}: no such file") from error
    except Exception as error:  # whatever torch raises on bytes that are not a state dict
        raise UserError(f"{option}={path}: not a file of tensors that torch.load can read safely") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{option}={path}: expected a state dict (names to tensors)")
    return dict(state)
