"""Progress: one live bar on a terminal, plain lines elsewhere, and an honest time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.settings import duration


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gpcnn_training.trainer.display.time", clock)
    return clock


def test_plain_lines_come_now_and_then_without_control_codes(clock: Clock) -> None:
    stream = io.StringIO()
    with Display("training", Console(file=stream)) as display:
        for second in range(61):
            clock.now = 1000.0 + second
            display.update(0.2 + second / 100, f"{second} nats [bold]")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "training  30%  10 nats [bold]  1 min 10 s left"
    assert lines[-1] == "training  80%  60 nats [bold]  20 s left"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_live_bar() -> None:
    stream = io.StringIO()
    with Display("training", Console(file=stream, force_terminal=True, width=100)) as display:
        display.update(0.5, "94.50 nats/image")
    assert "\x1b" in stream.getvalue()
    assert "94.50 nats/image" in stream.getvalue()
    assert "50%" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (90, "1 min 30 s"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
