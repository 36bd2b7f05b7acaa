"""What a report tells of the engine that drew or scored."""

from __future__ import annotations

import msgspec

from gpcnn_deploy.metadata import Precision, Role
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.zoo.catalogue import engine_name


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """The engine that drew.

    Attributes:
        path: its file, or `zoo:NAME`.
        digest: SHA-256 of the file.
        role, window, batch_window, batch_from, batch, precision: as in its metadata.
        runtime, version, provider: what ran it.
        threads: parts drawn at the same time.
    """

    path: str
    digest: str
    role: Role
    window: int | None
    batch_window: int | None
    batch_from: int | None
    batch: int | None
    precision: Precision
    runtime: str
    version: str
    provider: str
    threads: int


def engine_report(engine: Engine, threads: int) -> EngineReport:
    """An engine, and the threads that share its batches."""
    metadata, info = engine.metadata, engine.info
    return EngineReport(
        path=engine_name(info.path),
        digest=info.digest,
        role=metadata.role,
        window=metadata.window,
        batch_window=metadata.batch_window,
        batch_from=metadata.batch_from,
        batch=metadata.batch,
        precision=metadata.precision,
        runtime=info.runtime,
        version=info.version,
        provider=info.provider,
        threads=threads,
    )
