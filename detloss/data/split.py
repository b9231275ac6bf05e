"""One annotation file as two: a validation share held out, the same one every time."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from detloss.data.cache import cache_folder
from detloss.data.records import Records, load_json_object
from detloss.errors import UserError


def split_annotations(path: Path, share: float, *, seed: int = 0) -> tuple[Path, Path]:
    """Write the images and annotations of a COCO-format file as train.json and val.json, and return both.

    ``share`` of the images, drawn with ``seed``, becomes validation. The files lie in the cache folder under a
    name made of the file's path, size and time, the share and the seed.
    """
    if not 0 < share < 1:
        raise UserError(f"dataset.split={share}: expected a share between 0 and 1, such as 0.2")
    try:
        status = path.stat()
    except OSError:
        raise UserError(f"{path}: no such file") from None
    key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {share} {seed}"
    folder = cache_folder() / "splits" / hashlib.sha256(key.encode()).hexdigest()[:16]
    parts = folder / "train.json", folder / "val.json"
    if not all(part.exists() for part in parts):
        folder.mkdir(parents=True, exist_ok=True)
        _write_parts(load_json_object(path), path, share, seed, parts)
    return parts


def _write_parts(
    content: dict[str, object], path: Path, share: float, seed: int, parts: tuple[Path, Path]
) -> None:
    images = Records.of(path, content, "images")
    annotations = Records.of(path, content, "annotations")
    ids, owners = images.identifiers(), annotations.integers("image_id")
    held_out = round(share * len(ids))
    if not 0 < held_out < len(ids):
        raise UserError(f"dataset.split={share} of {len(ids)} images leaves one part empty")
    validation = np.random.default_rng(seed).permutation(ids)[:held_out]
    for part, inside in zip(parts, (False, True), strict=True):
        subset = content | {
            "images": [images.rows[i] for i in np.flatnonzero(np.isin(ids, validation) == inside)],
            "annotations": [annotations.rows[i] for i in np.flatnonzero(np.isin(owners, validation) == inside)],
        }
        partial = part.with_name(f".{part.name}.{os.getpid()}")
        partial.write_text(json.dumps(subset), encoding="utf-8")
        os.replace(partial, part)
