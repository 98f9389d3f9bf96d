"""A report → a page of its own, and a short form for a notebook; no scripts, nothing loaded, all escaped."""

from html import escape
from typing import TYPE_CHECKING

from glmflash.evaluate.plots import accuracy_plot, difference_plot, latency_plot
from glmflash.evaluate.report_style import STYLE
from glmflash.evaluate.report_text import (
    HEAD,
    cells,
    findings,
    kind_rows,
    percent,
    points,
    seconds,
    size,
    title,
)
from glmflash.evaluate.summary import Summary
from glmflash.evaluate.wrong_html import wrong_html
from glmflash.markup import box, note, table

if TYPE_CHECKING:
    from glmflash.evaluate.report import Report

__all__ = ["to_html", "to_notebook"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def __dir__() -> list[str]:
    return __all__


def to_html(report: "Report", *, most_wrong: int) -> str:
    """The page."""
    parts = [_head(report), _words(report), _figures(report)]
    accuracy = _section(
        "Accuracy",
        "Percent, with the 95 % interval.",
        accuracy_plot(report.systems, baseline=report.baseline),
    )
    latency = _section(
        "Latency", f"To the whole answer, {escape(report.conditions.asked)}. Numbers: P50; P95, P99.",
        latency_plot(report.systems),
    )  # fmt: skip
    if len(report.systems) > 1:
        difference = _section(
            f"Difference to {escape(report.baseline)}",
            "Percentage points, over the same questions. Coloured where it is more than chance; an arrow is "
            "off the scale.",
            difference_plot(report.systems),
        )
        parts.append(f"<div class='pair'>{accuracy}{difference}</div>")
    else:
        parts.append(accuracy)
    kinds = _kinds(report) if len(report.systems[0].kinds) > 1 else ""
    parts.append(f"<div class='pair'>{latency}{kinds}</div>" if kinds and _slim(report) else latency + kinds)
    parts += [wrong_html(report, most=most_wrong), _foot(report)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(_name(report))}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def to_notebook(report: "Report") -> str:
    """Tables only; colours are the notebook's."""
    head, rows = kind_rows(report)
    kinds = table(head, rows) if len(rows) > 1 else ""
    return box(table(HEAD, map(cells, report.systems)), kinds, note(title(report)))


def _name(report: "Report") -> str:
    count = len(report.systems)
    return f"Accuracy of {count} systems" if count > 1 else f"Accuracy of {report.baseline}"


def _head(report: "Report") -> str:
    conditions, count = report.conditions, len(report.questions)
    facts = [f"{count} question{'s' if count > 1 else ''}", conditions.asked, conditions.created]
    facts += [conditions.machine, f"glmflash {conditions.version}"]
    return f"<h1>{escape(_name(report))}</h1><p class='soft'>{escape(' · '.join(filter(None, facts)))}</p>"


def _words(report: "Report") -> str:
    said = "".join(f"<li>{escape(text)}</li>" for text in findings(report))
    return f"<section><h2>In short</h2><ul>{said}</ul></section>" if said else ""


def _figures(report: "Report") -> str:
    names = ["system", "accuracy", f"to {report.baseline}", "latency P50", "P95", "P99", "tokens/s"]
    names += ["weights", "KV cache", "process", "errors"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(map(_figure, report.systems))
    return (
        f"<section><h2>All figures</h2><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _figure(one: Summary) -> str:
    latency, memory, apart = one.latency, one.memory, one.difference
    timed = [seconds(value) if latency.count else "–" for value in (latency.p50, latency.p95, latency.p99)]
    speed = "–" if one.tokens_per_second is None else f"{one.tokens_per_second:.0f}"
    sizes = [size(memory.weights), size(memory.kv), size(memory.process)]
    accuracy = f"{percent(one.accuracy.value)}<small>{_ends(one)}</small>"
    difference = "–" if apart is None else (
        f"<span class='{_colour(one)}'>{points(apart.value)}</span><small>{points(apart.low)} to "
        f"{points(apart.high)}</small>"
    )  # fmt: skip
    count = sum(one.errors.values())
    codes = "\n".join(f"{number} {code}" for code, number in sorted(one.errors.items()))
    errors = f"<span class='bad'>{count}</span><small>{escape(codes)}</small>" if count else "0"
    plain = "".join(f"<td>{escape(text)}</td>" for text in (*timed, speed, *sizes))
    first = f"<td>{escape(one.system)}</td><td>{accuracy}</td><td>{difference}</td>"
    return f"<tr>{first}{plain}<td>{errors}</td></tr>"


def _ends(one: Summary) -> str:
    return f"{100 * one.accuracy.low:.1f} to {100 * one.accuracy.high:.1f}"


def _colour(one: Summary) -> str:
    if one.difference is None or not one.difference.excludes_zero:
        return "soft"
    return "good" if one.difference.value > 0 else "bad"


def _kinds(report: "Report") -> str:
    head = "".join(f"<th>{escape(one.system)}</th>" for one in report.systems)
    rows = []
    for kind, first in report.systems[0].kinds.items():
        row = "".join(_heat(one, kind) for one in report.systems)
        rows.append(f"<tr><td>{escape(kind)} <small>{first.count} questions</small></td>{row}</tr>")
    inside = (
        f"<table class='heat'><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return _section("Accuracy by kind", "Percent.", f"<div class='wide'>{inside}</div>")


def _heat(one: Summary, kind: str) -> str:
    found = one.kinds[kind]
    about = f"{100 * found.value:.1f} %, {100 * found.low:.1f} to {100 * found.high:.1f}"
    shade = f"background: color-mix(in srgb, var(--tint) {4 + 38 * found.value:.0f}%, transparent)"
    return f"<td style='{shade}' title='{about}'>{100 * found.value:.1f}</td>"


def _slim(report: "Report") -> bool:
    """Whether the table of kinds fits beside a plot."""
    return len(report.systems) <= 3


def _section(name: str, about: str, inside: str) -> str:
    """One part of the page; all of it is HTML already."""
    return f"<section><h2>{name}</h2><p class='soft small'>{about}</p>{inside}</section>"


def _foot(report: "Report") -> str:
    limit = report.conditions.timeout
    time = "no limit of time" if limit is None else f"at most {limit:g} s for a question"
    return (
        "<footer class='soft small'>Intervals are drawn by the bootstrap, over pictures with all their "
        "questions, the same draws for all systems; where all questions have one score, they are exact "
        f"bounds. An error is an answer worth nothing; {escape(time)}. "
        f"Seed {report.conditions.seed}.</footer>"
    )
