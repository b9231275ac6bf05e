"""Many texts in two flat arrays, which processes share instead of copying."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Text i is the UTF-8 of ``letters[ends[i]:ends[i + 1]]``; ``letters`` is uint8, ``ends`` [N + 1] int64."""

    letters: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        start, stop = self.ends[range(len(self))[index] :][:2]
        return self.letters[start:stop].tobytes().decode()
