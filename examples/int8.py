"""Ask one question in float32 and in INT8, and compare answers, bytes and time; save, and load again.

python examples/int8.py                          the embedded model, offline
python examples/int8.py zai-org/GLM-4.6V-Flash   the real one, in INT8 only: 11 GB
"""

import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import glmflash

sys.path.insert(0, str(Path(__file__).parent / "tiny"))
import draw


def main(model: str = "tiny") -> None:
    """Ask with each scheme, print the card, and load what was saved."""
    picture, _ = draw.receipt(Random("receipt"), language="en")
    for scheme in (None, "int8", "w8a8") if model == "tiny" else ("int8", "w8a8"):
        with glmflash.Pipeline.from_pretrained(model, quantize=scheme) as pipe:
            result = pipe("What is the total?", images=picture, max_new_tokens=32)
            print(f"{scheme or 'float'}: {result.text}, first token {result.timings.first_token:.3f} s")
            if scheme:
                print(pipe.card)
    with TemporaryDirectory() as folder:
        with glmflash.Pipeline.from_pretrained(model, quantize="int8") as pipe:
            pipe.save_pretrained(folder)
        began = time.perf_counter()
        with glmflash.Pipeline.from_pretrained(folder) as pipe:
            print(f"saved, loaded again in {time.perf_counter() - began:.2f} s: {pipe.card!r}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
