"""Anonymous memory of a process of its own: of weights, of a full context, and the most on the way.

`python tests/measure_memory.py FOLDER OPTIONS` takes options and prints figures as JSON. The caller sets
MALLOC_MMAP_THRESHOLD_, so that the system gets freed memory back at once: what is measured is what is held.
"""

import gc
import json
import sys
import threading
from pathlib import Path

import numpy as np

from glmflash import Pipeline
from glmflash.config import GenerationConfig
from glmflash.engine.engine import Engine
from glmflash.engine.settings import Settings
from glmflash.plan import plan
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.quant import QuantizationConfig
from glmflash.weights import load_model, load_preprocessor

CONTEXT, PICTURE = 1024, 400


def anonymous() -> int:
    """Bytes that no file can give back."""
    gc.collect()
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("RssAnon:") + 1]) * 1024


class Most:
    """The most anonymous memory while it is active, beyond what there was."""

    def __enter__(self) -> "Most":
        self.before = self.most = anonymous()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self.after = anonymous()

    def _watch(self) -> None:
        with Path("/proc/self/status").open("rb", buffering=0) as file:
            while not self._ended.wait(0.001):
                file.seek(0)
                words = file.read().split()
                self.most = max(self.most, int(words[words.index(b"RssAnon:") + 1]) * 1024)


def measure(folder: Path, options: dict[str, str]) -> dict[str, tuple[int, int]]:
    """What was planned and what was measured, by name."""
    kv_dtype, embeddings = options.pop("kv_dtype", "auto"), options.pop("embeddings", "auto")
    scheme = options.pop("quantize", None)
    quantize = QuantizationConfig(scheme=scheme, embeddings=embeddings) if scheme else None
    load_model("tiny", quantize=scheme, device="cpu", progress=False)  # what code itself takes
    planned = plan(
        folder, quantize=quantize, device="cpu", context=CONTEXT, image_tokens=PICTURE, kv_dtype=kv_dtype,
        dtype=options.get("dtype", "auto"),
    )  # fmt: skip
    with Most() as loading:
        model = load_model(folder, quantize=quantize, device="cpu", progress=False, **options)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    settings = Settings(kv_dtype=kv_dtype, vision_memory=0)
    engine = Engine(
        model,
        tokenizer,
        preprocessor=load_preprocessor(folder),
        generation=GenerationConfig(),
        settings=settings,
    )
    picture = np.zeros((560, 560, 3), dtype=np.uint8)
    text = tokenizer.decode(tokenizer.encode("the total " * CONTEXT)[: CONTEXT - 16])
    with Pipeline(engine) as pipe:
        pipe("the", max_new_tokens=1, temperature=0)
        with Most() as asking:
            usage = pipe(text, max_new_tokens=4, temperature=0).usage
        with Most() as looking:
            pipe("a", images=picture, max_new_tokens=1, temperature=0)
    assert abs(usage.prompt - CONTEXT) <= 16
    program = sum(part.nbytes for part in planned.parts if part.kind == "program")
    step = planned.but(image_tokens=0).activations
    return {
        "weights": (planned.weights, loading.after - loading.before),
        "loading": (planned.peak_loading - program, loading.most - loading.before),
        "keys and values": (planned.kv, asking.after - asking.before),
        "prompt": (planned.kv + step, asking.most - asking.before),
        "picture": (planned._job.picture(planned._use), looking.most - looking.before),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), json.loads(sys.argv[2]))))
