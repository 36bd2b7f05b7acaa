"""`gpcnn-sample --like`: it draws what eager PyTorch draws under the picture's code; what is wrong is one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import (
    EMBEDDED,
    LABELLED,
    PLAIN,
    Make,
    add_metadata,
    bytes_of,
    encoder_bytes_of,
    engine_bytes_of,
    metadata_of,
    model_of,
)

import gpcnn_runtime.commands.score.cli
from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata, encode_metadata
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import grid, pixels_from_levels
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.graphs.encoder import encoder_graph
from gpcnn_runtime.commands.sample.cli import main
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import log_probability, sample_cached

SPEC = ModelSpec(
    height=6, width=5, levels=4, features=6, layers=3, head_features=8, conditioning="embedding", conditioning_size=5
)
ENCODER = EncoderSpec(features=(4, 5, 6))


@pytest.fixture(scope="module")
def model() -> GatedPixelCNN:
    return model_of(SPEC, 1, encoder=ENCODER)


def engine_bytes(model: GatedPixelCNN, window: int | None, digest: str | None) -> bytes:
    return engine_bytes_of(model, window, encoder_digest=digest)


@pytest.fixture(scope="module")
def files(model: GatedPixelCNN) -> dict[str, bytes]:
    encoder = encoder_bytes_of(model)
    digest = hashlib.sha256(encoder).hexdigest()
    return {
        "model.encoder.onnx": encoder,
        "model.onnx": engine_bytes(model, 2, digest),
        "step.encoder.onnx": encoder,
        "step.onnx": engine_bytes(model, None, digest),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Path:
    """Both engines, their encoders, and pictures a.png and b.png of levels that `levels_of` gives."""
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in "ab":
        Image.fromarray(pixels_from_levels(levels_of(name), SPEC.levels)[0]).save(tmp_path / f"{name}.png")
    return tmp_path


def levels_of(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name)).integers(0, SPEC.levels, SPEC.image_shape, np.int32)


def eager(model: GatedPixelCNN, names: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(levels, log_prob) that eager PyTorch draws, `count` images under the code of each picture."""
    with torch.no_grad():
        codes = model.embed(torch.from_numpy(np.stack([levels_of(name) for name in names])))
        uniforms = torch.from_numpy(noise(SPEC, seed, len(names) * count))
        levels, log_prob = sample_cached(model, uniforms, codes.repeat_interleave(count, 0))
    return levels.numpy(), log_prob.numpy()


def run(*arguments: str | Path | int) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in (*arguments, "--scale", 1)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: str | Path | int) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fails(code: int, message: str, *arguments: str | Path | int) -> None:
    before = set(Path().iterdir())
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert set(Path().iterdir()) == before


def picture(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def sheet(levels: np.ndarray, columns: int) -> np.ndarray:
    return grid(pixels_from_levels(levels.reshape(-1, *SPEC.image_shape), SPEC.levels), columns)


def test_embeddings_are_the_eager_ones(folder: Path, model: GatedPixelCNN) -> None:
    levels = np.random.default_rng(0).integers(0, SPEC.levels, (150, *SPEC.image_shape))
    with Encoder.load("model.encoder.onnx") as encoder:
        found = encoder.embed(levels)  # more than one batch
        alone = encoder.embed(levels[77:78])
    with torch.no_grad():
        wanted = model.embed(torch.from_numpy(levels)).numpy()
    assert (found.dtype, found.shape) == (np.float32, (150, 5))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone[0], wanted[77], rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["model.onnx", "step.onnx"])
def test_one_picture_then_what_eager_pytorch_draws_of_its_code(folder: Path, model: GatedPixelCNN, engine: str) -> None:
    told = ok("--engine", engine, "--like", "a.png", "--count", 3, "--seed", 8)
    drawn, _ = eager(model, "a", 3, seed=8)
    np.testing.assert_array_equal(picture("sample.png"), sheet(np.concatenate([levels_of("a")[None], drawn]), 10))
    assert told.startswith("sample.png: 3 images of 6×5 like a.png, in ")


def test_the_code_decides_what_is_drawn(folder: Path, model: GatedPixelCNN) -> None:
    assert not np.array_equal(eager(model, "a", 4)[0], eager(model, "b", 4)[0])
    ok("--like", "a.png", "-o", "a4.png")
    ok("--like", "b.png", "-o", "b4.png")
    for name in "ab":
        wanted = np.concatenate([levels_of(name)[None], eager(model, name, 4)[0]])
        np.testing.assert_array_equal(picture(f"{name}4.png"), sheet(wanted, 10))


