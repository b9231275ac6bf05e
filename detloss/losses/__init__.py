"""Losses for long-tailed detection, each usable alone: ``ECM(ClassStats.from_coco(path))(logits, labels)``."""

from detloss.losses.base import BoxLoss, ClassLoss, ClassPlusBox, DetectionLoss
from detloss.losses.binary_cross_entropy import BinaryCrossEntropy
from detloss.losses.box import L1, GIoU, SmoothL1
from detloss.losses.coder import ClassCoder
from detloss.losses.cross_entropy import CrossEntropy
from detloss.losses.ecm import ECM, FocalECM
from detloss.losses.focal import Focal
from detloss.losses.samples import Samples

__all__ = [
    "ECM",
    "L1",
    "BinaryCrossEntropy",
    "BoxLoss",
    "ClassCoder",
    "ClassLoss",
    "ClassPlusBox",
    "CrossEntropy",
    "DetectionLoss",
    "Focal",
    "FocalECM",
    "GIoU",
    "Samples",
    "SmoothL1",
]
