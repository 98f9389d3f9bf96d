"""Let the model call a Python function that shows it a receipt, and read the answer off the picture.

python examples/tools.py                          the embedded model, offline; its call is put into its mouth
python examples/tools.py zai-org/GLM-4.6V-Flash   the real one, which calls by itself
"""

import sys
from pathlib import Path
from random import Random

from torch import Tensor

import glmflash

sys.path.insert(0, str(Path(__file__).parent / "tiny"))
import draw

CALL = "<tool_call> show <arg_key> n </arg_key> <arg_value> 3 </arg_value> </tool_call> <|observation|>"


def show(n: int) -> list[object]:
    """Show a receipt, by its number."""
    return [draw.receipt(Random(f"t{n}"), language="en")[0], "What is the total?"]


def main(model: str = "tiny") -> None:
    """Offer the function, print the calls that were made, and the answer."""
    with glmflash.Pipeline.from_pretrained(model) as pipe:
        known, words = pipe.engine.tokenizer, CALL.split() if model == "tiny" else []
        script = [i for x in words for i in ([known.control(x)] if x[0] == "<" else known.encode(x))]

        def prompter(_: object, logits: Tensor) -> Tensor:
            return logits.index_fill(0, logits.new_tensor([script.pop(0)]).long(), 1e9) if script else logits

        run = pipe.run_tools("What is the total of receipt 3?", [show], logits_processors=[prompter])
        print(*(f"{one.call.name}{one.call.arguments}" for one in run.calls), run, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
