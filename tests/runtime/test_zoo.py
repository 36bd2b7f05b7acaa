"""The zoo: `zoo:NAME` is an engine everywhere, a changed file is refused, and every model that ships is whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import LABELLED, NAMES, engine_bytes, model_of

import gpcnn_runtime.commands.bench.worker
import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
import gpcnn_runtime.commands.score.cli
from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EncoderParity, EngineMetadata, ParityReport, encoder_path
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.inspection import engine_metadata, inspect_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.zoo import catalogue as zoo
from gpcnn_runtime.zoo.card import Card, CardData, Consistency, Figure, Likelihood, Speed, Trained

PARITY = ParityReport(images=4, identical=4, near_ties=0, log_prob_error=1e-6, log_prob_tolerance=1e-4)
TWO_DRAWS = Figure(mean=81.25, std=0.0125)
SMALL = "mnist-small"


def card_of(name: str, files: dict[str, bytes]) -> Card:
    return Card(
        name=name,
        about="a small model for tests",
        data=CardData(name="mnist", source="http://yann.lecun.com/exdb/mnist/", licence="CC BY-SA 3.0"),
        recipe="mnist-conditional",
        trained=Trained(epochs=12.5, steps=15_000),
        checkpoint_digest="0" * 64,
        test_nll=Likelihood(
            nats_per_image=TWO_DRAWS,
            nats_per_pixel=Figure(mean=0.10363),
            bits_per_dim=Figure(mean=0.1495),
            draws=2,
            test_images=10_000,
            protocol="stochastic binarization, 2 draws",
        ),
        class_consistency=Consistency(samples=1000, accuracy=0.981, test_images=10_000, classifier_accuracy=0.994),
        parity=PARITY,
        speed=(
            Speed(batch=1, threads=1, ms_per_image=13.4, runs_on="ONNX Runtime 1.31.1, CPU", machine="a processor"),
        ),
        versions={"torch": "2.13.0"},
        files={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with the models mnist-conditional and mnist-small; the working folder is empty."""
    place = tmp_path / "zoo"
    place.mkdir()
    for seed, name in enumerate((zoo.DEFAULT, SMALL)):
        files = {f"{name}.gpcnn": draft_model_file(model_of(LABELLED, seed), NAMES).content}
        for file, content in files.items():
            (place / file).write_bytes(content)
        (place / f"{name}.json").write_bytes(msgspec.json.encode(card_of(name, files)))
    monkeypatch.setattr(zoo, "FOLDER", place)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


def run(command: object, *arguments: str | int) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sample(*arguments: str | int) -> Result:
    return run(gpcnn_runtime.commands.sample.cli.main, *arguments, "--scale", 1)


def drawn(path: Path, label: int) -> np.ndarray:
    with Sampler.load(path) as sampler:
        return sampler.sample(label).grid()