def test_several_pictures_begin_a_row_each(folder: Path, model: GatedPixelCNN) -> None:
    told = ok("--like", "a.png", "--like", "b.png", "--count", 2)
    drawn = eager(model, "ab", 2)[0].reshape(2, 2, *SPEC.image_shape)
    rows = [np.concatenate([levels_of(name)[None], images]) for name, images in zip("ab", drawn, strict=True)]
    np.testing.assert_array_equal(picture("sample.png"), sheet(np.stack(rows), 3))
    assert told.startswith("sample.png: 4 images of 6×5 like 2 pictures, in ")


def test_one_image_each_lies_below_its_picture(folder: Path, model: GatedPixelCNN) -> None:
    ok("--like", "b.png", "--like", "a.png", "--like", "b.png", "--count", 1)
    drawn = eager(model, "bab", 1)[0]
    wanted = np.stack([np.stack([levels_of(name) for name in "bab"]), drawn])
    np.testing.assert_array_equal(picture("sample.png"), sheet(wanted, 3))


def test_many_images_of_one_picture_make_a_sheet(folder: Path) -> None:
    ok("--like", "a.png", "--count", 25)
    assert picture("sample.png").shape == (3 * (6 + 2) + 2, 10 * (5 + 2) + 2)


def test_npz_holds_pictures_codes_and_images(folder: Path, model: GatedPixelCNN) -> None:
    arguments = ("--like", "a.png", "--like", "b.png", "--count", 3, "--output-format", "npz")
    ok(*arguments)
    levels, log_prob = eager(model, "ab", 3)
    with np.load("samples.npz") as archive:
        np.testing.assert_array_equal(archive["levels"], levels)
        np.testing.assert_allclose(archive["log_prob"], log_prob, atol=1e-4)
        np.testing.assert_array_equal(archive["original"], np.stack([levels_of("a"), levels_of("b")]))
        assert archive["embedding"].shape == (2, 5)
        job = json.loads(str(archive["job"]))
    assert (job["likes"], job["labels"]) == (2, None)
    assert "6 of them drawn before" in ok(*arguments)
    fails(1, "samples.npz holds another job (its likes is 2, asked for 1)", *arguments[:2], *arguments[4:])
    fails(1, "samples.npz holds another job (its like digest is", "--like", "b.png", "--like", "b.png", *arguments[4:])


def test_png_folder_goes_on_where_it_stopped(folder: Path, model: GatedPixelCNN) -> None:
    arguments = ("--like", "a.png", "--like", "b.png", "--count", 2, "--output-format", "png")
    ok(*arguments)
    names = [f"00000{k}.png" for k in range(4)]
    assert sorted(p.name for p in Path("samples").glob("*.png")) == names
    for name, levels in zip(names, eager(model, "ab", 2)[0], strict=True):
        np.testing.assert_array_equal(picture(f"samples/{name}"), pixels_from_levels(levels, SPEC.levels)[0])
    Path("samples", names[2]).unlink()
    assert "3 of them drawn before" in ok(*arguments)
    np.testing.assert_array_equal(
        picture(f"samples/{names[2]}"), pixels_from_levels(eager(model, "ab", 2)[0][2], SPEC.levels)[0]
    )


def test_json_names_the_pictures(folder: Path, model: GatedPixelCNN) -> None:
    report = json.loads(ok_json("--like", "a.png", "--like", "b.png", "--count", 2, "--json", "-"))
    assert (report["like"], report["count"], report["labels"]) == (["a.png", "b.png"], 2, None)
    nats = -eager(model, "ab", 2)[1].sum((1, 2, 3))
    np.testing.assert_allclose([image["nats"] for image in report["images"]], nats, atol=1e-3)


def ok_json(*arguments: str | int) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_completion_is_drawn_under_the_code(folder: Path, model: GatedPixelCNN) -> None:
    ok("--like", "b.png", "--complete", "a.png", "--rows", 3, "--output-format", "npz", "-o", "c.npz")
    with torch.no_grad():
        code = model.embed(torch.from_numpy(levels_of("b")[None])).numpy()
    kept = np.zeros(SPEC.image_shape, np.bool_)
    kept[:, :3] = True
    with Sampler.load("model.onnx") as sampler:
        drawn = sampler.sample(count=4, known=levels_of("a"), mask=kept, embedding=code)
    with np.load("c.npz") as archive:
        order = archive["positions"]
        np.testing.assert_array_equal(archive["levels"], drawn.levels[order])


def score(*arguments: str | int) -> Result:
    return CliRunner().invoke(gpcnn_runtime.commands.score.cli.main, [str(argument) for argument in arguments])


