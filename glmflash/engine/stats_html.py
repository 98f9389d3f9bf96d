"""What an engine did → HTML for a notebook: counts, a bar of the KV blocks, seconds by phase."""

from collections.abc import Iterable

from glmflash.kv.pool import PoolStats
from glmflash.markup import box, facts, table

__all__ = ["to_html"]

_COLOURS = {"used": "#1b73e8", "cached": "#8ab4f8", "free": "#8a8f98"}


def __dir__() -> list[str]:
    return __all__


def to_html(
    lines: Iterable[tuple[str, str]],
    head: Iterable[str],
    rows: Iterable[tuple[str, list[str]]],
    pool: PoolStats | None,
) -> str:
    """All of it; every text is escaped.

    Args:
        lines: Names and what is to be said of them.
        head: Names of columns.
        rows: By phase, what stands in those columns.
        pool: The KV blocks, if there are any.
    """
    numbers = table(["seconds", *head], [[name, *cells] for name, cells in rows])
    return box(facts(lines), _bar(pool) if pool is not None else "", numbers)


def _bar(pool: PoolStats) -> str:
    """How the blocks are divided: as wide as their share."""
    shares = {"used": pool.used, "cached": pool.cached, "free": pool.free}
    parts = "".join(
        f"<div title='{count} {name}' style='width: {100 * count / max(pool.num_blocks, 1):.3f}%; "
        f"background: {_COLOURS[name]}; opacity: {0.3 if name == 'free' else 1}'></div>"
        for name, count in shares.items()
    )
    legend = " ".join(
        f"<span style='color: {_COLOURS[name]}'>■</span> {name} {count}" for name, count in shares.items()
    )
    strip = "display: flex; height: 10px; border-radius: 3px; overflow: hidden; max-width: 480px"
    return (
        f"<div style='margin: 6px 0'><div style='{strip}'>{parts}</div>"
        f"<div style='font-size: 12px; opacity: .8'>KV blocks: {legend}</div></div>"
    )
