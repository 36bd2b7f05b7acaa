"""`gpcnn-export --format web`: what the folder holds, whose files it leaves alone, and what it needs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from small_engines import EMBEDDED, LABELLED, PLAIN, model_of, names_of, write_checkpoint

from gpcnn_deploy.errors import OutputError, UsageError
from gpcnn_deploy.model_file import read_model_file
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.export.cli import main
from gpcnn_export.commands.export.result import ExportResult
from gpcnn_export.site import MANIFEST, MODEL, Manifest, Site, make_site, refuse_place
from gpcnn_runtime.zoo.catalogue import FOLDER

ZOO = "zoo:mnist-unconditional"
BROWSER = Path(__file__).parents[2] / "runtime" / "browser"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--format", "web", *arguments])


def small_site() -> Site:
    return make_site(draft_model_file(model_of(PLAIN), ()).content, "small.gpcnn", "small", "small.gpcnn")


def test_the_folder_is_the_page_and_the_very_model_file() -> None:
    result = run(ZOO, "--json", "r.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Wrote site: a page of ")
    assert "Next: python3 -m http.server --bind 127.0.0.1 --directory site" in result.stdout
    assert Path("site", MODEL).read_bytes() == (FOLDER / "mnist-unconditional.gpcnn").read_bytes()
    manifest = msgspec.json.decode(Path("site", MANIFEST).read_bytes(), type=Manifest)
    assert (manifest.name, manifest.engine) == ("mnist-unconditional", ZOO)
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path("site").iterdir()}
    assert {**manifest.files, MANIFEST: there[MANIFEST]} == there
    told = msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult)
    assert told.output == "site"
    assert told.bytes == sum(path.stat().st_size for path in Path("site").iterdir()) <= 3_000_000


def test_every_file_that_the_page_names_is_there_and_none_is_elsewhere() -> None:
    """Nothing is fetched from other servers: no address but the namespace of SVG and of this page."""
    files = small_site().files
    for name, content in files.items():
        if name.endswith((".js", ".html", ".css", ".svg")):
            text = content.decode()
            for found in re.findall(
                r"""(?:from|import\(|URL\(|register\(|fetch\()\s*["'](?:\./)?([\w.-]+\.\w+)["']""", text
            ):
                assert found in files or found == MANIFEST, (name, found)
            for found in re.findall(r'(?:href|src)="([^"#]+)"', text):
                assert found in files, (name, found)
            assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, name


def test_a_checkpoint_is_exported_and_proven() -> None:
    write_checkpoint(Path("runs/one/checkpoint.safetensors"), model_of(LABELLED))
    result = run("-o", "page")
    assert result.exit_code == 0, result.output
    metadata, _ = read_model_file(Path("page", MODEL))
    assert metadata.class_names == names_of(LABELLED)
    assert metadata.parity is not None


def test_a_model_file_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; sys.modules.update({name: None for name in ('torch', 'safetensors', 'onnx', 'onnxruntime')})\n"
        f"from gpcnn_export.commands.export.cli import main; main(['{ZOO}', '--format', 'web'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Path("site", "index.html").is_file()


def test_a_second_export_replaces_the_first_and_leaves_other_files_alone() -> None:
    assert run(ZOO).exit_code == 0
    Path("site", "CNAME").write_text("example.org")
    ours = json.loads(Path("site", MANIFEST).read_text())
    Path("site", "old.js").write_text("old")  # of an earlier version
    ours["files"]["old.js"] = hashlib.sha256(b"old").hexdigest()
    Path("site", MANIFEST).write_text(json.dumps(ours))
    small_site().write(Path("site"))
    assert Path("site", MODEL).read_bytes() == small_site().files[MODEL]
    assert Path("site", "CNAME").read_text() == "example.org"
    assert not Path("site", "old.js").exists()
    assert sorted(refuse_place(Path("site"))) == sorted(small_site().files)


def test_an_interrupted_export_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    site = small_site()
    writes = 0

    def stopping(path: Path, content: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == 5:
            raise KeyboardInterrupt
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr("gpcnn_export.owned_folder.write_atomic", stopping)
        with pytest.raises(KeyboardInterrupt):
            site.write(Path("site"))
    site.write(Path("site"))
    assert {path.name for path in Path("site").iterdir()} == {*site.files, MANIFEST}


@pytest.mark.parametrize("theirs", ["index.html", "notes.txt", MANIFEST])
def test_a_folder_that_is_not_ours_stays_as_it_is(theirs: str) -> None:
    Path("site").mkdir()
    Path("site", theirs).write_text('{"files": {}}')
    result = run(ZOO)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "site has files, and none of them says that this command wrote them: name a new or an empty" in result.stderr
    assert [path.name for path in Path("site").iterdir()] == [theirs]


def test_a_file_that_was_edited_is_not_lost() -> None:
    assert run(ZOO).exit_code == 0
    Path("site", "style.css").write_text("body {}")
    result = run(ZOO)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "site/style.css was changed since it was exported, and would be lost: move it away" in result.stderr
    assert Path("site", "style.css").read_text() == "body {}"


def test_a_hostile_manifest_reaches_no_file_outside() -> None:
    Path("precious").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    Path("site").mkdir()
    Path("site", MANIFEST).write_bytes(
        msgspec.json.encode(Manifest(name="n", engine="e", files={"../precious": digest, "..": digest}))
    )
    with pytest.raises(OutputError, match="none of them says"):
        small_site().write(Path("site"))
    assert Path("precious").read_text() == "x"


def test_models_that_it_cannot_show() -> None:
    content = draft_model_file(model_of(EMBEDDED), ()).content
    with pytest.raises(UsageError, match=r"e\.gpcnn draws from the code of a picture, which a page cannot make"):
        make_site(content, "e.gpcnn", "e", "e.gpcnn")
    with pytest.raises(UsageError, match=r"large\.gpcnn has 300 MB: a page takes at most 268 MB"):
        make_site(bytes(300_000_000), "large.gpcnn", "large", "large.gpcnn")
    assert not Path("site").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        ((ZOO, "--window", "6"), 2, "--window goes with --format onnx or trt"),
        ((ZOO, "--graph", "step"), 2, "--graph goes with --format onnx or trt"),
        ((ZOO, "--precision", "fp16"), 2, "--precision goes with --format trt"),
        (("model.onnx",), 2, "model.onnx is an ONNX engine already"),
        (("zoo:none",), 2, "zoo:none: no such model in the zoo"),
        (("none.gpcnn",), 1, "none.gpcnn: no such file"),
        ((ZOO, "-o", "file"), 1, "file"),
        ((ZOO, "-o", "-"), 2, "standard output, which holds no folder"),
        ((ZOO, "-o", "x", "--json", "x"), 2, "-o and --json both name x"),
        (("broken.gpcnn",), 1, "broken.gpcnn is no model file, or cut short"),
    ],
)
def test_misuse_is_one_line(arguments: tuple[str, ...], code: int, match: str) -> None:
    Path("file").write_text("x")
    Path("broken.gpcnn").write_bytes(b"broken" * 5)
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    assert match in result.stderr
    assert not Path("site").exists()


def test_the_types_name_what_the_module_has() -> None:
    module, types = ((BROWSER / name).read_text("utf-8") for name in ("gpcnn.js", "gpcnn.d.ts"))
    exported = set(re.findall(r"^export (?:async )?(?:function|class) (\w+)", module, re.MULTILINE))
    exported |= set(re.split(r"[,\s]+", re.search(r"^export \{ (.*) \};", module, re.MULTILINE)[1]))  # type: ignore[index]
    declared = set(re.findall(r"^export (?:declare )?(?:function|class|interface) (\w+)", types, re.MULTILINE))
    assert exported <= declared
