"""`--embedding`, `--interpolate`, `gpcnn-score --embeddings`: what eager PyTorch draws, and one line for a mistake."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import EMBEDDED, LABELLED, PLAIN, encoder_bytes_of, engine_bytes_of, model_of, names_of

import gpcnn_runtime.commands.sample.cli
import gpcnn_runtime.commands.score.cli
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import grid, pixels_from_levels
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.commands.sample.given import Ways
from gpcnn_runtime.engines.native.label_vectors import with_vectors
from gpcnn_runtime.engines.native.load import native_engine
from gpcnn_runtime.interpolation import interpolate
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached, score

VECTORS = np.random.default_rng(7).standard_normal((4, EMBEDDED.conditioning_size)).astype(np.float32)


def native_bytes(spec: ModelSpec) -> bytes:
    return draft_model_file(model_of(spec, 1), names_of(spec)).content


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, spec in (("h", EMBEDDED), ("label", LABELLED), ("plain", PLAIN)):
        Path(f"{name}.gpcnn").write_bytes(native_bytes(spec))
    Path("h.onnx").write_bytes(engine_bytes_of(model_of(EMBEDDED, 1), 2))
    Path("label.onnx").write_bytes(engine_bytes_of(model_of(LABELLED, 1), 2))
    np.save("h.npy", VECTORS)
    np.save("one.npy", VECTORS[3])
    np.savez("both.npz", images=np.zeros((4, 4, 4), np.uint8), embeddings=VECTORS.astype(np.float64))
    return tmp_path


def eager(model: GatedPixelCNN, vectors: np.ndarray, streams: list[int], seed: int = 0) -> np.ndarray:
    """Levels that eager PyTorch draws, image k under vector k with the noise of stream k."""
    uniforms = torch.from_numpy(np.concatenate([noise(model.spec, seed, 1, stream) for stream in streams]))
    return sample_cached(model, uniforms, torch.from_numpy(vectors))[0].numpy()


def run(*arguments: object, score: bool = False) -> Result:
    command = (gpcnn_runtime.commands.score.cli if score else gpcnn_runtime.commands.sample.cli).main
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: object, score: bool = False) -> str:
    result = run(*arguments, score=score)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(code: int, message: str, *arguments: object, score: bool = False) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = run(*arguments, score=score)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("engine", ["h.gpcnn", "h.onnx"])
def test_images_under_vectors_are_those_of_eager_pytorch(folder: Path, engine: str) -> None:
    model = model_of(EMBEDDED, 1)
    asked = ("--embedding", "h.npy", "--embedding", "both.npz:1", "--embedding", "one.npy")
    report = json.loads(
        ok("--engine", engine, *asked, "--count", 2, "--output-format", "npz", "-o", "x.npz", "--json", "-")
    )
    assert (report["embeddings"], report["count"]) == (["h.npy", "both.npz:1", "one.npy"], 2)
    vectors = np.concatenate([VECTORS, VECTORS[1:2], VECTORS[3:]])
    with np.load("x.npz") as drawn:
        assert np.array_equal(drawn["embedding"], vectors)
        assert np.array_equal(drawn["levels"], eager(model, vectors.repeat(2, 0), list(range(12))))
        assert len({image.tobytes() for image in drawn["levels"]}) > 6
    fails(1, "holds another job", "--engine", engine, *asked[:2], "--count", 2, "--output-format", "npz", "-o", "x.npz")
    ok("--engine", engine, "--embedding", "h.npy", "--count", 2, "-o", "x.png", "--scale", 1)
    expected = grid(pixels_from_levels(eager(model, VECTORS.repeat(2, 0), list(range(8))), EMBEDDED.levels), 2)
    with Image.open("x.png") as sheet:
        assert np.array_equal(np.asarray(sheet), expected)


@pytest.mark.parametrize("engine", ["h.gpcnn", "h.onnx"])
def test_a_way_between_vectors_has_one_noise_and_each_way_its_own(folder: Path, engine: str) -> None:
    model = model_of(EMBEDDED, 1)
    ways = ("--interpolate", "h.npy:0,h.npy:2", "--interpolate", "one.npy,both.npz:1")
    ok("--engine", engine, *ways, "--count", 5, "--output-format", "npz", "-o", "x.npz", "--seed", 3)
    between = np.concatenate([np.linspace(a, b, 5) for a, b in ((VECTORS[0], VECTORS[2]), (VECTORS[3], VECTORS[1]))])
    with np.load("x.npz") as drawn:
        assert np.allclose(drawn["embedding"], between, atol=1e-6)
        assert np.array_equal(drawn["levels"], eager(model, drawn["embedding"], [0] * 5 + [1] * 5, 3))
    ok("--engine", engine, *ways, "--count", 5, "-o", "x.png", "--seed", 3, "--scale", 1)
    with Image.open("x.png") as sheet:  # a row for each way
        assert sheet.size[0] > 5 * EMBEDDED.width
        assert sheet.size[0] > sheet.size[1]
    ok("--engine", engine, *ways[:2], "--spherical", "--output-format", "npz", "-o", "y.npz", "--seed", 3)
    with np.load("y.npz") as drawn:
        assert len(drawn["levels"]) == 9  # the default
        assert np.array_equal(drawn["embedding"][[0, -1]], VECTORS[[0, 2]])
        assert not np.allclose(drawn["embedding"][4], VECTORS[[0, 2]].mean(0), atol=1e-3)


def test_labels_are_mixed_by_the_native_engine(folder: Path) -> None:
    with Sampler.load("label.gpcnn") as sampler:
        ends = [sampler.sample(label, 5).levels[0] for label in (0, 2)]
    ok(
        "--engine",
        "label.gpcnn",
        "--interpolate",
        "boot,bag, red",
        "--count",
        4,
        "--output-format",
        "npz",
        "-o",
        "x.npz",
        "--seed",
        5,
    )
    mixed = model_of(LABELLED, 1)
    table = mixed.condition_projection.weight.detach().numpy()
    with np.load("x.npz") as drawn:
        assert np.array_equal(drawn["embedding"], np.linspace([1, 0, 0], [0, 0, 1], 4).astype(np.float32))
        assert np.array_equal(drawn["levels"][[0, -1]], ends)
        vectors = torch.from_numpy(drawn["embedding"])
        levels = drawn["levels"]
    linear = GatedPixelCNN(msgspec.structs.replace(LABELLED, conditioning="embedding")).eval()
    state = {**mixed.state_dict(), "condition_projection.weight": torch.from_numpy(table.T.copy())}
    linear.load_state_dict(state)
    assert np.array_equal(levels, eager(linear, vectors.numpy(), [0] * 4, 5))
    fails(2, "cannot mix them", "--engine", "label.onnx", "--interpolate", "0,2")


def test_one_hot_vectors_have_the_very_bits_of_their_labels() -> None:
    engine = native_engine(Path("label.gpcnn"), native_bytes(LABELLED))
    with Sampler(engine, 1) as labels, Sampler(with_vectors(engine), 1) as vectors:
        asked = labels.sample([0, 1, 2], 2, 3, temperature=0.8)
        same = vectors.sample(embedding=np.eye(3, dtype=np.float32), seed=2, count=3, temperature=0.8)
    assert np.array_equal(asked.levels, same.levels)
    assert np.array_equal(asked.log_prob, same.log_prob)


def test_a_way_between_pictures_of_an_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = model_of(EMBEDDED, 1, encoder=EncoderSpec(features=(3, 3, 3)))
    encoder = encoder_bytes_of(model)
    Path("a.encoder.onnx").write_bytes(encoder)
    Path("a.onnx").write_bytes(engine_bytes_of(model, 2, encoder_digest=hashlib.sha256(encoder).hexdigest()))
    levels = np.random.default_rng(1).integers(0, 2, (2, *EMBEDDED.image_shape), np.int32)
    for name, one in zip("pq", levels, strict=True):
        Image.fromarray(pixels_from_levels(one, 2)[0]).save(f"{name}.png")
    ok("--engine", "a.onnx", "--interpolate", "p.png,q.png", "--count", 3, "-o", "x.png", "--scale", 1)
    codes = model.embed(torch.from_numpy(levels)).detach().numpy()
    drawn = eager(model, np.linspace(codes[0], codes[1], 3).astype(np.float32), [0] * 3)
    row = np.concatenate([levels[:1], drawn, levels[1:]])
    with Image.open("x.png") as sheet:
        assert np.array_equal(np.asarray(sheet), grid(pixels_from_levels(row, 2), 5))
    np.save("h.npy", VECTORS)
    fails(2, "some ends are pictures", "--engine", "a.onnx", "--interpolate", "p.png,q.png", "--interpolate",
          "h.npy:0,h.npy:1")  # fmt: skip
    ok("--engine", "a.onnx", "--embedding", "h.npy:1", "-o", "y.png")


@pytest.mark.parametrize("engine", ["h.gpcnn", "h.onnx"])
def test_scores_under_vectors_are_those_of_eager_pytorch(folder: Path, engine: str) -> None:
    model = model_of(EMBEDDED, 1)
    levels = np.random.default_rng(2).integers(0, 2, (4, *EMBEDDED.image_shape))
    np.savez("p.npz", test_images=levels[:, 0] * 255, images_of_others=1, test_embeddings=VECTORS)
    for file in ("h.npy", "p.npz"):
        ok("--engine", engine, "p.npz", "--embeddings", file, "--json", "s.json", score=True)
        rows = json.loads(Path("s.json").read_text())["pictures"]
        nats = -score(model, torch.from_numpy(levels), torch.from_numpy(VECTORS)).sum((1, 2, 3)).numpy()
        assert np.allclose([row["nats"] for row in rows], nats, atol=1e-3)
    ok("--engine", engine, "p.npz", "--embeddings", "one.npy", "--json", "s.json", score=True)
    rows = json.loads(Path("s.json").read_text())["pictures"]
    nats = -score(model, torch.from_numpy(levels), torch.from_numpy(VECTORS[[3] * 4])).sum((1, 2, 3)).numpy()
    assert np.allclose([row["nats"] for row in rows], nats, atol=1e-3)


def test_mistakes_are_one_line_and_nothing_is_written(folder: Path) -> None:
    np.save("ints.npy", np.zeros((2, 5), np.int64))
    np.save("wide.npy", np.zeros((2, 6), np.float32))
    np.save("nan.npy", np.full((2, 5), np.nan))
    np.save("empty.npy", np.zeros((0, 5)))
    np.save("zero.npy", np.zeros(5))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    Path("cut.npy").write_bytes(Path("h.npy").read_bytes()[:-8])
    np.savez("other.npz", images=VECTORS)
    h = ("--engine", "h.gpcnn")
    fails(2, "name a file of them with --embedding FILE.npy", *h)
    for file, message in {
        "no.npy": "no such file",
        "h.npy:4": "Error: h.npy: 4 rows, so no row 4: expected 0 to 3",
        "h.npy:x": "Error: h.npy:x: 'x' is no number of a row: expected FILE:ROW, such as h.npy:0",
        "h.npy:-1": "'-1' is no number of a row",
        "empty.npy": "Error: empty.npy: empty, of shape [0, 5]: expected at least one row of 5 numbers",
        "ints.npy": "Error: ints.npy: int64 of shape [",
        "wide.npy": "has shape [2, 6]: expected [5] or [N, 5]",
        "nan.npy": "Error: nan.npy: nan or infinite numbers, first in row 0",
        "objects.npy": "cannot be read",
        "cut.npy": "cannot be read",
        "other.npz": "has no array 'embedding' (it holds images)",
        "h.gpcnn": "is no .npy or .npz file",
        ".": "is no file",
    }.items():
        fails(1, message, *h, "--embedding", file)
    fails(
        2,
        "--embedding is for models with embeddings, and label.gpcnn draws what a label says",
        "--engine",
        "label.gpcnn",
        "--embedding",
        "h.npy",
    )
    fails(
        2,
        "plain.gpcnn draws without being asked for anything: leave --interpolate out",
        "--engine",
        "plain.gpcnn",
        "--interpolate",
        "0,1",
    )
    fails(2, "expected two ends A,B, such as h.npy:0,h.npy:5", *h, "--interpolate", "h.npy")
    fails(2, "has 4 rows: say which, as in h.npy:0", *h, "--interpolate", "h.npy,one.npy")
    fails(1, "'x' is no number of a row", *h, "--interpolate", "h.npy:x,h.npy:1")
    fails(2, "expected at least 2 images on a way", *h, "--interpolate", "h.npy:0,h.npy:1", "--count", 1)
    fails(2, "a vector of zeros has no direction", *h, "--interpolate", "h.npy:0,zero.npy", "--spherical")
    fails(2, "unknown label 'x'", "--engine", "label.gpcnn", "--interpolate", "boot,x")
    fails(2, "add --interpolate A,B", *h, "--embedding", "h.npy", "--spherical")
    fails(2, "--embedding and --label both say", *h, "--embedding", "h.npy", "--label", "0")
    fails(2, "--interpolate and --embedding both say", *h, "--embedding", "h.npy", "--interpolate", "0,1")
    fails(2, "give it with --embeddings", *h, "both.npz", score=True)
    fails(2, "4 rows for 5 pictures", *h, "both.npz", "both.npz:3", "--embeddings", "h.npy", "--csv", "s.csv",
          score=True)  # fmt: skip
    fails(1, "expected [5] or [N, 5]", *h, "both.npz", "--embeddings", "wide.npy", score=True)
    fails(2, "leave --embeddings out", "--engine", "plain.gpcnn", "both.npz", "--embeddings", "h.npy", score=True)


def test_a_great_circle_turns_evenly() -> None:
    a, b = np.array([3.0, 0, 0]), np.array([0, 1.0, 0])
    way = interpolate(a, b, 4, spherical=True)
    directions = way / np.linalg.norm(way, axis=1, keepdims=True)
    assert np.allclose(np.arccos((directions[:-1] * directions[1:]).sum(1)), np.pi / 6, atol=1e-3)
    assert np.allclose(np.linalg.norm(way, axis=1), [3, 7 / 3, 5 / 3, 1], atol=1e-5)
    assert np.allclose(interpolate(a, 2 * a, 3, spherical=True), [[3, 0, 0], [4.5, 0, 0], [6, 0, 0]])
    assert np.allclose(interpolate(a, b, 3), [[3, 0, 0], [1.5, 0.5, 0], [0, 1, 0]])
    with pytest.raises(UsageError, match="opposite directions"):
        interpolate(a, -2 * a, spherical=True)
    with pytest.raises(UsageError, match="two vectors of one length"):
        interpolate(a, b[:2])


def test_ends_of_many_categories_are_kept_whole() -> None:
    """A way between two pictures of codes beyond 255: the file and the sheet hold them as they are."""
    ends = np.array([700, 299], np.int32).reshape(1, 2, 1, 1, 1)
    way = Ways(
        names=("a,b",), embedding=np.zeros((2, 3), np.float32), depth=701, same_noise=2, shown=2, steps=2, ends=ends
    )
    assert way.arrays()["ends"].ravel().tolist() == [700, 299]
    drawn = np.array([0, 350], np.uint16).reshape(2, 1, 1, 1)
    np.testing.assert_array_equal(
        way.sheet(drawn, 1), grid(pixels_from_levels(np.array([700, 0, 350, 299]).reshape(4, 1, 1, 1), 701), 4)
    )
