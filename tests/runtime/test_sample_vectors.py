"""The requests of `tests/contract/samples.json`: every engine answers with that image and those log-probabilities."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_engines import engine_bytes_of

from gpcnn_runtime.engines.base import Request
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_raster

FOLDER = Path(__file__).parents[1] / "contract"
CONTRACT = json.loads((FOLDER / "samples.json").read_text())
CASES = {
    f"{Path(model['checkpoint']).stem}, {case['name']}": (model["checkpoint"], case)
    for model in CONTRACT["models"]
    for case in model["cases"]
}


def model_and_arrays(name: str) -> tuple[GatedPixelCNN, dict[str, np.ndarray[Any, Any]]]:
    """The model of a case, and its arrays in their shapes."""
    checkpoint, case = CASES[name]
    shape = case["shape"]
    arrays = {
        "noise": (np.array(case["noise"]) / 2**24).astype(np.float32).reshape(shape),
        "known": np.array(case["known"], np.int32).reshape(shape),
        "mask": np.array(case["mask"], bool).reshape(shape),
        "temperature": np.float32(case["temperature"]),
        "image": np.array(case["image"], np.int32).reshape(shape),
        "log_prob": np.array(case["log_prob"], np.float32).reshape(shape),
    }
    if "label" in case:
        arrays["label"] = np.array(case["label"], np.int32)
    if "embedding" in case:
        arrays["embedding"] = np.array(case["embedding"], np.float32).reshape(shape[0], -1)
    return load_checkpoint(FOLDER / checkpoint)[0], arrays


def test_all_kinds_are_there_and_differ() -> None:
    assert CONTRACT["version"] == 1
    assert {model["conditioning"] for model in CONTRACT["models"]} == {"none", "label", "embedding"}
    masks = {name: np.mean(case["mask"]) for name, (_, case) in CASES.items()}
    assert {share for name, share in masks.items() if "score" in name} == {1.0}
    assert all(0.3 < share < 0.7 for name, share in masks.items() if "completion" in name)
    assert {case["temperature"] for _, case in CASES.values()} == {1.0, 0.75}
    for checkpoint, case in CASES.values():
        levels = load_checkpoint(FOLDER / checkpoint)[0].spec.levels
        assert set(case["image"]) == set(range(levels))


@pytest.mark.parametrize("name", CASES)
def test_eager_pytorch(name: str) -> None:
    model, arrays = model_and_arrays(name)
    condition = torch.from_numpy(arrays[model.spec.conditioning]) if model.spec.conditioning != "none" else None
    u, known, mask = (torch.from_numpy(arrays[each]) for each in ("noise", "known", "mask"))
    drawn = sample_raster(model, u, condition, known, mask, float(arrays["temperature"]))
    np.testing.assert_array_equal(drawn.numpy(), arrays["image"])


@functools.cache
def engine_of(checkpoint: str, window: int | None) -> bytes:
    return engine_bytes_of(load_checkpoint(FOLDER / checkpoint)[0], window)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("name", CASES)
def test_onnx_engines(tmp_path: Path, name: str, window: int | None) -> None:
    path, arrays = tmp_path / "model.onnx", model_and_arrays(name)[1]
    path.write_bytes(engine_of(CASES[name][0], window))
    expected, log_prob = arrays.pop("image"), arrays.pop("log_prob")
    engine = load_onnx_engine(path, "cpu")
    found = engine.run(Request(**{**arrays, "temperature": float(arrays["temperature"])}))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.levels, expected)
    np.testing.assert_allclose(found.log_prob, log_prob, rtol=0, atol=CONTRACT["log_prob_tolerance"])
