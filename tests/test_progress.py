"""Progress is a function, a bar, or nothing."""

import io
import sys

import pytest

from glmflash.progress import answered, reporter, wants_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_function_is_called_as_it_is() -> None:
    seen = []
    reporter(lambda done, total: seen.append((done, total)))(3, 4)
    assert seen == [(3, 4)]


@pytest.mark.parametrize(
    ("progress", "stream", "bar"),
    [
        (True, io.StringIO, True),
        (False, Terminal, False),
        (None, Terminal, True),
        (None, io.StringIO, False),
        (print, Terminal, False),
    ],
)
def test_who_sees_a_bar(monkeypatch, progress, stream, bar) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    assert wants_bar(progress) is bar


def test_the_bar_is_drawn_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    report = reporter(True)
    for done in range(5):
        report(done * 10**9, 4 * 10**9)
    drawn = stream.getvalue()
    assert "0.00 of 4.00 GB" in drawn
    assert "4.00 of 4.00 GB" in drawn
    assert drawn.endswith(" \r")
    assert drawn.count("loading") < 5  # not at every tensor


def test_nothing_is_written_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    reporter(None)(1, 2)
    reporter(False)(1, 2)
    assert not stream.getvalue()


def test_a_bar_of_requests_covers_the_line_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    now = iter((0.0, 100.0, 101.0, 102.0))
    monkeypatch.setattr("glmflash.progress.time.monotonic", lambda: next(now))
    report = reporter(True, line=answered)
    for done in range(4):
        report(done, 3)
    drawn = stream.getvalue().split("\r")
    assert drawn[1].endswith("0 of 3")
    assert drawn[2].endswith("1 of 3, 0.0/s, 3 min 20 s left")
    assert drawn[3].rstrip().endswith("2 of 3, 0.0/s, 50 s left")
    assert len(drawn[2]) == len(drawn[3]) == len(drawn[4]) == len(drawn[5])
    assert not drawn[5].strip()
