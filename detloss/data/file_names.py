"""Where the image of a record lies (no torch here)."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

USUAL_URL = re.compile(r"https?://[\w.-]+/(?:[\w-]+/)*?([\w-]+/[\w-]+\.\w+)")
"""A hundred thousand URLs take a while to split by the rules."""


def named_file(name: object, url: object) -> str:
    """Return an image's path under the images folder, from the ``file_name`` and ``coco_url`` of its record.

    LVIS v1 names no file but a ``coco_url`` (``.../train2017/000000391895.jpg``); LVIS v0.5 has the name of
    COCO 2014 (``COCO_val2014_000000266409.jpg``) for what is ``val2017/000000266409.jpg`` by its URL.
    """
    if name is None and isinstance(url, str) and (usual := USUAL_URL.fullmatch(url)):
        return usual[1]
    if isinstance(url, str) and (name is None or (isinstance(name, str) and name.startswith("COCO_"))):
        of_url = _end_of_url(url)
        if of_url and (name is None or of_url.rpartition("/")[2] != name):
            name = of_url
    if not isinstance(name, str) or not name:
        raise ValueError("needs a 'file_name' or a 'coco_url'")
    if _leaves_folder(name):
        raise ValueError(f"file_name {name!r} leads out of the images folder")
    return name


def image_path(folder: Path, name: str) -> Path | None:
    """Return the file of that name, or None where there is none.

    A name with folders is looked for without them as well: LVIS spreads over COCO's ``train2017/`` and
    ``val2017/``, and people keep one of them, or all images in one folder.
    """
    for path in (folder / name, folder / Path(name).name):
        if path.is_file():
            return path
    return None


def _end_of_url(url: str) -> str:
    """Return the last folder and the file of a URL's path."""
    return "/".join(PurePosixPath(urlsplit(url).path).parts[-2:])


def _leaves_folder(name: str) -> bool:
    # Backslashes and drive letters count too: the same file may be read on Windows.
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts or "\0" in name
