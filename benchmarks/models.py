"""The models that are measured: a trained one where it is given, random weights elsewhere; and their engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.metadata import Role
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.source import read_source
from gpcnn_training.architectures import Prior, gated
from gpcnn_training.checkpoint import load_checkpoint, save_checkpoint
from gpcnn_training.data.quantize import quantization_for
from gpcnn_training.model import GatedPixelCNN

MAIN = ModelSpec(height=28, width=28, conditioning="label", conditioning_size=10)
"""12 layers × 32 features, 28×28 binary, label-conditional."""

RGB = ModelSpec(height=32, width=32, channels=3, levels=256)

SCALE = 3.0
"""Random weights are PyTorch's initial ones times this. As they come, conditionals hardly depend on other pixels, and
Jacobi ends after 3 evaluations, which would flatter it; at 3 it takes more of them than on a trained model."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model, the checkpoint that the eager baselines read, and the folder that takes its engines."""

    title: str
    weights: str
    model: Prior
    checkpoint: Path
    folder: Path

    @property
    def spec(self) -> ModelSpec:
        """Its dimensions."""
        return self.model.spec

    def engine(self, window: int | None, many: bool = False) -> Path:
        """The engine file of a sampler, or of the step where window is None; made once.

        `many`: the sampler as an engine of two windows has it for larger batches.
        """
        name = "step" if window is None else f"w{window}{'-many' * many}"
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            role: Role = "step" if window is None else "sampler"
            path.write_bytes(draft_engine(self.model, role, window, many=many).content)
        return path

    def model_file(self) -> Path:
        """The file for the native engine; made once."""
        path = self.folder / "model.gpcnn"
        if not path.exists():
            path.write_bytes(draft_model_file(self.model).content)
        return path


def zoo_model(name: str, folder: Path) -> Model:
    """A model of the zoo, with a checkpoint of its weights for the eager baselines."""
    source = read_source(Path(f"zoo:{name}"))
    spec = source.model.spec
    header = Header(
        spec=spec, class_names=source.class_names, data="zoo", quantization=quantization_for(spec.channels, spec.levels)
    )
    checkpoint = folder / "checkpoint.safetensors"
    save_checkpoint(checkpoint, source.model, header)
    return Model(title(spec), f"zoo:{name}", gated(source.model), checkpoint, folder)


def trained_model(checkpoint: Path, folder: Path) -> Model:
    """The model of a checkpoint.

    Raises:
        CheckpointError: it cannot be used.
    """
    model, header = load_checkpoint(checkpoint)
    nll = "" if header.test_nll is None else f", {header.test_nll:.1f} nats an image"
    weights = f"trained on {header.data}, {header.step:,} steps{nll}"
    return Model(title(model.spec), weights, gated(model), checkpoint, folder)


def random_model(spec: ModelSpec, folder: Path, scale: float = SCALE) -> Model:
    """Random weights, always the same ones, saved as a checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GatedPixelCNN(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    names = tuple(map(str, range(spec.conditioning_size))) if spec.conditioning == "label" else ()
    header = Header(
        spec=spec, class_names=names, data="random", quantization=quantization_for(spec.channels, spec.levels)
    )
    checkpoint = folder / "checkpoint.safetensors"
    save_checkpoint(checkpoint, model, header)
    return Model(title(spec), "untrained" if scale == 1 else f"random × {scale:g}", model, checkpoint, folder)


def title(spec: ModelSpec) -> str:
    """A spec in a few words."""
    colour = "RGB" if spec.channels == 3 else "grey"
    return f"{spec.layers} layers × {spec.features}, {spec.height}×{spec.width} {colour}, {spec.levels} levels"


GROWTH: dict[str, dict[int, ModelSpec]] = {
    "layers": {n: msgspec.structs.replace(MAIN, layers=n) for n in (6, 12, 24)},
    "features": {n: msgspec.structs.replace(MAIN, features=n) for n in (16, 32, 64)},
    "side": {n: msgspec.structs.replace(MAIN, height=n, width=n) for n in (16, 28, 32, 64)},
    "levels": {n: msgspec.structs.replace(MAIN, levels=n) for n in (2, 16, 256)},
    "RGB": {32: RGB},
}
"""Series → value → spec; MAIN is a member of all but the last."""
