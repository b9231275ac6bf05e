"""Losses for long-tailed detection, each usable alone: ``ECM(ClassStats.from_coco(path))(logits, labels)``."""

from detloss.losses.acsl import ACSL
from detloss.losses.alrp import ALRP
from detloss.losses.ap_loss import APLoss
from detloss.losses.bags import BAGS
from detloss.losses.base import BoxLoss, ClassLoss, ClassPlusBox, DetectionLoss
from detloss.losses.binary_cross_entropy import BinaryCrossEntropy
from detloss.losses.box import L1, GIoU, SmoothL1
from detloss.losses.class_weights import ClassBalanced, ClassBalancedFocal, GeneralizedReweight
from detloss.losses.coder import ClassCoder
from detloss.losses.cross_entropy import CrossEntropy
from detloss.losses.dr import DR
from detloss.losses.droploss import DropLoss
from detloss.losses.ecm import ECM, FocalECM
from detloss.losses.efl import EFL
from detloss.losses.eql import EQL
from detloss.losses.eqlv2 import EQLv2
from detloss.losses.federated import Federated
from detloss.losses.focal import Focal
from detloss.losses.gol import GOL
from detloss.losses.iif import IIF
from detloss.losses.ldam import LDAM
from detloss.losses.loce import LOCE
from detloss.losses.logit_adjustment import LogitAdjustment
from detloss.losses.ndcg import NDCG
from detloss.losses.quality_focal import QualityFocal
from detloss.losses.rank_sort import RankSort
from detloss.losses.samples import Samples
from detloss.losses.seesaw import Seesaw
from detloss.losses.varifocal import Varifocal

__all__ = [
    "ACSL",
    "ALRP",
    "BAGS",
    "DR",
    "ECM",
    "EFL",
    "EQL",
    "GOL",
    "IIF",
    "L1",
    "LDAM",
    "LOCE",
    "NDCG",
    "APLoss",
    "BinaryCrossEntropy",
    "BoxLoss",
    "ClassBalanced",
    "ClassBalancedFocal",
    "ClassCoder",
    "ClassLoss",
    "ClassPlusBox",
    "CrossEntropy",
    "DetectionLoss",
    "DropLoss",
    "EQLv2",
    "Federated",
    "Focal",
    "FocalECM",
    "GIoU",
    "GeneralizedReweight",
    "LogitAdjustment",
    "QualityFocal",
    "RankSort",
    "Samples",
    "Seesaw",
    "SmoothL1",
    "Varifocal",
]
