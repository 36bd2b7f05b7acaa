"""The page of `gpcnn-export --format web`, open in a browser of Playwright."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from gpcnn_runtime.commands.sample.cli import main as sample

DRAWN = "#chosen:not([hidden])"


class Opened:
    """A context: the page of a server, and no complaint of it until the end."""

    def __init__(self, browser: Any, served: Any, address: str = "", **options: Any) -> None:
        self.served, self.address = served, address
        self.context = browser.new_context(**options)
        self.problems: list[str] = []

    def __enter__(self) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self.look)
        page.goto(self.served.url + self.address)
        page.wait_for_selector(DRAWN)
        return page

    def hear(self, line: Any) -> None:
        ours = "getImageData" in line.text  # these tests read pixels back
        if line.type in ("error", "warning") and not ours:
            self.problems.append(line.text)

    def look(self, request: Any) -> None:
        if not request.url.startswith((self.served.url, "blob:", "data:")):
            self.problems.append(f"asked {request.url}")

    def __exit__(self, kind: Any, *exception: Any) -> None:
        self.context.close()
        if kind is None:
            assert self.problems == []


def until(page: Any, expression: str) -> None:
    """Wait for a JavaScript expression to be true. Playwright's own would need `eval`, which the page forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"not within 30 s: {expression}")


def told(*arguments: str) -> dict[str, Any]:
    """What gpcnn-sample --json - tells."""
    result = CliRunner().invoke(sample, list(arguments))
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report
