"""Vectors of one's own: each image keeps its vector through splits, training, scoring and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import gpcnn_training.commands.evaluate.cli
from gpcnn_deploy.errors import CheckpointError, DataError
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main
from gpcnn_training.data.conditions import conditions_of, data_digest
from gpcnn_training.data.own_arrays import load_npz
from gpcnn_training.sampling import score

SMALL = ("--layers", "1", "--features", "4", "--levels", "2", "--batch-size", "16", "--compile", "off")
RNG = np.random.default_rng(1)
VECTORS = RNG.standard_normal((200, 3)).astype(np.float32)
IMAGES = np.where(VECTORS[:, :1, None] > 0, 255, 0).astype(np.uint8) * np.ones((1, 5, 4), np.uint8)
"""White where the first number of the vector is positive, else black: only the vector tells which."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", images=IMAGES, embeddings=VECTORS)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(message: str, *arguments: object) -> None:
    result = run(*arguments, *SMALL)
    assert result.exit_code in (1, 2), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_each_image_keeps_its_vector(tmp_path: Path) -> None:
    np.savez(
        "val.npz", images=IMAGES[:90], embeddings=VECTORS[:90], val_images=IMAGES[90:], val_embeddings=VECTORS[90:]
    )
    train, test = slice(90), slice(90, None)
    wide = VECTORS.astype(np.float64)
    np.savez("test.npz", train_images=IMAGES[train], train_embeddings=wide[train], train_labels=np.arange(90),
             test_images=IMAGES[test], test_embeddings=wide[test], test_labels=np.arange(110) % 90)  # fmt: skip
    for file, tested in (("my.npz", 20), ("val.npz", 9), ("test.npz", 110)):
        data = load_npz(Path(file))
        assert data.train_embeddings is not None
        assert data.test_embeddings is not None
        for pixels, vectors in ((data.train_pixels, data.train_embeddings), (data.test_pixels, data.test_embeddings)):
            assert np.array_equal(pixels[:, 0, 0, 0] > 0, vectors[:, 0] > 0)
        assert len(data.test_pixels) == tested
    assert load_npz(Path("val.npz")).validation == 110


def test_a_model_learns_from_vectors_alone_and_scores_and_draws_by_them() -> None:
    result = run("--data", "my.npz", "--epochs", 15, "--learning-rate", 0.03, *SMALL)
    assert result.exit_code == 0, result.output
    assert "conditional on an embedding of 3 numbers" in result.stderr
    checkpoint = Path("runs/my-embedding/checkpoint.safetensors")
    model, header = load_checkpoint(checkpoint)
    assert (header.spec.conditioning, header.spec.conditioning_size, header.encoder) == ("embedding", 3, None)
    data = load_npz(Path("my.npz"))
    _, vectors = conditions_of(data, header.spec, own_codes=False)
    assert vectors is not None
    levels = torch.from_numpy((data.test_pixels > 0).astype(np.int64))
    own = -score(model, levels, torch.from_numpy(vectors)).sum((1, 2, 3)).mean().item()
    others = -score(model, levels, torch.from_numpy(-vectors)).sum((1, 2, 3)).mean().item()
    assert own == pytest.approx(header.test_nll, abs=1e-3)
    assert own < 1 < others  # without the vector, an image has 0.69 nats at its first pixel alone
    assert Path("runs/my-embedding/samples.png").exists()
    again = run("--epochs", 0, "--resume", "runs/my-embedding", "--out", "again")
    assert again.exit_code == 0, again.output
    assert Path("again/samples.png").read_bytes() == Path("runs/my-embedding/samples.png").read_bytes()
    evaluated = CliRunner().invoke(
        gpcnn_training.commands.evaluate.cli.main, [str(checkpoint), "--data", "my.npz", "--json", "-", "--draws", "1"]
    )
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["nats_per_image"]["mean"] == pytest.approx(header.test_nll, abs=1e-3)
    np.savez("other.npz", images=IMAGES)
    evaluated = CliRunner().invoke(gpcnn_training.commands.evaluate.cli.main, [str(checkpoint), "--data", "other.npz"])
    assert evaluated.exit_code == 1
    assert "has no array 'embeddings': expected embeddings of 3 numbers" in evaluated.stderr


