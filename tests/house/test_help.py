"""Help texts: what every command has, and how an option is described."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
SCRIPTS = dict(
    re.findall(r'^(gpcnn-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
)
every_command = pytest.mark.parametrize("script", SCRIPTS)


def command(script: str) -> click.Command:
    found = importlib.import_module(SCRIPTS[script]).main
    assert isinstance(found, click.Command)
    return found


@every_command
def test_every_command_has_these_options(script: str) -> None:
    names = {name for param in command(script).params for name in param.opts}
    assert {"--json", "--version"} <= names


@every_command
def test_help_says_what_it_does_in_a_sentence(script: str) -> None:
    """The first paragraph is one sentence, with its full stop."""
    text = (command(script).help or "").strip()
    first = " ".join(text.split("\n\n")[0].split())
    assert re.fullmatch(r"[A-Z][^.]*(\.\w[^.]*)*\.( Nothing in it is run\.)?", first), first


@every_command
def test_every_option_is_described_in_sentences(script: str) -> None:
    """No riddles such as "Of the samples.": an option's help begins with a word of its own and ends with a stop."""
    poor = []
    for param in command(script).params:
        if not isinstance(param, click.Option) or param.opts[0] in ("--version", "--help"):
            continue
        text = re.sub(r"\s*\[default: [^\]]*\]", "", param.help or "").strip()
        if not text.endswith((".", ")")) or text.startswith(("Of ", "With ", "(")) or len(text) < 12:
            poor.append(f"{param.opts[0]}: {text}")
    assert poor == []


@every_command
def test_help_is_shown(script: str) -> None:
    for option in ("-h", "--help"):
        told = CliRunner().invoke(command(script), [option])
        assert told.exit_code == 0
        assert told.stdout.startswith("Usage: ")
