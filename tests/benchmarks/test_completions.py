"""The benchmark of completions, on a small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import completions
from benchmarks.models import random_model
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.completions import RankBy, complete
from gpcnn_runtime.inputs.masks import keep_outside
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.data.sources import load_data

SPEC = ModelSpec(
    height=8,
    width=8,
    levels=17,
    features=4,
    layers=2,
    first_kernel_size=3,
    head_features=5,
    conditioning="label",
    conditioning_size=10,
)


def test_rows_are_what_complete_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "CANDIDATES", (1, 5))
    engine = random_model(SPEC, tmp_path, scale=3).engine(8)
    arguments = [
        "--engine",
        engine,
        "--data",
        "digits",
        "--box",
        "2,3,4,2",
        "--count",
        3,
        "--json",
        tmp_path / "a.json",
    ]
    result = CliRunner().invoke(completions.main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["command"] == (
        "python -m benchmarks.completions --engine w8.onnx --data digits --box 2,3,4,2 --count 3"
    )
    rows = {(row["candidates"], row["rank_by"]): row for row in report["rows"]}
    assert len(rows) == 4
    data = load_data("digits")
    ways: tuple[RankBy, ...] = ("image", "known")
    with Sampler.load(engine) as sampler:
        for candidates in (1, 5):
            for rank_by in ways:
                differing, lightness = [], []
                for k in range(3):
                    picture = np.rint(data.test_pixels[k] * (16 / 255)).astype(np.int64)
                    mask = keep_outside(SPEC, "2,3,4,2")
                    label = int(data.test_labels[k])
                    best = complete(
                        *(sampler, picture, mask),
                        labels=label,
                        count=1,
                        candidates=candidates,
                        seed=k,
                        rank_by=rank_by,
                    ).levels[0]
                    differing.append((best != picture).sum())
                    lightness.append((best.astype(int) - picture).sum())
                assert rows[candidates, rank_by]["differing"] == pytest.approx(np.mean(differing))
                assert rows[candidates, rank_by]["lightness"] == pytest.approx(np.mean(lightness))
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 3
    row = rows[5, "known"]
    assert lines[-1] == (f"| 5 | known | {row['differing']:.1f} ± {row['error']:.1f} | {row['lightness']:+.1f} |")
