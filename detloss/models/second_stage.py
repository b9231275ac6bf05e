"""What the second stage of decoupled learning puts on a frozen classifier: scales, or DisAlign's alignment."""

import torch
from torch import Tensor, nn

from detloss.losses.coder import ClassCoder


class LearnableScaling(nn.Module):
    """The classifier's logits, each times a learnt scale (LWS; Kang et al., ICLR 2020, section 4).

    Scales start at 1. The paper scales a class's weight vector; so is its bias here, with the logit.
    """

    def __init__(self, classifier: nn.Module, coder: ClassCoder) -> None:
        super().__init__()
        self.classifier = classifier
        self.scale = nn.Parameter(torch.ones(coder.num_logits))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return self.scale * logits


class DisAlign(nn.Module):
    """The classifier's logits, those of the classes aligned by the network's confidence.

    z'_c = s(x) (scale_c z_c + bias_c) + (1 - s(x)) z_c with s(x) = sigmoid(v . x + b), the adaptive calibration
    function of Zhang et al. (CVPR 2021), written as z_c + s(x) ((scale_c - 1) z_c + bias_c), which is the same and
    exactly z_c at the start, where scales are 1 and biases 0. Background keeps its logit (authors' code).
    """

    columns: Tensor

    def __init__(self, classifier: nn.Module, coder: ClassCoder, in_features: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.scale = nn.Parameter(torch.ones(coder.num_classes))
        self.bias = nn.Parameter(torch.zeros(coder.num_classes))
        self.confidence = nn.Linear(in_features, 1)
        nn.init.normal_(self.confidence.weight, std=0.01)  # authors' code
        nn.init.zeros_(self.confidence.bias)
        self.register_buffer("columns", coder.class_columns, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        confidence = self.confidence(features).sigmoid()
        change = confidence * ((self.scale - 1) * logits[:, self.columns] + self.bias)
        return logits.to(change.dtype).index_add(1, self.columns, change)
