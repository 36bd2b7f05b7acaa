"""`~` is the home folder in every path of a command line, also behind `=`, where no shell puts it."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from small_engines import EMBEDDED, LABELLED, model_of, names_of

import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
from gpcnn_deploy.commands.outputs import OutputType
from gpcnn_deploy.commands.paths import PathType
from gpcnn_export.checkpoint_to_native import draft_model_file

ROOT = Path(__file__).parents[2]
SCRIPTS = dict(
    re.findall(r'^(gpcnn-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    for name, spec in {"label": LABELLED, "embedding": EMBEDDED}.items():
        (home / f"{name}.gpcnn").write_bytes(draft_model_file(model_of(spec, 1), names_of(spec)).content)
    np.save(home / "h.npy", np.random.default_rng(0).standard_normal((3, 5), np.float32))
    return home


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_path_of_every_command_is_of_these_types(script: str, home: Path) -> None:
    for param in importlib.import_module(SCRIPTS[script]).main.params:
        if isinstance(param.type, click.Path):
            assert isinstance(param.type, (PathType, OutputType)), param.opts
            assert param.type.convert("~/a.png", param, None) == home / "a.png", param.opts
            assert param.type.convert("a~.png", param, None) == Path("a~.png"), param.opts


def test_what_is_read_and_written_is_in_the_home_folder(home: Path) -> None:
    embedding = ["--engine=~/embedding.gpcnn", "--output-format=npz"]
    for arguments in (
        ["--engine=~/label.gpcnn", "--label=all", "-o~/sheet.png", "--json=~/s.json"],
        [*embedding, "--embedding=~/h.npy:1", "-o", "~/e.npz"],
        [*embedding, "--interpolate=~/h.npy:0,~/h.npy:2", "--count=3", "-o", "~/w.npz"],
    ):
        result = CliRunner().invoke(gpcnn_runtime.commands.sample.cli.main, arguments)
        assert result.exit_code == 0, result.output
    assert {"sheet.png", "s.json", "e.npz", "w.npz"} <= {path.name for path in home.iterdir()}
    with np.load(home / "e.npz") as drawn, np.load(home / "w.npz") as way:
        vectors = np.load(home / "h.npy")
        assert np.array_equal(drawn["embedding"], vectors[1:2])
        assert np.array_equal(way["embedding"][[0, 2]], vectors[[0, 2]])
    result = CliRunner().invoke(gpcnn_runtime.commands.inspect.cli.main, ["~/label.gpcnn", "--json=-"])
    assert json.loads(result.stdout)["path"] == str(home / "label.gpcnn")
    assert not list(Path().iterdir())
