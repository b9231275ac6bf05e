"""Boundary IoU, slow and literal (Cheng et al., CVPR 2021): a mask without what is left of it after d erosions."""

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval


def width_of(height: int, width: int) -> int:
    return max(1, round(0.02 * float(np.sqrt(height**2 + width**2))))


def boundary_of(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the boundary of a mask [H, W]; beyond the image is background."""
    inner = np.pad(mask.astype(np.uint8), 1)
    for _ in range(width):
        padded = np.pad(inner, 1)
        shifted = [np.roll(padded, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        inner = np.minimum.reduce(shifted)[1:-1, 1:-1]
    return mask.astype(np.uint8) - inner[1:-1, 1:-1]


class BoundaryEval(COCOeval):
    """pycocotools with the lesser of both IoUs in place of the masks'; a crowd keeps the masks'."""

    def computeIoU(self, image: int, category: int) -> np.ndarray | list[float]:
        ious = super().computeIoU(image, category)
        if len(ious) == 0:
            return ious
        found = sorted(self._dts[image, category], key=lambda row: -row["score"])[: self.params.maxDets[-1]]
        outlines = [
            [self._outline(row["segmentation"]) for row in rows] for rows in (found, self._gts[image, category])
        ]
        crowd = [int(row["iscrowd"]) for row in self._gts[image, category]]
        lesser = np.minimum(ious, coco_mask.iou(*outlines, crowd))
        return np.where(np.array(crowd, dtype=bool), ious, lesser)

    def _outline(self, rle: dict[str, object]) -> dict[str, object]:
        mask = coco_mask.decode(rle)
        return coco_mask.encode(np.asfortranarray(boundary_of(mask, width_of(*mask.shape))))
