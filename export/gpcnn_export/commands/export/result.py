"""What `gpcnn-export --json` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpcnn_deploy.metadata import EngineMetadata, decoder_path, encoder_path
from gpcnn_runtime.engines.plan_file import PlanMetadata

if TYPE_CHECKING:
    from gpcnn_export.checkpoint_to_native import ModelFile
    from gpcnn_export.onnx_engine import OnnxEngine
    from gpcnn_export.onnx_to_plan import PlanReport
    from gpcnn_export.site import Site
    from gpcnn_export.triton.repository import TritonModel


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were written, and what they are.

    Attributes:
        output: the engine, or the folder of a page or of Triton's model.
        bytes: its size.
        engine: its metadata, with the proof of parity.
        plan: metadata of a plan, which holds the same; None for other engines.
        portable: the ONNX engine beside a plan; None for other engines.
        native: the model file beside a plan; None for other engines, and where the plan was built from an .onnx file.
        encoder: the encoder engine beside it; None without one.
        decoder: the decoder beside a VQ-VAE's step, a plan beside a plan; None for other engines.
        seconds: TensorRT's build time, in seconds; None for other engines.
    """

    output: str
    bytes: int
    engine: EngineMetadata
    plan: PlanMetadata | None = None
    portable: str | None = None
    native: str | None = None
    encoder: str | None = None
    decoder: str | None = None
    seconds: float | None = None


def of_engine(out: Path, engine: OnnxEngine | ModelFile) -> ExportResult:
    """The result of an export to `out`."""
    encoder = None if engine.encoder is None else str(encoder_path(out))
    decoder = None if engine.metadata.decoder_digest is None else str(decoder_path(out))
    size = len(engine.content)
    return ExportResult(output=str(out), bytes=size, engine=engine.metadata, encoder=encoder, decoder=decoder)


def of_site(out: Path, site: Site) -> ExportResult:
    """The result of an export to the folder `out`."""
    return ExportResult(output=str(out), bytes=site.size, engine=site.metadata)


def of_triton(folder: Path, model: TritonModel) -> ExportResult:
    """The result of an export to the model's `folder`."""
    return ExportResult(output=str(folder), bytes=model.size, engine=model.metadata)


def of_plan(report: PlanReport) -> ExportResult:
    """The result of a build."""
    return ExportResult(
        output=str(report.plan),
        bytes=report.plan_bytes,
        engine=report.metadata.engine,
        plan=report.metadata,
        portable=str(report.portable),
        native=None if report.native is None else str(report.native),
        encoder=None if report.encoder is None else str(report.encoder),
        decoder=None if report.decoder is None else str(report.decoder),
        seconds=report.seconds,
    )
