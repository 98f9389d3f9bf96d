"""Talk about a receipt: each turn computes only what is new. Then ask eight receipts at once.

python examples/conversation.py                          the embedded model, offline
python examples/conversation.py zai-org/GLM-4.6V-Flash   the real one
"""

import sys
import time
from pathlib import Path
from random import Random

import glmflash

sys.path.insert(0, str(Path(__file__).parent / "tiny"))
import draw


def main(model: str = "tiny") -> None:
    """Hold a conversation, fork it, ask many pictures together, and print what the caches spared."""
    receipts = [draw.receipt(Random(f"receipt {seed}"), language="en") for seed in range(8)]
    picture, bought = receipts[0]
    with glmflash.Pipeline.from_pretrained(model) as pipe:
        with pipe.session(max_new_tokens=32) as session:
            for question in ("What is the total?", *(f"How much is the {item}?" for item in bought.prices)):
                result = session.ask(question, images=None if len(session) else picture)
                usage, first = result.usage, result.timings.first_token
                print(f"{question}\n  {result.text}")
                print(f"  {usage.cached} of {usage.prompt} prompt tokens reused, first token {first:.3f} s")
            print(f"a fork knows it all: {session.fork().ask('What is the total?').text}")

        questions = [{"text": "What is the total?", "images": receipt} for receipt, _ in receipts]
        began = time.perf_counter()
        results = pipe.batch(questions, max_new_tokens=32, progress=False)
        print(f"{len(results)} receipts in {time.perf_counter() - began:.2f} s:", *map(str, results))
        print(pipe.stats())


if __name__ == "__main__":
    main(*sys.argv[1:2])
