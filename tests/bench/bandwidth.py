"""A large buffer → how fast this machine reads memory, in bytes per second."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


class Memory:
    """A buffer that no cache holds, read from end to end in several ways; the quickest way counts.

    Of each way it is the median of some reads, because a single one can be lucky, and what it is compared
    with is a median too.

    The ways are torch's reductions on torch's threads, a matrix times a vector among them, and NumPy's on as
    many threads of Python, each with its part.

    Args:
        nbytes: Size of the buffer; many times the last cache, and a multiple of 32 KiB.
    """

    def __init__(self, *, nbytes: int) -> None:
        self.nbytes = nbytes
        whole = torch.ones(nbytes // 8, dtype=torch.int64)
        floats = whole.view(torch.float32)
        matrix, vector = floats.view(-1, 4096), torch.ones(4096)
        parts = np.array_split(whole.numpy(), torch.get_num_threads())
        threads = ThreadPoolExecutor(len(parts))
        self.ways: dict[str, Callable[[], object]] = {
            "torch_sum_float32": floats.sum,
            "torch_norm_float32": lambda: torch.linalg.vector_norm(floats),
            "torch_max_int64": whole.max,
            "torch_mv_float32": lambda: matrix.mv(vector),
            "numpy_max_int64": lambda: list(threads.map(np.max, parts)),
            "numpy_or_int64": lambda: list(threads.map(np.bitwise_or.reduce, parts)),
        }
        self.speeds: dict[str, list[float]] = {name: [] for name in self.ways}

    def read(self, *, times: int = 5) -> float:
        """Bytes per second now. The ways take turns; `speeds` remembers all."""
        for _ in range(times):
            for name, way in self.ways.items():
                start = time.perf_counter()
                way()
                self.speeds[name].append(self.nbytes / (time.perf_counter() - start))
        return statistics.median(self.speeds[self.quickest][-times:])

    @property
    def quickest(self) -> str:
        """The way with the best median over all reads so far.

        Not the best of the last reads: of six noisy figures the largest is the luckiest, not the truest.
        """
        return max(self.speeds, key=lambda name: statistics.median(self.speeds[name]))

    def summary(self) -> dict[str, object]:
        """GB/s of every way, the median over the run and the fastest read; and of the quickest way."""
        ways = {
            name: {"median": round(statistics.median(found) / 1e9, 3), "fastest": round(max(found) / 1e9, 3)}
            for name, found in self.speeds.items()
        }
        best = max(cell["median"] for cell in ways.values())
        return {"buffer_bytes": self.nbytes, "gb_per_second": best, "ways": ways}
