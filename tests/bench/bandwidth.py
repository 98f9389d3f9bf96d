"""A large buffer → how fast this machine reads memory, in bytes per second."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


class Memory:
    """A buffer that no cache holds, read from end to end in several ways; the quickest way counts.

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
        self.best = dict.fromkeys(self.ways, 0.0)

    def read(self, *, times: int = 1) -> float:
        """Bytes per second of the quickest way now; `best` remembers the quickest of each so far."""
        now = 0.0
        for name, way in self.ways.items():
            for _ in range(times):
                start = time.perf_counter()
                way()
                speed = self.nbytes / (time.perf_counter() - start)
                now = max(now, speed)
                self.best[name] = max(self.best[name], speed)
        return now

    def summary(self) -> dict[str, object]:
        """GB/s of every way, and of the best of them."""
        speeds = {name: round(speed / 1e9, 3) for name, speed in self.best.items()}
        return {"buffer_bytes": self.nbytes, "gb_per_second": max(speeds.values()), "ways": speeds}
