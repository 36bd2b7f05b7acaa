"""Checkpoints come back as they were; damaged, foreign, newer and contradictory ones are refused in one line."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch

from gpcnn_deploy.checkpoint_header import SCHEMA, Header
from gpcnn_deploy.errors import CheckpointError, OutputError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_training.checkpoint import checkpoint_digest, checkpoint_header, load_checkpoint, save_checkpoint
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.runs import newest_run

SPEC = ModelSpec(height=4, width=5, layers=2, features=4, head_features=4, conditioning="label", conditioning_size=2)
HEADER = Header(
    spec=SPEC, class_names=("cat", "dog"), data="pets", quantization="stochastic-binary", step=12, epoch=1.5, seed=3,
    test_nll=9.25, test_images=7, versions={"torch": "2"},
)  # fmt: skip


def model_of(spec: ModelSpec = SPEC) -> GatedPixelCNN:
    torch.manual_seed(1)
    return GatedPixelCNN(spec)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoint.safetensors"
    save_checkpoint(path, model_of(), HEADER)
    return path


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> None:
    path.write_bytes(safetensors.torch.save(tensors, metadata))


def rewrite_header(path: Path, **change: Any) -> None:
    header = json.loads(msgspec.json.encode(HEADER)) | change
    write(path, model_of().state_dict(), {"gpcnn": json.dumps(header)})


@pytest.mark.parametrize("spec", [SPEC, msgspec.structs.replace(SPEC, channels=3, levels=256, layers=1)])
def test_weights_and_header_come_back(tmp_path: Path, spec: ModelSpec) -> None:
    path, header = tmp_path / "x.safetensors", msgspec.structs.replace(HEADER, spec=spec)
    model = model_of(spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_checkpoint(path, model, header)
    loaded, found = load_checkpoint(path)
    assert found == header == checkpoint_header(path)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    image = torch.randint(spec.levels, (2, *spec.image_shape))
    assert torch.equal(loaded(image, torch.tensor([0, 1])), model_of(spec)(image, torch.tensor([0, 1])))


def test_a_run_folder_stands_for_its_checkpoint(path: Path) -> None:
    assert load_checkpoint(path.parent)[1] == HEADER
    assert checkpoint_digest(path.parent) == checkpoint_digest(path) == sha256(path)


def test_loading_leaves_the_callers_random_numbers_alone(path: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    load_checkpoint(path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99, 0.9999])
def test_truncated(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    check_refused(path, "not a checkpoint, or a damaged one")


def claims(shape: list[int], end: int) -> bytes:
    """A safetensors file whose header promises more than its four bytes of data."""
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"\x80\x04K\x01.",
        b"PK\x03\x04" + bytes(100),
        b"\xff" * 4096,
        (10**17).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        claims([99999999999, 99999999999], 4),
        claims([1000000], 4000000),
        claims([-1], 4),
    ],
)
def test_foreign_and_absurd_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    check_refused(path, "not a checkpoint, or a damaged one")


def foreign(path: Path) -> None:
    write(path, {"weight": torch.zeros(2)}, {"format": "pt"})


def no_metadata(path: Path) -> None:
    write(path, {"weight": torch.zeros(2)}, None)


def no_json(path: Path) -> None:
    write(path, model_of().state_dict(), {"gpcnn": "spec: small"})


def deep_json(path: Path) -> None:
    write(path, model_of().state_dict(), {"gpcnn": "[" * 100_000})


def long_json(path: Path) -> None:
    write(path, model_of().state_dict(), {"gpcnn": '{"schema":1,"x":"' + "y" * (1 << 20) + '"}'})


def newer(path: Path) -> None:
    rewrite_header(path, schema=SCHEMA + 1, spec={"shape": "of a later version"})


def bad_spec(path: Path) -> None:
    rewrite_header(path, spec={"height": 4, "width": 5, "levels": 0})


def huge_spec(path: Path) -> None:
    spec = json.loads(msgspec.json.encode(SPEC)) | {"features": 4096, "layers": 512}
    rewrite_header(path, spec=spec)


def other_classes(path: Path) -> None:
    rewrite_header(path, class_names=["cat"])


def other_quantization(path: Path) -> None:
    rewrite_header(path, quantization="magic")


def weight_missing(path: Path) -> None:
    tensors = model_of().state_dict()
    del tensors["layers.0.link.weight"]
    write(path, tensors, {"gpcnn": msgspec.json.encode(HEADER).decode()})


def weight_too_many(path: Path) -> None:
    tensors = model_of().state_dict() | {"backdoor": torch.zeros(1)}
    write(path, tensors, {"gpcnn": msgspec.json.encode(HEADER).decode()})


def weight_reshaped(path: Path) -> None:
    tensors = model_of().state_dict()
    tensors["head.hidden.weight"] = tensors["head.hidden.weight"].flatten(1).contiguous()
    write(path, tensors, {"gpcnn": msgspec.json.encode(HEADER).decode()})


def weight_halved(path: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in model_of().state_dict().items()}
    write(path, tensors, {"gpcnn": msgspec.json.encode(HEADER).decode()})


def weight_nan(path: Path) -> None:
    tensors = model_of().state_dict()
    tensors["head.hidden.bias"][1] = float("nan")
    write(path, tensors, {"gpcnn": msgspec.json.encode(HEADER).decode()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (foreign, "not of gpcnn-train"),
        (no_metadata, "not of gpcnn-train"),
        (no_json, "damaged"),
        (deep_json, "damaged"),
        (long_json, "expected at most"),
        (newer, "schema 2, this version reads up to 1: pip install --upgrade gpcnn-deploy"),
        (bad_spec, "levels is 0: expected 2 to 256"),
        (huge_spec, "weights do not fit the spec"),
        (other_classes, "1 class name for 2 classes"),
        (other_quantization, "damaged"),
        (weight_missing, "layers.0.link.weight is none, expected [8, 8, 1, 1]"),
        (weight_too_many, "backdoor is [1], expected no such weight"),
        (weight_reshaped, "head.hidden.weight is [4, 4], expected [4, 4, 1, 1]"),
        (weight_halved, "not finite float32"),
        (weight_nan, "head.hidden.bias (torch.float32) is not finite"),
    ],
)
def test_contradictions_and_newer_schemas(path: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(path)
    check_refused(path, message)


def test_missing_and_wrong_paths(tmp_path: Path) -> None:
    check_refused(tmp_path / "none.safetensors", "no such file")
    check_refused(tmp_path, "checkpoint.safetensors: no such file")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint_digest(tmp_path / "none")


def check_refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_half_way_keeps_the_old_checkpoint(path: Path) -> None:
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.safetensors: File too large"):
            save_checkpoint(path, model_of(), msgspec.structs.replace(HEADER, step=13))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*runs: train one with gpcnn-train"):
        newest_run(tmp_path / "runs")
    for number, name in enumerate(("digits-conditional-2", "mnist-conditional", "digits-conditional")):
        path = tmp_path / "runs" / name / "checkpoint.safetensors"
        save_checkpoint(path, model_of(), HEADER)
        stamp = 10**18 + number
        os.utime(path, ns=(stamp, stamp))
    (tmp_path / "runs" / "zzz").mkdir()
    assert newest_run(tmp_path / "runs").parent.name == "digits-conditional"
    assert newest_run(tmp_path / "runs", prefix="mnist-").parent.name == "mnist-conditional"
    save_checkpoint(tmp_path / "runs" / "mnist-conditional" / "checkpoint.safetensors", model_of(), HEADER)
    assert newest_run(tmp_path / "runs").parent.name == "mnist-conditional"
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*fashion"):
        newest_run(tmp_path / "runs", prefix="fashion-mnist-")
