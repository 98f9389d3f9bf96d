"""Progress is a function, a bar, or nothing; and a bar is gone when the work is over, however it ended."""

import io
import sys
import threading
import time

import pytest

from glmflash.errors import ParameterError
from glmflash.progress import ANSWERED, LOADING, QUANTISING, reporter, wants_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shell:
    """What IPython's shell is, in a notebook."""

    kernel = object()


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    return terminal


def wiped(drawn: str) -> bool:
    """Whether the cursor is at the beginning of an empty line."""
    *_, last, end = drawn.split("\r")
    return not last.strip() and not end


def test_a_function_is_called_as_it_is() -> None:
    seen = []
    with reporter(lambda done, total: seen.append((done, total))) as report:
        report(3, 4)
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


@pytest.mark.parametrize(("shell", "bar"), [(Shell(), True), (object(), False), (None, False)])
def test_a_notebook_is_watched_and_ipython_alone_is_not(monkeypatch, shell, bar) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    module = type(sys)("IPython")
    module.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert wants_bar(None) is bar
    assert wants_bar(False) is False


@pytest.mark.parametrize("wrong", [1, "yes", []])
def test_nothing_else_is_progress(wrong: object) -> None:
    with pytest.raises(ParameterError, match="progress: is"), reporter(wrong):
        pass


@pytest.mark.parametrize(("work", "name"), [(LOADING, "loading"), (QUANTISING, "quantising")])
def test_a_bar_of_bytes_is_drawn_and_wiped(monkeypatch, work, name) -> None:
    terminal = watch(monkeypatch)
    with reporter(True, work) as report:
        for done in range(5):
            report(done * 10**9, 4 * 10**9)
    drawn = terminal.getvalue()
    assert f"{name}:" in drawn
    assert "/4.00G" in drawn
    assert drawn.count(name) < 5  # not at every tensor
    assert wiped(drawn)


def test_a_bar_without_an_end_counts(monkeypatch) -> None:
    terminal = watch(monkeypatch)
    with reporter(True, ANSWERED) as report:
        report(0, None)
        time.sleep(0.11)
        report(7, None)
    assert "answered: 7 requests" in terminal.getvalue()
    assert "%" not in terminal.getvalue()
    assert wiped(terminal.getvalue())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_the_work_leaves_the_terminal_clean(monkeypatch, error) -> None:
    terminal = watch(monkeypatch)

    def work() -> None:
        with reporter(True) as report:
            late.append(report)
            report(1, 2)
            raise error

    late = []
    with pytest.raises(error):
        work()
    assert wiped(terminal.getvalue())
    shown = terminal.getvalue()
    late[0](2, 2)  # a thread that has not heard of the interrupt
    assert terminal.getvalue() == shown


def test_what_is_quick_needs_no_bar_unless_asked_for(monkeypatch) -> None:
    terminal = watch(monkeypatch)
    for progress, drawn in ((None, False), (True, True)):
        with reporter(progress) as report:
            for done in range(3):
                report(done, 2)
        assert ("loading" in terminal.getvalue()) is drawn


def test_a_bar_starts_no_thread(monkeypatch) -> None:
    watch(monkeypatch)
    before = threading.active_count()
    with reporter(True) as report:
        report(1, 2)
        assert threading.active_count() == before


def test_nothing_is_written_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    for progress in (None, False):
        with reporter(progress) as report:
            report(1, 2)
    assert not stream.getvalue()


@pytest.mark.parametrize("before", [True, False], ids=["a bar was drawn", "no bar yet"])
def test_work_that_has_not_heard_of_the_end_draws_nothing(monkeypatch, before) -> None:
    terminal = watch(monkeypatch)
    with reporter(True, ANSWERED) as report:
        if before:
            report(1, 10)
    drawn = terminal.getvalue()
    report(5, 10)
    assert terminal.getvalue() == drawn
