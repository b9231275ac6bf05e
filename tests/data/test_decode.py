"""Every kind of file gives the pixels that Pillow shows, and none more memory than was annotated."""

import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detloss.data.decode import decode
from detloss.errors import UserError

SOURCE = Path("instances.json")


def _picture(mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((80, 60), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGB", "jpg", {"quality": 90}),
        ("RGB", "jpg", {"progressive": True, "subsampling": 2}),
        ("L", "jpg", {}),
        ("CMYK", "jpg", {}),
        ("RGB", "png", {}),
        ("RGBA", "png", {}),
        ("P", "png", {}),
        ("P", "gif", {}),
        ("1", "png", {}),
        ("RGB", "webp", {"lossless": True}),
        ("RGB", "bmp", {}),
    ],
)
def test_pixels_are_those_of_pillow_in_rgb(tmp_path: Path, mode: str, suffix: str, options: dict) -> None:  # type: ignore[type-arg]
    path = tmp_path / f"a.{suffix}"
    _picture(mode).save(path, **options)
    pixels = decode(path, (60, 80), source=SOURCE)
    with Image.open(path) as file:
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(file.convert("RGB")))
    assert pixels.stride() == (1, 240, 3), "channels next to each other"


def test_orientation_in_exif_is_ignored_as_annotations_mean_pixels_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    _picture().save(tmp_path / "turned.jpg", exif=exif)
    _picture().save(tmp_path / "plain.jpg")
    turned, plain = (decode(tmp_path / f"{name}.jpg", (60, 80), source=SOURCE) for name in ("turned", "plain"))
    assert turned.equal(plain)


def _bomb(path: Path, side: int) -> None:
    """Write a PNG that is small and holds side x side black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * side)
    body = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_an_image_larger_than_annotated_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    _bomb(path, 6000)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\.png: the image is 6000x6000, but instances\.json says 80x60"):
        decode(path, (60, 80), source=SOURCE)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("side", [10_500, 14_000])
def test_enormous_headers_are_one_line_without_a_warning(tmp_path: Path, side: int) -> None:
    """Pillow warns of 89 million pixels and refuses twice as many."""
    path = tmp_path / "bomb.png"
    _bomb(path, 8)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=r"bomb\.png: ") as raised:
            decode(path, (60, 80), source=SOURCE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp", "jp2", "avif"])
def test_a_file_with_wrong_bytes_is_pixels_or_one_line(tmp_path: Path, suffix: str) -> None:
    """A hundred files with bytes changed, cut out and cut off; AVIF's decoder has errors of its own kind."""
    path, generator = tmp_path / f"a.{suffix}", np.random.default_rng(0)
    try:
        _picture().save(path)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow does not write {suffix}")
    sound, refused = path.read_bytes(), 0
    for number in range(100):
        content = bytearray(sound)
        for place in generator.integers(0, min(len(content), 60 * (1 + number % 10)), 1 + number % 5):
            content[place] = int(generator.integers(256))
        del content[int(generator.integers(len(content) // 2, 2 * len(content))) :]
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert decode(path, (60, 80), source=SOURCE).shape == (3, 60, 80)
            except UserError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 10
