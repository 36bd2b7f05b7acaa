"""Write the contract vectors anew: `python tests/contract/generate.py`. What they are is said in README.md beside this.

They are what clients in other languages are held to, so a changed file is a broken contract, or a new version of it.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.philox import MAX_SEED, noise
from gpcnn_deploy.spec import Conditioning, ModelSpec
from gpcnn_training.checkpoint import load_checkpoint, save_checkpoint
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_raster, score

FOLDER = Path(__file__).parent
SMALL = {"features": 4, "layers": 2, "first_kernel_size": 5, "head_features": 5}
MODELS = {
    "binary": ModelSpec(height=5, width=6, levels=2, **SMALL),
    "label": ModelSpec(height=4, width=5, levels=5, kernel_size=5, conditioning="label", conditioning_size=3, **SMALL),
    "rgb": ModelSpec(height=3, width=4, channels=3, levels=4, conditioning="embedding", conditioning_size=2, **SMALL),
}
MARGIN = 1e-4
"""Least distance of a uniform to a step of its distribution function: no rounding of float32 gets there."""

Document = dict[str, Any]


def exact(uniforms: np.ndarray[Any, Any]) -> list[int]:
    """Uniforms as integers n, each n / 2**24, in the order of their array."""
    scaled = uniforms.astype(np.float64) * 2**24
    assert (scaled == np.floor(scaled)).all()
    return [int(n) for n in scaled.ravel()]


def noise_document() -> Document:
    """Noise of one image each, [C, H, W]."""
    specs = [ModelSpec(height=3, width=5), ModelSpec(height=2, width=3, channels=3)]
    vectors = [
        {
            "seed": str(seed),  # as text: JavaScript's numbers hold 53 bits
            "image": str(image),
            "shape": list(spec.image_shape),
            "noise": exact(noise(spec, seed, 1, image)),
        }
        for spec in specs
        for seed in (0, 1, MAX_SEED)
        for image in (0, 1, 2**32)
    ]
    return {"version": 1, "unit": "2**-24", "vectors": vectors}


def ports_document() -> Document:
    """Inputs and outputs of each role and conditioning, by name."""
    image = ["N", "C", "H", "W"]

    def port(name: str, dtype: str, shape: list[str]) -> Document:
        return {"name": name, "dtype": dtype, "shape": shape}

    conditions: dict[Conditioning, list[Document]] = {
        "none": [],
        "label": [port("label", "int32", ["N"])],
        "embedding": [port("embedding", "float32", ["N", "E"])],
    }
    of_step = [port("image", "int32", image)]
    request = [
        port("noise", "float32", image),
        port("known", "int32", image),
        port("mask", "bool", image),
        port("temperature", "float32", []),
    ]
    drawn = {
        "sampler": [
            port("image", "int32", image),
            port("log_prob", "float32", image),
            port("evaluations", "int32", []),
        ],
        "step": [
            port("image_next", "int32", image),
            port("log_prob", "float32", image),
            port("changed", "int32", ["N"]),
        ],
    }
    engines = [
        {
            "role": role,
            "conditioning": conditioning,
            "inputs": by_name((of_step if role == "step" else []) + request + condition),
            "outputs": by_name(outputs),
        }
        for role, outputs in drawn.items()
        for conditioning, condition in conditions.items()
    ]
    engines.append(
        {
            "role": "encoder",
            "conditioning": "embedding",
            "inputs": [port("image", "int32", image)],
            "outputs": [port("embedding", "float32", ["N", "E"])],
        }
    )
    return {"version": 1, "engines": engines}


def by_name(ports: list[Document]) -> list[Document]:
    """In the order of their names: an engine is fed by name, whatever its own order."""
    return sorted(ports, key=lambda port: str(port["name"]))


def margin_of(model: GatedPixelCNN, levels: torch.Tensor, condition: Any, u: torch.Tensor, temperature: float) -> float:
    """Least distance of the uniforms to a step of the distribution functions that they were drawn from."""
    with torch.no_grad():
        steps = torch.softmax(model(levels, condition) / temperature, dim=1).cumsum(dim=1)[:, :-1]
    return float((steps - u.unsqueeze(1)).abs().min())


def condition_of(spec: ModelSpec, count: int) -> torch.Tensor | None:
    """Labels 0, 1, …, or embeddings."""
    if spec.conditioning == "label":
        return torch.arange(count) % spec.conditioning_size
    if spec.conditioning == "embedding":
        return (torch.arange(count * spec.conditioning_size) / 4 - 0.5).reshape(count, -1).double()
    return None


def case_of(model: GatedPixelCNN, name: str, seed: int, temperature: float, covered: float) -> Document | None:
    """A request and its answer; None where a uniform lies too close to a step."""
    spec, count = model.spec, 3
    random = np.random.default_rng(seed)
    known = torch.from_numpy(random.integers(0, spec.levels, (count, *spec.image_shape), np.int32))
    mask = torch.from_numpy(random.random(known.shape) < covered)
    u = torch.from_numpy(noise(spec, seed, count)).double()
    condition = condition_of(spec, count)
    levels = sample_raster(model, u, condition, known, mask, temperature)
    if margin_of(model, levels, condition, u, temperature) < MARGIN:
        return None
    fields: Document = {
        "name": name,
        "shape": list(u.shape),
        "noise": exact(u.numpy()),
        "known": torch.where(mask, known, 0).ravel().tolist(),
        "mask": mask.int().ravel().tolist(),
        "temperature": temperature,
    }
    if condition is not None:
        fields[spec.conditioning] = condition.ravel().tolist()
    log_prob = score(model, levels, condition).numpy()
    return fields | {
        "image": levels.ravel().tolist(),
        "log_prob": [float(f"{value:.7g}") for value in log_prob.ravel()],
    }


def samples_document() -> Document:
    """Requests to tiny models, in float64, and what every engine must answer."""
    models = []
    for name, spec in MODELS.items():
        path = FOLDER / f"{name}.safetensors"
        model = copy.deepcopy(load_checkpoint(path)[0]).double()
        cases = []
        for case, temperature, covered in (
            ("sample", 1.0, 0.0),
            ("at temperature 0.75", 0.75, 0.0),
            ("completion", 1.0, 0.5),
            ("score", 1.0, 1.0),
        ):
            found = (case_of(model, case, seed, temperature, covered) for seed in range(1000))
            cases.append(next(one for one in found if one is not None))
        models.append({"checkpoint": path.name, "conditioning": spec.conditioning, "cases": cases})
    return {"version": 1, "log_prob_tolerance": 1e-5, "models": models}


def write_checkpoints() -> None:
    """Weights large enough that pixels depend on each other."""
    for name, spec in MODELS.items():
        torch.manual_seed(20)
        model = GatedPixelCNN(spec).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.5)
        names = ("boot", "bag", "coat") if spec.conditioning == "label" else ()
        header = Header(spec=spec, class_names=names, data="none", quantization="nearest")
        save_checkpoint(FOLDER / f"{name}.safetensors", model, header)


def text_of(document: Document) -> str:
    """JSON with the innermost lists on one line each."""

    def lines(value: Any, indent: str) -> str:
        inner = indent + " "
        if isinstance(value, dict):
            return (
                "{\n"
                + ",\n".join(f"{inner}{json.dumps(k)}: {lines(v, inner)}" for k, v in value.items())
                + f"\n{indent}}}"
            )
        if isinstance(value, list) and any(isinstance(one, dict) for one in value):
            return "[\n" + ",\n".join(inner + lines(one, inner) for one in value) + f"\n{indent}]"
        return json.dumps(value)

    return lines(document, "") + "\n"


DOCUMENTS = {"noise.json": noise_document, "ports.json": ports_document, "samples.json": samples_document}


def main() -> None:
    """Write all; the weights only where they are asked for, because all sampling vectors change with them."""
    if "--weights" in sys.argv[1:]:
        write_checkpoints()
    for name, document in DOCUMENTS.items():
        (FOLDER / name).write_text(text_of(document()))


if __name__ == "__main__":
    main()