def test_scores_are_those_under_a_pictures_own_code(folder: Path, model: GatedPixelCNN) -> None:
    result = score("a.png", "b.png", "--json", "scores.json", "--heatmap", "heat")
    assert result.exit_code == 0, result.stderr
    report = json.loads(Path("scores.json").read_text())
    levels = torch.from_numpy(np.stack([levels_of("a"), levels_of("b")]))
    with torch.no_grad():
        eager = -log_probability(model(levels, model.embed(levels)), levels).sum((1, 2, 3)).numpy()
    np.testing.assert_allclose([row["nats"] for row in report["pictures"]], eager, atol=1e-3)
    assert report["own_code"] is True
    assert "scored under its own code: p(x | h(x)) of the autoencoder, not p(x)." in " ".join(result.stdout.split())
    assert len(list(Path("heat").iterdir())) == 2


def test_scores_need_the_encoder(folder: Path) -> None:
    Path("model.encoder.onnx").unlink()
    result = score("a.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: model.encoder.onnx: no such file, but model.onnx needs it")
    result = score("a.png", "--engine", "step.onnx", "--label", 3)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not on labels: leave --label out" in result.stderr


def test_pictures_that_do_not_fit_are_converted_when_asked(folder: Path, model: GatedPixelCNN) -> None:
    large = pixels_from_levels(levels_of("a"), SPEC.levels)[0].repeat(4, 0).repeat(4, 1)
    Image.fromarray(255 - large).save("large.png")
    fails(1, "large.png: is 20×24 8-bit grey; the model takes 5×6 8-bit grey", "--like", "large.png")
    ok("--like", "large.png", "--resize", "--invert")
    wanted = np.concatenate([levels_of("a")[None], eager(model, "a", 4)[0]])
    np.testing.assert_array_equal(picture("sample.png"), sheet(wanted, 10))


def test_what_contradicts_or_is_missing_is_one_line(folder: Path, make: Make) -> None:
    fails(2, "model.onnx draws from the code of a picture: name one with --like PICTURE")
    fails(2, "draws from the code of a picture: name one with --like", "--complete", "a.png", "--rows", 3)
    fails(2, "--like and --label both say what to draw", "--like", "a.png", "--label", 3)
    fails(2, "this model is conditioned on the code of a picture, not on labels: leave --label out", "--label", 3)
    fails(2, "--complete draws from the code of one picture: name one with --like, not 2",
          *("--like", "a.png", "--like", "b.png", "--complete", "a.png", "--rows", 3))  # fmt: skip
    fails(1, "nowhere.png: no such file", "--like", "nowhere.png")
    fails(1, "model.onnx: is not a picture", "--like", "model.onnx")
    fails(2, "count is 0: expected at least 1", "--like", "a.png", "--count", 0)
    labelled, plain = make(LABELLED, 2), make(PLAIN, 3)
    fails(2, f"{labelled} is conditioned on labels, not on the code of a picture: draw with --label, not --like",
          "--engine", labelled, "--like", "a.png")  # fmt: skip
    fails(2, f"{plain} is conditioned on nothing, not on the code of a picture", "--engine", plain, "--like", "a.png")
    bare = make(EMBEDDED, 2)
    fails(2, f"{bare} has no encoder to read pictures with", "--engine", bare, "--like", "a.png")
    fails(2, f"{bare} draws from an embedding of 5 numbers: name a file of them with --embedding", "--engine", bare)
    fails(1, "model.encoder.onnx is an encoder, which draws nothing: name the engine beside it",
          "--engine", "model.encoder.onnx", "--like", "a.png")  # fmt: skip


def test_a_missing_or_exchanged_encoder_is_one_line(
    folder: Path, model: GatedPixelCNN, files: dict[str, bytes]
) -> None:
    encoder = folder / "model.encoder.onnx"
    encoder.unlink()
    fails(1, "model.encoder.onnx: no such file, but model.onnx needs it to encode pictures", "--like", "a.png")
    encoder.mkdir()
    fails(1, "model.encoder.onnx is a folder", "--like", "a.png")
    encoder.rmdir()
    other = encoder_bytes_of(model, checkpoint_digest="1" * 64)
    for content in (other, files["model.onnx"]):
        encoder.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        fails(1, f"model.encoder.onnx: its digest {digest[:12]}… is not the", "--like", "a.png")
    encoder.write_bytes(files["model.encoder.onnx"][:-1])
    fails(1, "model.encoder.onnx cannot be loaded as ONNX: truncated", "--like", "a.png")
    encoder.write_bytes(b"")
    fails(1, "model.encoder.onnx is empty", "--like", "a.png")


