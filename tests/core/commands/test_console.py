"""What people are shown: names as they are, beside results that go to standard output, and said in one place."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gpcnn_deploy import __version__
from gpcnn_deploy.commands import console
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.system.files import STDOUT

ROOT = Path(__file__).parents[3]
SCRIPTS = dict(re.findall(r'^(gpcnn-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
NAME = "[bold]runs[/bold]/:smile:.onnx"


@click.command(cls=Command)
@click.option("--to", "paths", multiple=True)
def shower(paths: tuple[str, ...]) -> None:
    table = console.table(NAME)
    table.add_column("a column as wide as the title")
    results = [Path(path) for path in paths]
    console.show(
        [table, console.facts(NAME, [(NAME, "a\x1b[31mb")]), f"{NAME} ends"], stderr=console.taken(None, *results)
    )


def test_names_are_shown_as_they_are() -> None:
    result = CliRunner().invoke(shower)
    assert result.exit_code == 0
    assert result.stdout.count(NAME) == 4
    assert "a�[31mb" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(("paths", "beside"), [(["a", "b"], False), (["a", str(STDOUT)], True)])
def test_people_read_stderr_where_a_result_takes_stdout(paths: list[str], beside: bool) -> None:
    result = CliRunner().invoke(shower, [text for path in paths for text in ("--to", path)])
    shown, other = (result.stderr, result.stdout) if beside else (result.stdout, result.stderr)
    assert shown.count(NAME) == 4
    assert other == ""


def test_a_bar_counts_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []

    def total() -> int:
        asked.append(1)
        return 7

    with console.progress("drawing", total) as advance:
        advance(3)
    assert (asked, capsys.readouterr().err) == ([], "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with console.progress("drawing", total, hidden=True) as advance:
        advance(3)
    assert (asked, capsys.readouterr().err) == ([], "")
    with console.progress("drawing", total) as advance:
        advance(7)
    assert asked == [1]
    shown = capsys.readouterr().err
    assert "drawing" in shown
    assert "7/7" in shown


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_tells_its_version(script: str) -> None:
    main = importlib.import_module(SCRIPTS[script]).main
    result = CliRunner().invoke(main, ["--version"], prog_name=script)
    assert (result.exit_code, result.stdout) == (0, f"{script}, version {__version__}\n")
    assert sum("--version" in param.opts for param in main.params) == 1


@pytest.mark.parametrize(
    "made", [r"\bConsole\(", r"[^_]\bTable\(", r"rich\.box", r"echo\(f?\"Warning: ", r"\b__import__\("]
)
def test_what_is_shown_is_made_in_one_place(made: str) -> None:
    packages = ("gpcnn_deploy", "runtime/gpcnn_runtime", "training/gpcnn_training", "export/gpcnn_export")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    found = {path.name for path in files if re.search(made, path.read_text(encoding="utf-8"))}
    assert found <= {"console.py"}