def picture(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def change(folder: Path, **fields: object) -> None:
    path = folder / f"{SMALL}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_model_is_drawn_from_by_its_name(folder: Path) -> None:
    result = sample("--engine", f"zoo:{SMALL}", "--label", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    np.testing.assert_array_equal(picture("sample.png"), drawn(folder / f"{SMALL}.gpcnn", 1))
    assert f"engine: zoo:{SMALL} (model file) on native engine " in result.stdout


def test_without_an_engine_the_default_draws_and_says_so(folder: Path) -> None:
    result = sample("--label", 2, "--json", "report.json")
    assert (result.exit_code, result.stderr) == (0, "")
    np.testing.assert_array_equal(picture("sample.png"), drawn(folder / f"{zoo.DEFAULT}.gpcnn", 2))
    told = f"engine: zoo:{zoo.DEFAULT} (model file, as no engine is in this folder) on native engine "
    assert told in result.stdout
    engine = json.loads(Path("report.json").read_text())["engine"]
    assert engine["path"] == f"zoo:{zoo.DEFAULT}"
    assert engine["digest"] == sha256(folder / f"{zoo.DEFAULT}.gpcnn")


def test_a_model_that_takes_no_picture_is_named_as_asked(folder: Path) -> None:
    for arguments in (("--like", "a.png"), ("--like", "a.png", "--engine", f"zoo:{zoo.DEFAULT}")):
        result = sample(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(
            f"Error: zoo:{zoo.DEFAULT} is conditioned on labels, not on the code of a picture"
        )


def test_a_model_in_the_folder_comes_first(folder: Path) -> None:
    Path("model.onnx").write_bytes(engine_bytes(LABELLED, 2, seed=7))
    result = sample("--label", 2)
    assert result.exit_code == 0
    np.testing.assert_array_equal(picture("sample.png"), drawn(Path("model.onnx"), 2))
    assert "engine: model.onnx (sampler, window 2) on " in result.stdout


def test_without_a_default_there_is_a_line(folder: Path) -> None:
    (folder / f"{zoo.DEFAULT}.json").unlink()
    result = sample("--label", 2)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: no engine in this folder (model.gpcnn, model.onnx, model.plan): name one with --engine, or make one: "
        "gpcnn-export\n"
    )


def test_scores_need_an_engine_that_was_named(folder: Path) -> None:
    """A likelihood under a model that nobody asked for would mislead."""
    Image.fromarray(np.zeros((6, 5), np.uint8)).save("a.png")
    result = run(gpcnn_runtime.commands.score.cli.main, "a.png")
    assert (result.exit_code, "no engine in this folder" in result.stderr) == (2, True)
    result = run(gpcnn_runtime.commands.score.cli.main, "a.png", "--engine", f"zoo:{SMALL}", "--json", "scores.json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("scores.json").read_text())["engine"]["path"] == f"zoo:{SMALL}"


def test_benchmarks_take_a_name(folder: Path) -> None:
    job = gpcnn_runtime.commands.bench.worker.BenchJob(engine=f"zoo:{SMALL}", batch=2, repeat=1, min_time=0)
    measured = gpcnn_runtime.commands.bench.worker.measure(job, Path("images.npz"))
    assert (measured.role, measured.window, measured.spec) == ("weights", None, LABELLED)


def test_inspection_shows_the_card(folder: Path) -> None:
    found = inspect_engine(f"zoo:{SMALL}")
    assert (found.path, found.kind, found.spec) == (f"zoo:{SMALL}", "native", LABELLED)
    assert found.card == zoo.read_card(SMALL)
    assert engine_metadata(Path(f"zoo:{SMALL}")).class_names == NAMES
    result = run(gpcnn_runtime.commands.inspect.cli.main, f"zoo:{SMALL}")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    for line in (
        "about a small model for tests",
        "data mnist (CC BY-SA 3.0), http://yann.lecun.com/exdb/mnist/",
        "recipe gpcnn-train --recipe mnist-conditional",
        "trained 12.5 epochs, 15,000 steps",
        "test NLL 81.25 ± 0.01 nats/image, 0.10363 nats/pixel, 0.1495 bits/dim",
        "protocol 10,000 test images, stochastic binarization, 2 draws",
        "consistency 98.1% of 1,000 samples are taken for their class by a classifier that takes 99.4% of 10,000",
        "speed 13.4 ms an image in batches of 1, 1 thread: ONNX Runtime 1.31.1, CPU, a processor",
    ):
        assert line in told, line


@pytest.mark.parametrize("name", ["nothing", "", "../zoo/mnist-small", "mnist-small.gpcnn", "MNIST-SMALL"])
def test_an_unknown_name_lists_those_there_are(folder: Path, name: str) -> None:
    expected = f"zoo:{name}: no such model in the zoo; there are: zoo:{zoo.DEFAULT}, zoo:{SMALL}"
    result = sample("--engine", f"zoo:{name}")
    assert (result.exit_code, result.stderr) == (2, f"Error: {expected}\n")
    with pytest.raises(UsageError, match="no such model in the zoo"):
        zoo.resolve_engine(f"zoo:{name}")


def test_an_empty_zoo_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "nowhere")
    assert zoo.names() == []
    with pytest.raises(UsageError, match=r"zoo:x: no such model in the zoo; the zoo is empty"):
        zoo.resolve_engine("zoo:x")


def test_other_paths_stay_what_they_are(folder: Path) -> None:
    for path in ("model.onnx", "zoo", "a/zoo:b", f"./zoo:{SMALL}"):
        assert str(zoo.resolve_engine(path)) == path.removeprefix("./") or path.startswith("./")
    assert zoo.engine_name(Path("a/b.onnx")) == "a/b.onnx"
    assert zoo.engine_name(zoo.resolve_engine(f"zoo:{SMALL}")) == f"zoo:{SMALL}"


def refused(message: str) -> None:
    with pytest.raises(EngineError) as caught:
        zoo.resolve_engine(f"zoo:{SMALL}")
    assert message in str(caught.value)
    result = sample("--engine", f"zoo:{SMALL}", "--label", 0)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert not Path("sample.png").exists()


def test_a_changed_or_missing_file_is_refused_before_it_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("gpcnn_runtime.engines.native.load.load_native_engine", loaded)
    engine = folder / f"{SMALL}.gpcnn"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    refused("of its card: it was changed or exchanged; install gpcnn-deploy anew")
    engine.write_bytes((folder / f"{zoo.DEFAULT}.gpcnn").read_bytes())
    refused("it was changed or exchanged")
    engine.unlink()
    refused(f"{SMALL}.gpcnn: cannot be read (No such file or directory): install gpcnn-deploy anew")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": 2}, "written with card schema 2, this version reads up to 1: pip install --upgrade"),
        ({"name": "other"}, "is not the card of mnist-small, with its files"),
        ({"files": {}}, "is not the card of mnist-small, with its files"),
        ({"files": {"mnist-small.gpcnn": "0", "../x.onnx": "0"}}, "is not the card of mnist-small, with its files"),
        ({"files": {"mnist-small.gpcnn": "0" * 64}}, "of its card: it was changed or exchanged"),
        ({"test_nll": None}, "the card is damaged"),
        ({"data": {"name": "mnist"}}, "the card is damaged"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(folder: Path, fields: dict[str, object], message: str) -> None:
    change(folder, **fields)
    refused(message)


@pytest.mark.parametrize("text", [b"", b"not json", b"[]", b"[" * 100_000, b"\xff\xfe", b'"' + b"x" * (1 << 20) + b'"'])
def test_a_card_that_is_none_is_refused(folder: Path, text: bytes) -> None:
    (folder / f"{SMALL}.json").write_bytes(text)
    refused(f"{SMALL}.json: ")


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.main()
    assert capsys.readouterr().out == (
        f"zoo:{zoo.DEFAULT}  a small model for tests\nzoo:{SMALL}  a small model for tests\n"
    )


# The models that ship.

SHIPPED = zoo.names()


def test_there_is_a_card_for_every_file() -> None:
    files = {path.name for path in zoo.FOLDER.iterdir()} - {"README.md"}
    described = {file for name in SHIPPED for file in (*zoo.read_card(name).files, f"{name}.json")}
    assert files == described


def test_the_zoo_has_each_kind_of_model() -> None:
    assert {"mnist-conditional", "mnist-unconditional", "mnist-autoencoder"} <= set(SHIPPED)
    assert zoo.DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_that_ships_is_what_its_card_says(name: str) -> None:
    card = zoo.read_card(name)
    zoo.check_files(card)
    path = zoo.resolve_engine(f"zoo:{name}")
    assert card.about
    assert card.data.licence
    assert card.data.source
    assert card.test_nll.protocol
    assert 0 < card.test_nll.nats_per_image.mean < 1e4
    assert card.test_nll.draws >= 1
    with Sampler.load(path, threads=1) as sampler:
        metadata: EngineMetadata = sampler.metadata
        assert (metadata.role, metadata.checkpoint_digest) == ("weights", card.checkpoint_digest)
        assert (metadata.parity, metadata.tools) == (card.parity, card.versions)
        assert card.parity.identical + card.parity.near_ties == card.parity.images
        drawn = sampler.sample(**_condition(sampler), seed=1)
        spec: ModelSpec = metadata.spec
        assert drawn.levels.shape == (1, *spec.image_shape)
        assert 0 < -drawn.log_likelihood()[0] < 4 * card.test_nll.nats_per_image.mean
        per_pixel = card.test_nll.nats_per_image.mean / (spec.height * spec.width)
        assert card.test_nll.nats_per_pixel.mean == pytest.approx(per_pixel)
        assert (metadata.encoder_digest is not None) == (encoder_path(path).name in card.files)
        assert (card.encoder_parity is not None) == (encoder_path(path).name in card.files)


def _condition(sampler: Sampler) -> dict[str, object]:
    spec = sampler.metadata.spec
    if spec.conditioning == "label":
        return {"labels": 0}
    if spec.conditioning == "none":
        return {}
    with Encoder.beside(sampler.engine) as encoder:
        parity: EncoderParity | None = encoder.metadata.encoder_parity
        assert parity is not None
        assert parity.embedding_error <= parity.embedding_tolerance
        return {"embedding": encoder.embed(np.zeros((1, *spec.image_shape), np.int32))}
