"""Masks of the objects in a view, drawn on the grid that the model sees instead of at full size first."""

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from detloss.data.segmentations import Segmentations
from detloss.data.views import Size, View


def draw_masks(segmentations: Segmentations, rows: np.ndarray, view: View) -> Tensor:
    """Return uint8 [G, H, W] of the annotations ``rows`` [G].

    Polygons are scaled and then drawn by pycocotools at the resized image's size, run lengths are decoded and
    resized to the nearest pixel. Where nothing is resized both are pycocotools' masks.
    """
    masks = np.zeros((len(rows), *view.size), dtype=np.uint8)
    for mask, row in zip(masks, rows.tolist(), strict=True):
        polygons = segmentations.polygons(row)
        if polygons:
            _draw_polygons(mask, polygons, view)
        else:
            _resize_runs(mask, segmentations.mask(row, *view.source), view)
    return torch.from_numpy(masks)


def _draw_polygons(mask: np.ndarray, polygons: list[np.ndarray], view: View) -> None:
    """Draw polygons, x and y alternating in pixels of the stored image, into ``mask`` [H, W]."""
    height, width = view.resized
    scale = np.array([width / view.source[1], height / view.source[0]])
    scaled = [polygon.reshape(-1, 2) * scale for polygon in polygons]
    corners = np.concatenate(scaled)
    # Only as much of the grid as the object covers. By whole pixels, which leaves all roundings as they are.
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(np.int64), 0, (width, height)).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(np.int64) + 1, 0, (width, height)).tolist()
    if left >= right or top >= bottom:
        return
    drawn = _pycocotools([(polygon - (left, top)).ravel() for polygon in scaled], (bottom - top, right - left))
    if view.flip:
        drawn, left = drawn[:, ::-1], width - right
    _place(mask, drawn, top - view.corner[0], left - view.corner[1])


def _pycocotools(polygons: list[np.ndarray], size: Size) -> np.ndarray:
    encoded = coco_mask.frPyObjects(polygons, *size)
    decoded: np.ndarray = coco_mask.decode(encoded[0] if len(encoded) == 1 else coco_mask.merge(encoded))
    return decoded


def _place(mask: np.ndarray, drawn: np.ndarray, top: int, left: int) -> None:
    """Copy ``drawn`` to (top, left) of ``mask``, as far as it lies inside."""
    bottom, right = max(mask.shape[0] - top, 0), max(mask.shape[1] - left, 0)
    inside = drawn[max(-top, 0) : bottom, max(-left, 0) : right]
    top, left = max(top, 0), max(left, 0)
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside


def _resize_runs(mask: np.ndarray, decoded: np.ndarray, view: View) -> None:
    mirrored = decoded[:, ::-1] if view.flip else decoded
    if view.resized != view.source:
        whole = torch.from_numpy(np.ascontiguousarray(mirrored))[None]
        mirrored = F.resize(whole, list(view.resized), interpolation=InterpolationMode.NEAREST)[0].numpy()
    shown = view.window(mirrored)
    mask[: shown.shape[0], : shown.shape[1]] = shown
