"""Every option that names a result is checked before the work, in every command."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.commands.outputs import OUTPUT_FILE, OUTPUT_FOLDER, OutputType

COMMANDS = {
    script.name: script
    for script in importlib.metadata.entry_points(group="console_scripts")
    if script.name.startswith("gpcnn-")
}
INPUTS = {"checkpoint", "engine_path", "picture", "likes", "mask_path", "threshold_path", "background_path", "init"}
INPUTS |= {
    "engine",
    "source",
    "pictures",
    "data_dir",
    "resume",
    "beside",
    "embeddings_path",
    "parts",
    "maps_path",
    "small",
}


def options() -> list[tuple[str, str, str]]:
    """(command, option, kind) of every result."""
    found = []
    for name, script in sorted(COMMANDS.items()):
        for param in script.load().params:
            if isinstance(param.type, OutputType):
                found.append((name, param.opts[0], param.type.kind))
    return found


def test_every_path_of_every_command_is_an_input_or_a_checked_output() -> None:
    assert len(COMMANDS) == 10
    for name, script in COMMANDS.items():
        for param in script.load().params:
            if isinstance(param.type, click.Path) and not isinstance(param.type, OutputType):
                assert param.name in INPUTS, f"{name} {param.opts}: an output? then give it an OutputType"
    assert len(options()) >= 9 + 5  # --json of each, and -o, --csv, --save, --heatmap, --out


@pytest.mark.parametrize(("command", "option", "kind"), options())
def test_what_cannot_be_written_is_refused_before_the_work(
    command: str, option: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    main = COMMANDS[command].load()
    # Nothing that the work needs is there: an error about it would come after that about the place of the result.
    rest = {
        "gpcnn-bench": ["nothing.onnx"],
        "gpcnn-verify": ["nothing.onnx", "--checkpoint", "nothing"],
        "gpcnn-inspect": ["nothing.onnx"],
        "gpcnn-score": ["nothing.png", "--engine", "nothing.onnx", "--calibrate"],
        "gpcnn-sample": ["--engine", "nothing.onnx"],
        "gpcnn-join": ["nothing.npz"],
        "gpcnn-export": ["nothing.safetensors"],
        "gpcnn-train": ["--data", "nothing"],
    }.get(command, [])
    names = {"file": "file/below", "folder": "file", "either": "file/below"}
    place = names[kind] + (".onnx" if command == "gpcnn-export" and option == "-o" else "")
    result = CliRunner().invoke(main, [*rest, option, place])
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    assert "cannot write" in result.stderr
    assert place in result.stderr
    assert f"with {option}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@click.command(cls=Command)
@click.option("--one", type=OUTPUT_FILE)
@click.option("--two", type=OUTPUT_FILE)
@click.option("--folder", type=OUTPUT_FOLDER)
def command(one: Path | None, two: Path | None, folder: Path | None) -> None:
    click.echo(f"worked {one} {two} {folder}")


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_has_many_names(name: str) -> None:
    assert CliRunner().invoke(command, ["--one", name]).stdout == "worked - None None\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--one", "x", "--two", "./x"], 2, "--one and --two both name x: name two files"),
        (["--one", "-", "--two", "/dev/stdout"], 2, "--one and --two both name -: name two files"),
        (["--folder", "-"], 2, "--folder - is standard output, which holds no folder: name a folder"),
        (["--one", "there"], 1, "cannot write there: it is a folder; name a file with --one"),
    ],
)
def test_places_that_contradict(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stderr) == (code, f"Error: {message}\n")


def test_a_device_takes_several_results() -> None:
    assert CliRunner().invoke(command, ["--one", "/dev/null", "--two", "/dev/null"]).exit_code == 0
