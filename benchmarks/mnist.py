"""Images in the idx format of MNIST and Fashion-MNIST, gzipped as they are handed out."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfbnn.core.checks import invalid

BYTES = 0x08  # the idx code of unsigned bytes, the only kind of number in these sets
PARTS = {"train": "train", "test": "t10k"}


class Images(NamedTuple):
    """x: float32 [N, 28, 28, 1], grey values in 0 ... 1; y: int32 [N], classes."""

    x: np.ndarray
    y: np.ndarray


def read_images(folder: Path, part: str = "train") -> Images:
    """The images of one part, "train" or "test", of the set in `folder`.

    Raises:
        InvalidInput: where a file is missing or is none of the format, or images and labels differ in number.
    """
    names = [f"{PARTS[part]}-images-idx3-ubyte.gz", f"{PARTS[part]}-labels-idx1-ubyte.gz"]
    pixels, labels = (read_idx(Path(folder) / name) for name in names)
    if len(pixels) != len(labels):
        raise invalid(str(folder), "as many labels as images", f"{len(pixels)} images, {len(labels)} labels")
    return Images(pixels[..., np.newaxis].astype(np.float32) / 255.0, labels.astype(np.int32))


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in a gzipped idx file: two bytes 0, the code of the kind, the rank, the sizes, the values."""
    if not path.is_file():
        raise invalid("--data", "a folder with the sets' .gz files", str(path), "This file is missing.")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError):
        raise invalid(str(path), "a gzipped file", "another kind, or one cut off") from None
    rank = content[3] if len(content) > 3 else 0
    sizes = [int(size) for size in np.frombuffer(content[4 : 4 + 4 * rank], ">u4")]
    values = np.frombuffer(content[4 + 4 * rank :], np.uint8)
    if content[:3] != bytes([0, 0, BYTES]) or len(sizes) != rank or math.prod(sizes) != len(values):
        raise invalid(str(path), "an idx file of bytes", f"{len(content)} bytes that are none")
    return values.reshape(sizes)
