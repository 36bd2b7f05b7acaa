"""What a command writes to a terminal, a pipe or nowhere: results are guarded, what is said beside them is not work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import click, sys
from gpcnn_deploy.commands.command import Command, say

@click.command(cls=Command)
def main():
    {body}
    open("done", "w").close()

main([], prog_name="it")
"""
FULL = Path("/dev/full")


def run(folder: Path, body: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose function is `body`, with `shell` behind it, such as `| true`."""
    (folder / "program.py").write_text(COMMAND.format(body=body))
    line = f"set -o pipefail; '{sys.executable}' program.py {shell}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="latin-1" if environment else "utf-8",
        check=False,
        env=os.environ | environment,
        timeout=60,
    )


SAY_MUCH = "[click.echo('progress ' * 100, err=True) for _ in range(2000)]"


@pytest.mark.parametrize("shell", ["2>&1 | true", "2>&-", "2>/dev/full", "2>&- >&-"])
def test_what_is_said_beside_the_work_ends_nothing(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, SAY_MUCH, shell)
    assert (tmp_path / "done").exists(), done.stderr
    assert done.returncode == 0, done.stderr


def test_progress_of_rich_ends_nothing_either(tmp_path: Path) -> None:
    body = (
        "from gpcnn_deploy.commands import console as c; [c.console(True).print('progress ' * 99) for _ in range(500)]"
    )
    done = run(tmp_path, body, "2>&1 | true")
    assert (tmp_path / "done").exists(), done.stderr
    assert done.returncode == 0


def test_words_about_a_saved_result_may_find_no_reader(tmp_path: Path) -> None:
    done = run(tmp_path, "[say(None, 'saved ' * 1000) for _ in range(100)]", "| true")
    assert (tmp_path / "done").exists(), done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_a_result_that_nobody_reads_any_more_ends_the_command_quietly(tmp_path: Path) -> None:
    done = run(tmp_path, "[click.echo('result ' * 1000) for _ in range(1000)]", "| true")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("body", ["click.echo('result')", "print('result')", "sys.stdout.write('result')"])
def test_a_result_that_finds_no_space_is_one_line(tmp_path: Path, body: str) -> None:
    done = run(tmp_path, body, ">/dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: cannot write to standard output: No space left on device; send it to another place\n"
    )


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_so_is_a_help_text(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(COMMAND.format(body="pass").replace("main([]", "main(['--help']"))
    line = f"'{sys.executable}' program.py > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write to standard output: No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437"])
def test_a_terminal_without_the_signs_gets_others(tmp_path: Path, encoding: str) -> None:
    body = "click.echo('28×28 … – 日本'); click.echo('warn … 日本', err=True)"
    done = run(tmp_path, body, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "28" in done.stdout
    assert "?" in done.stdout


def test_a_table_for_a_terminal_that_is_not_utf8_has_plain_lines(tmp_path: Path) -> None:
    body = (
        "from rich.table import Table; from rich.box import SIMPLE; from gpcnn_deploy.commands.console import console;"
        "t = Table('a', box=SIMPLE); t.add_row('1'); console().print(t)"
    )
    plain = run(tmp_path, body, PYTHONIOENCODING="latin-1").stdout
    assert "?" not in plain
    assert plain.isascii()
    assert "─" in run(tmp_path, body).stdout


def test_names_that_are_not_utf8_are_told(tmp_path: Path) -> None:
    body = "import os; click.echo(os.fsdecode(b'caf\\xe9')); click.echo(os.fsdecode(b'caf\\xe9'), err=True)"
    done = run(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf?\n", "caf\\udce9\n")
