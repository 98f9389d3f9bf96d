"""The figures of int8.py → tables for people, in Markdown, and which of the bars they meet.

python tests/bench/int8_table.py docs/benchmarks/int8-cpu.json    # writes int8-cpu.txt beside it again
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHASES = {"vision": "vision", "first_token": "first token", "decode": "decode"}
WHOLE, PART = "float32 and bfloat16", "bfloat16 and INT8"  # blocks


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach: at least, or at most, so much. A path leads to it in the report."""

    what: str
    path: tuple[str, ...]
    bound: float
    least: bool = True

    def value(self, report: dict[str, Any]) -> float | None:
        """The figure; None if it was not measured."""
        found: Any = report
        for key in self.path:
            if key not in found:
                return None
            found = found[key]
        return found

    def met(self, report: dict[str, Any]) -> bool | None:
        """Whether it is reached; None if it was not measured."""
        value = self.value(report)
        return None if value is None else value >= self.bound if self.least else value <= self.bound


def _ratio(block: str, phase: str, theirs: str, ours: str) -> tuple[str, ...]:
    return "blocks", block, "ratios", phase, f"transformers {theirs} / glmflash {ours}", "ratio"


def _tiny(name: str) -> tuple[str, ...]:
    return "tiny", name, "points_below_float32"


BARS = (
    Bar("first token, int8, times sooner than transformers float32",
        _ratio("float32 and int8", "first_token", "float32", "int8"), 1.6),
    Bar("first token, w8a8, times sooner than transformers float32",
        _ratio("float32 and w8a8", "first_token", "float32", "w8a8"), 3.0),
    Bar("decode, int8, times as fast as transformers bfloat16",
        _ratio(PART, "decode", "bfloat16", "int8"), 1.9),
    Bar("decode, int8, times as fast as transformers float32",
        _ratio("float32 and int8", "decode", "float32", "int8"), 4.7),
    Bar("requests together, int8, times the tokens per second of one",
        ("together", "int8", "decode", "ratio"), 2.3),
    Bar("requests together, w8a8, times the tokens per second of one",
        ("together", "w8a8", "decode", "ratio"), 4.0),
    Bar("first token, bfloat16, times sooner than transformers float32",
        _ratio(WHOLE, "first_token", "float32", "bfloat16"), 1.0),
    Bar("decode, bfloat16, times as fast as transformers bfloat16",
        _ratio(WHOLE, "decode", "bfloat16", "bfloat16"), 1.0),
    Bar("decode, int8, share of the memory read bandwidth",
        ("blocks", "float32 and int8", "share_of_bandwidth", "glmflash int8"), 0.8),
    Bar("embedded model, int8, points below float32", _tiny("int8"), 0.5, least=False),
    Bar("embedded model, w8a8, points below float32", _tiny("w8a8"), 1.5, least=False),
    Bar("embedded model, KV cache int8, points below float32", _tiny("kv int8"), 0.5, least=False),
)  # fmt: skip


def verdicts(report: dict[str, Any]) -> list[dict[str, object]]:
    """Every bar with what was measured."""
    return [
        {
            "what": bar.what,
            "measured": bar.value(report),
            "at_least" if bar.least else "at_most": bar.bound,
            "met": bar.met(report),
        }
        for bar in BARS
    ]


def tables(report: dict[str, Any]) -> str:
    """All of them, as one text."""
    parts = [
        _bars(report),
        _times(report),
        _together(report),
        _logits(report),
        _tiny_table(report),
        _memory(report),
    ]
    return "\n\n".join(parts) + "\n"


def _table(heads: str, rows: Iterable[Iterable[str]]) -> str:
    """Markdown that is aligned as text too; all columns but the first stand to the right."""
    lines = [heads.split("|"), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join(f"{cell:{'>' if n else '<'}{widths[n]}}" for n, cell in enumerate(line)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def _bars(report: dict[str, Any]) -> str:
    words = {True: "yes", False: "NO", None: "not measured"}
    rows = []
    for bar in BARS:
        value = bar.value(report)
        asked = f"{'≥' if bar.least else '≤'} {bar.bound:g}"
        rows.append((bar.what, "" if value is None else f"{value:.2f}", asked, words[bar.met(report)]))
    return _table("Bar|measured|asked|met", rows)


def _times(report: dict[str, Any]) -> str:
    rows = [
        (title, side, *(_cell(phase, block[phase][side]["seconds"]) for phase in PHASES))
        for title, block in report["blocks"].items()
        for side in block["decode"]
    ]
    bench, ask = (report["llama.cpp"][name] for name in ("llama-bench", "llama-mtmd-cli"))
    for name, found in (("llama-bench", bench), ("llama-mtmd-cli", ask)):
        if isinstance(found, str):
            rows.append(("llama.cpp", f"{name}: {found}", "", "", ""))
        else:
            side = f"{name} {found.get('model', '')}".strip()
            cells = [_cell(phase, found[phase]["seconds"]) if phase in found else "" for phase in PHASES]
            rows.append(("llama.cpp", side, *cells))
    return _table("Measured in turns|Side|Vision|First token|Decode", rows)


def _cell(phase: str, seconds: float) -> str:
    return f"{1 / seconds:,.2f} tokens/s" if phase == "decode" else f"{seconds:.3f} s"


def _together(report: dict[str, Any]) -> str:
    rows = []
    for scheme, found in report["together"].items():
        for part in ("decode", "end_to_end"):
            cell = found[part]
            alone, several = cell["alone_tokens_per_second"], cell["together_tokens_per_second"]
            title = f"{scheme}, {part.replace('_', ' ')}"
            rows.append((title, f"{alone:.2f}", f"{several:.2f}", f"{cell['ratio']:.2f}"))
    count = next(iter(report["together"].values()))["requests"]
    return _table(f"Tokens per second|one request|{count} requests|times as many", rows)


def _logits(report: dict[str, Any]) -> str:
    rows = [
        (name, *(f"{cells[kind][figure]:.{digits}%}" for kind in ("plain", "outliers")
                 for figure, digits in (("relative_error", 2), ("same_token", 1))))
        for name, cells in report["logits"].items()
    ]  # fmt: skip
    return _table("Logits|error|same token|error, outlier channels|same token", rows)


def _tiny_table(report: dict[str, Any]) -> str:
    rows = []
    for name, cell in report["tiny"].items():
        right, below = f"{cell['percent']:.2f} %", f"{cell['points_below_float32']:+.2f}"
        rows.append((name, right, below, str(cell["lost"]), str(cell["won"])))
    count = report["tiny"]["float32"]["questions"]
    return _table(f"Embedded model, {count} questions|right|points below float32|lost|won", rows)


def _memory(report: dict[str, Any]) -> str:
    ways = [
        (name, f"{cell['median']:.1f} GB/s", f"{cell['fastest']:.1f} GB/s")
        for name, cell in report["memory"]["ways"].items()
    ]
    shares = [
        (f"{side.removeprefix('glmflash ')} decode, {title}", f"{share:.1%} of it", "")
        for title, block in report["blocks"].items()
        for side, share in block["share_of_bandwidth"].items()
    ]
    best = ("the quickest of these", f"{report['memory']['gb_per_second']:.1f} GB/s", "")
    return _table("Memory read by|median|fastest", [*ways, best, *shares])


if __name__ == "__main__":
    (given,) = map(Path, sys.argv[1:])
    given.with_suffix(".txt").write_text(tables(json.loads(given.read_text())))