def hostile(model: GatedPixelCNN) -> dict[str, tuple[bytes, str]]:
    """Encoder files that an engine names by their digest all the same, and what is said about each."""
    assert model.encoder is not None

    def rebuilt(change: object) -> bytes:
        graph = encoder_graph(model.encoder, SPEC)  # type: ignore[arg-type]
        change(graph)  # type: ignore[operator]
        return bytes_of(graph, msgspec.structs.replace(metadata_of(SPEC, None), role="encoder"))

    def external(graph: onnx.ModelProto) -> None:
        tensor = graph.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"

    def infinite(graph: onnx.ModelProto) -> None:
        for tensor in graph.graph.initializer:
            if list(tensor.dims) == [SPEC.conditioning_size]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), tensor.name))

    def other_input(graph: onnx.ModelProto) -> None:
        graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 7

    def renamed(graph: onnx.ModelProto) -> None:
        graph.graph.node[-1].output[0] = graph.graph.output[0].name = "code"

    plain = encoder_graph(model.encoder, SPEC).SerializeToString()
    broken = json.loads(encode_metadata(metadata_of(SPEC, None))) | {"role": "encoder", "window": 3}
    return {
        "foreign": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG picture, no ONNX file"),
        "noise": (bytes(range(256)), "cannot be loaded as ONNX"),
        "truncated": (encoder_bytes_of(model)[:-700], "cannot be loaded as ONNX"),
        "external": (rebuilt(external), "keeps weights in other files"),
        "no metadata": (plain, "without gpcnn-deploy metadata"),
        "a sampler": (engine_bytes(model, 2, None), "is a sampler, no encoder"),
        "of another image": (rebuilt(other_input), "input 'image' is tensor(int32)"),
        "of another output": (rebuilt(renamed), "no output 'embedding'"),
        "not finite": (rebuilt(infinite), "or not finite; expected finite (1, 5)"),
        "with a window": (
            bytes(add_metadata(encoder_graph(model.encoder, SPEC), json.dumps(broken)).SerializeToString()),
            "role encoder with a window of 3",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("foreign", "noise", "truncated", "external", "no metadata", "a sampler", "of another image"),
        *("of another output", "not finite", "with a window"),
    ],
)
def test_a_hostile_encoder_is_one_line(folder: Path, model: GatedPixelCNN, case: str) -> None:
    content, message = hostile(model)[case]
    (folder / "model.encoder.onnx").write_bytes(content)
    (folder / "model.onnx").write_bytes(engine_bytes(model, 2, hashlib.sha256(content).hexdigest()))
    fails(1, message, "--like", "a.png")


def test_an_encoder_of_another_size_is_refused(folder: Path, model: GatedPixelCNN) -> None:
    spec = msgspec.structs.replace(SPEC, height=8)
    content = encoder_bytes_of(model_of(spec, encoder=ENCODER))
    (folder / "model.encoder.onnx").write_bytes(content)
    (folder / "model.onnx").write_bytes(engine_bytes(model, 2, hashlib.sha256(content).hexdigest()))
    fails(1, "model.encoder.onnx is for other images than model.onnx: export both anew", "--like", "a.png")


def test_python_border(folder: Path, make: Make) -> None:
    with Encoder.load(folder / "model.encoder.onnx") as encoder:
        good = np.zeros((1, *SPEC.image_shape), np.int32)
        for levels, message in [
            (good[0], r"levels have shape \[1, 6, 5\]: expected \[N, 1, 6, 5\]"),
            (good[:0], r"with N at least 1"),
            (good.astype(np.float32), "levels are float32"),
            (good - 1, "out of range: expected integers 0 to 3"),
            (good + 4, "out of range: expected integers 0 to 3"),
        ]:
            with pytest.raises(UsageError, match=message):
                encoder.embed(levels)
    with pytest.raises(EngineError, match="the encoder is closed"):
        encoder.embed(good)
    with pytest.raises(EngineError, match="is a sampler, no encoder"):
        Encoder.load(make(EMBEDDED, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": LABELLED, "class_names": ("a", "b", "c")}, "an encoder of a model conditioned on: label"),
        ({"encoder_digest": "0" * 64}, "an encoder for a model that takes no embeddings"),
        ({"window": 2}, "role encoder with a window of 2"),
    ],
)
def test_metadata_of_an_encoder_must_agree(change: dict[str, object], message: str) -> None:
    from gpcnn_deploy.metadata import decode_metadata

    metadata: EngineMetadata = msgspec.structs.replace(metadata_of(SPEC, None), role="encoder")
    assert decode_metadata(encode_metadata(metadata), "x") == metadata
    with pytest.raises(EngineError, match=message):
        decode_metadata(encode_metadata(msgspec.structs.replace(metadata, **change)), "x")
