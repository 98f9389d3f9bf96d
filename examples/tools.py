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

CALL = "<tool_call> show\n <arg_key> nr </arg_key> <arg_value> 3 </arg_value> </tool_call> <|observation|>"


def show(nr: int) -> list[object]:
    """Show a receipt, by its number."""
    return [draw.receipt(Random(f"t{nr}"), language="en")[0], "What is the total?"]


def main(model: str = "tiny") -> None:
    """Offer the function, print the calls that were made, and the answer."""
    with glmflash.Pipeline.from_pretrained(model) as pipe:
        controls, encode = pipe.engine.tokenizer.controls, pipe.engine.tokenizer.encode
        script = [i for x in CALL.split(" ") for i in ([controls[x]] if x in controls else encode(x))]

        def prompter(_: object, logits: Tensor) -> Tensor:
            return logits.index_fill(0, logits.new_tensor([script.pop(0)]).long(), 1e9) if script else logits

        hints = [prompter] if model == "tiny" else []  # it was never taught to call
        run = pipe.run_tools("What is the total of receipt 3?", [show], logits_processors=hints)
        print(*(f"{one.call.name}({one.call.arguments})" for one in run.calls), run, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
