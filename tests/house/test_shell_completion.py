"""Shells complete every command: options, choices, files, and the labels of the engine that is on the line."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import onnx
import pytest
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from small_engines import bytes_of, metadata_of

from gpcnn_deploy.spec import ModelSpec

ROOT = Path(__file__).parents[2]
SCRIPTS = dict(re.findall(r'^(gpcnn-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
SPEC = ModelSpec(height=2, width=2, conditioning="label", conditioning_size=4)
NAMES = ("cat", "cow", "red bag", "a,b")


def variable(script: str) -> str:
    """The variable that click's convention gives a script."""
    return f"_{script.upper().replace('-', '_')}_COMPLETE"


def command(script: str) -> click.Command:
    main = importlib.import_module(SCRIPTS[script]).main
    assert isinstance(main, click.Command)
    return main


def offered(script: str, line: list[str], begun: str) -> list[str]:
    complete = ShellComplete(command(script), {}, script, variable(script))
    return [item.value for item in complete.get_completions(line, begun)]


def test_all_commands_are_known() -> None:
    names = {"train", "export", "sample", "bench", "verify", "inspect", "doctor"}
    assert {f"gpcnn-{name}" for name in names} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_complete(script: str) -> None:
    names = [name for param in command(script).params for name in param.opts if name.startswith("--")]
    assert set(offered(script, [], "--")) >= set(names)
    if "--json" in names:
        assert offered(script, [], "--js") == ["--json"]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_every_shell_gets_a_script(script: str, shell: type[ShellComplete], monkeypatch: pytest.MonkeyPatch) -> None:
    if shell is BashComplete:  # asks bash for its version
        monkeypatch.setattr(BashComplete, "_check_version", lambda *_: None)
    source = shell(command(script), {}, script, variable(script)).source()
    assert variable(script) in source
    assert script in source


def ask(module: str, script: str, words: str, position: int, folder: Path) -> str:
    """What bash would be told, by a process as bash starts it."""
    program = f"from {module} import main; main(prog_name='{script}')"
    environment = {variable(script): "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_real_shell_is_told(tmp_path: Path) -> None:
    write_engine(tmp_path / "model.onnx")
    sample = ("gpcnn_runtime.commands.sample.cli", "gpcnn-sample")
    assert ask(*sample, "gpcnn-sample --stra", 1, tmp_path) == "plain,--strategy\n"
    assert ask(*sample, "gpcnn-sample --strategy ra", 2, tmp_path) == "plain,raster\n"
    assert ask(*sample, "gpcnn-sample --engine mo", 2, tmp_path) == "file,mo\n"
    assert ask(*sample, "gpcnn-sample --label c", 2, tmp_path) == "plain,cat\nplain,cow\n"
    assert ask("gpcnn_export.commands.verify.cli", "gpcnn-verify", "gpcnn-verify mod", 1, tmp_path) == "file,mod\n"
    assert (
        ask("gpcnn_export.commands.verify.cli", "gpcnn-verify", "gpcnn-verify --che", 1, tmp_path)
        == "plain,--checkpoint\n"
    )


def blocks_of_the_docs() -> list[str]:
    """The loops of docs/tools.md: bash, zsh, fish."""
    text = (ROOT / "docs" / "tools.md").read_text()
    return re.findall(r"^    for c in .*?^    (?:done|end)$", text, re.MULTILINE | re.DOTALL)


def test_the_docs_name_every_command_for_every_shell() -> None:
    blocks = blocks_of_the_docs()
    assert len(blocks) == 3
    for block in blocks:
        assert {script.removeprefix("gpcnn-") for script in SCRIPTS} <= set(
            re.findall(r"\w+", block.splitlines()[0].lower())
        )


def bash_version() -> tuple[int, ...]:
    done = subprocess.run(
        ["bash", "-c", "echo ${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}"], capture_output=True, text=True
    )
    return tuple(int(part) for part in done.stdout.split("."))


@pytest.mark.skipif(shutil.which("bash") is None or bash_version() < (4, 4), reason="needs bash 4.4")
def test_the_lines_for_bash_work(tmp_path: Path) -> None:
    for script, module in SCRIPTS.items():
        program = f"from {module} import main; main(prog_name='{script}')"
        (tmp_path / script).write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}"\n')
        (tmp_path / script).chmod(0o755)
    lines = blocks_of_the_docs()[0] + "\ncomplete -p\nCOMP_WORDS=(gpcnn-verify --che)\nCOMP_CWORD=1\n"
    lines += "_gpcnn_verify_completion gpcnn-verify\necho found ${COMPREPLY[@]}\n"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", lines], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.stderr == ""
    for script in SCRIPTS:
        assert f"_completion {script}\n" in done.stdout
    assert done.stdout.endswith("found --checkpoint\n")


def write_engine(path: Path, class_names: tuple[str, ...] = NAMES) -> Path:
    spec = SPEC if class_names else msgspec.structs.replace(SPEC, conditioning="none", conditioning_size=0)
    path.write_bytes(bytes_of(onnx.ModelProto(ir_version=10), metadata_of(spec, None, class_names)))
    return path


def test_labels_are_those_of_the_engine_on_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered("gpcnn-sample", ["--label"], "") == [*map(str, range(10)), "all"], "the zoo's default"
    write_engine(tmp_path / "model.onnx", ("dog", "eel", "fox", "gnu"))
    other = str(write_engine(tmp_path / "other.onnx"))
    assert offered("gpcnn-sample", ["--label"], "") == ["dog", "eel", "fox", "gnu", "all"]
    assert offered("gpcnn-sample", ["--engine", other, "--label"], "c") == ["cat", "cow"]
    assert offered("gpcnn-score", ["--engine", other, "--label"], "co") == ["cow"]
    # Behind a comma, without `all`; and by number where a shell would take the name apart.
    assert offered("gpcnn-sample", ["--engine", other, "--label"], "cat,") == ["cat,cat", "cat,cow", "cat,2", "cat,3"]
    plain = str(write_engine(tmp_path / "plain.onnx", ()))
    assert offered("gpcnn-sample", ["--engine", plain, "--label"], "") == []


@pytest.mark.parametrize("content", [b"", b"no engine", b"\xff" * 100])
def test_an_engine_that_cannot_be_read_offers_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    assert offered("gpcnn-sample", ["--engine", str(tmp_path / "bad.onnx"), "--label"], "") == []