def test_a_run_goes_on_with_its_own_vectors_only() -> None:
    assert run("--data", "my.npz", "--max-steps", 3, *SMALL).exit_code == 0
    assert run("--resume", "runs/my-embedding", "--max-steps", 5).exit_code == 0
    np.savez("my.npz", images=IMAGES, embeddings=VECTORS[::-1])
    changed = run("--resume", "runs/my-embedding", "--max-steps", 7)
    assert isinstance(changed.exception, SystemExit)
    assert "was not trained on this my" in changed.stderr


def test_models_without_vectors_do_not_look_at_them() -> None:
    data = load_npz(Path("my.npz"))
    np.savez("plain.npz", images=IMAGES)
    spec = load_spec(conditioning="none", conditioning_size=0)
    assert data_digest(data, spec, False) == load_npz(Path("plain.npz")).digest()
    assert conditions_of(data, spec, False) == (None, None)
    vectors = load_spec(conditioning="embedding", conditioning_size=3)
    assert data_digest(data, vectors, False) != data_digest(data, vectors, True) == data.digest()
    with pytest.raises(DataError, match="embeddings of 3 numbers: expected embeddings of 4"):
        conditions_of(data, load_spec(conditioning="embedding", conditioning_size=4), False)


def load_spec(**more: Any) -> Any:
    from gpcnn_deploy.spec import ModelSpec

    return ModelSpec(height=5, width=4, **more)


def test_labels_beside_vectors_and_what_is_asked_for_wins() -> None:
    np.savez("both.npz", images=IMAGES, embeddings=VECTORS, labels=np.arange(200) % 2)
    assert run("--data", "both.npz", "--max-steps", 1, *SMALL).exit_code == 0
    assert run("--data", "both.npz", "--max-steps", 1, "--model", "conditional", *SMALL).exit_code == 0
    kinds = [
        load_checkpoint(Path("runs") / f"both-{kind}")[1].spec.conditioning for kind in ("embedding", "conditional")
    ]
    assert kinds == ["embedding", "label"]


def test_mistakes_are_one_line() -> None:
    def of(**arrays: Any) -> str:
        np.savez("bad.npz", **{"images": IMAGES, "embeddings": VECTORS, **arrays})
        return "bad.npz"

    nan = VECTORS.copy()
    nan[7, 1] = np.nan
    refused("embeddings: int64 of shape [200, 3]", "--data", of(embeddings=np.zeros((200, 3), np.int64)))
    refused("embeddings: float32 of shape [200]", "--data", of(embeddings=VECTORS[:, 0]))
    refused("have shape [7, 3]: expected [200, 3]", "--data", of(embeddings=VECTORS[:7]))
    refused("first in row 7", "--data", of(embeddings=nan))
    refused("has no array 'test_embeddings': expected [9, E]", "--data", of(test_images=IMAGES[:9]))
    refused("have shape [9, 2]: expected [9, 3]", "--data", of(test_images=IMAGES[:9], test_embeddings=VECTORS[:9, :2]))
    refused("has no embeddings", "--data", "digits", "--model", "embedding")
    refused("--code-size is the length of an autoencoder's code", "--data", of(), "--code-size", 3)
    assert CheckpointError.exit_code == 1


def test_numbers_on_another_scale_are_told() -> None:
    np.savez("large.npz", images=IMAGES, embeddings=VECTORS * 100)
    result = run("--data", "large.npz", "--max-steps", 1, *SMALL)
    assert result.exit_code == 0
    assert "learns best from numbers near 1" in result.stderr
