"""Read a receipt into a dataclass, with the confidence of each field; once clean, once spoiled.

python examples/extract.py                          the embedded model, offline
python examples/extract.py zai-org/GLM-4.6V-Flash   the real one
"""

import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated

from PIL import ImageFilter

import glmflash

sys.path.insert(0, str(Path(__file__).parent / "tiny"))
import draw


@dataclass
class Receipt:
    vendor: Annotated[str, "Who is the vendor?"]
    total: Decimal


def main(model: str = "tiny") -> None:
    """Extract, print the value and its fields, and see the confidences fall as the picture gets worse."""
    picture, bought = draw.receipt(Random("receipt 2"), language="en")
    print(f"printed: {bought.vendor}, {bought.total}")
    with glmflash.Pipeline.from_pretrained(model) as pipe:
        for name, shown in (("clean", picture), ("blurred", picture.filter(ImageFilter.GaussianBlur(0.9)))):
            found = pipe.extract(shown, Receipt, on_error="none")
            print(f"{name}: {found.value}")
            print(f"  {found!r}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
