"""What the tests of INT8 products share."""

import torch


def random_weight(outputs, inputs, seed=0):
    """(O, I) int8 and (O,) scales."""
    torch.manual_seed(seed)
    weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    return weight, torch.rand(outputs) * 0.01 + 1e-4


def make_int_mm_exact(monkeypatch):
    """As it is on CUDA devices; processors that add pairs of products in 16 bits saturate."""
    full = torch.full((32, 64), 127, dtype=torch.int8)
    if torch._int_mm(full, full.T)[0, 0] != 64 * 127**2:
        monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.double() @ b.double()).int())
