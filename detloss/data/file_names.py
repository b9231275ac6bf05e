"""Where the image of a record lies (no torch here)."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

USUAL_URL = re.compile(r"https?://[^/?#]+/(?:[^/?#]+/)*([^/?#]+/[^/?#]+)")


def named_file(image: Mapping[str, object]) -> str:
    """Return an image's path under the images folder; ``ValueError`` says what is wrong with its record.

    LVIS v1 names no file but a ``coco_url`` (``.../train2017/000000391895.jpg``); LVIS v0.5 has the name of
    COCO 2014 (``COCO_val2014_000000266409.jpg``) for what is ``val2017/000000266409.jpg`` by its URL.
    """
    name, url = image.get("file_name"), image.get("coco_url")
    of_url = _end_of_url(url) if isinstance(url, str) else ""
    renamed = isinstance(name, str) and name.startswith("COCO_") and of_url.rpartition("/")[2] != name
    if of_url and (name is None or renamed):
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
    if usual := USUAL_URL.fullmatch(url):  # a hundred thousand of them take a while to split by the rules
        return usual[1]
    return "/".join(PurePosixPath(urlsplit(url).path).parts[-2:])


def _leaves_folder(name: str) -> bool:
    # Backslashes and drive letters count too: the same file may be read on Windows.
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts or "\0" in name
