"""How an engine comes to the workers of a cluster, and how many threads it may use there."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import decoder_path, encoder_path
from gpcnn_deploy.model_file import SUFFIX, read_model_bytes
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.sampler import BATCH_SIZE, Sampler
from gpcnn_runtime.zoo.catalogue import engine_name, resolve_engine

if TYPE_CHECKING:
    import ray

    from gpcnn_runtime.engines.onnxruntime.providers import Provider


@dataclasses.dataclass(frozen=True)
class EngineBytes:
    """An engine file as it travels to workers that cannot read the file.

    Attributes:
        name: the path that it was read from, or `zoo:NAME`; its suffix says what it is.
        content: the bytes of the file.
        encoder: the bytes of the encoder beside an autoencoder's engine; None without.
        decoder: the bytes of the decoder beside a VQ-VAE's step; None without.
    """

    name: str
    content: bytes = dataclasses.field(repr=False)
    encoder: bytes | None = dataclasses.field(default=None, repr=False)
    decoder: bytes | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def read(cls, path: str | Path) -> EngineBytes:
        """Read a model file, an .onnx engine or `zoo:NAME`, and load it once, to find out that it is sound.

        Raises:
            UsageError: a plan, which belongs to one GPU and one TensorRT; or no such model in the zoo.
            EngineError: as `Sampler.load`.
            MissingExtraError: the library that runs it is not installed.
        """
        file = resolve_engine(path)
        if file.suffix.lower() == SUFFIX:
            content = read_model_bytes(file)
        elif file.suffix.lower() == ".onnx":
            from gpcnn_runtime.engines.onnxruntime.session import read_onnx

            content = read_onnx(file)
        else:
            raise UsageError(
                f"{path}: only {SUFFIX} and .onnx engines are sent to workers: name such a file, or for a plan a path "
                "that is there on every worker"
            )
        encoder, decoder = (
            beside.read_bytes() if beside.is_file() else None for beside in (encoder_path(file), decoder_path(file))
        )
        made = cls(engine_name(file), content, encoder, decoder)
        made.load("cpu").close()
        return made

    def load(self, provider: Provider = "auto", reproducible: bool = False) -> Engine:
        """The engine.

        Raises:
            EngineError, MissingExtraError, UsageError: as `gpcnn_runtime.load_engine`.
        """
        path = Path(self.name)
        if not self.name.endswith(".onnx"):
            from gpcnn_runtime.engines.native.load import native_engine

            if provider not in ("auto", "cpu"):
                raise UsageError(f"provider {provider} is for .onnx engines: {self.name} runs on the CPU")
            return native_engine(path, self.content, reproducible=reproducible)
        from gpcnn_runtime.engines.onnxruntime.load import placed_engine

        if reproducible:
            raise UsageError(f"reproducible is for model files ({SUFFIX}): {self.name} is none")
        return placed_engine(path, self.content, provider, warnings.warn, self.decoder)


GivenEngine = Union[str, Path, EngineBytes, "ray.ObjectRef[EngineBytes]"]
"""A path that is there on every worker, `zoo:NAME`, an engine's bytes, or what `put_engine` returns."""


def put_engine(path: str | Path) -> ray.ObjectRef[EngineBytes]:
    """Put an engine into Ray's object store, so that workers need no disk that they share with this machine.

    Args:
        path: a model file, an .onnx engine with the encoder beside it, if it has one, or `zoo:NAME`.

    Returns:
        What `Drawer` and `Scorer` take for an engine. It lives as long as this process holds it.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError, EngineError: as `EngineBytes.read`.
    """
    require("a cluster", "ray", "ray")
    import ray

    return ray.put(EngineBytes.read(path))


def load_sampler(
    engine: GivenEngine,
    threads: int | None,
    batch_size: int = BATCH_SIZE,
    provider: Provider = "auto",
    reproducible: bool = False,
) -> tuple[Sampler, bytes | None]:
    """(the sampler, the bytes of the encoder that came with it) of whatever names an engine.

    Raises:
        EngineError, MissingExtraError, UsageError: as `Sampler.load`.
    """
    threads = assigned_threads() if threads is None else threads
    if not isinstance(engine, (str, Path, EngineBytes)):
        engine = _from_store(engine)
    if isinstance(engine, EngineBytes):
        return Sampler(engine.load(provider, reproducible), threads, batch_size), engine.encoder
    return Sampler.load(engine, threads, batch_size, provider=provider, reproducible=reproducible), None


def assigned_threads() -> int | None:
    """Threads for the CPUs that Ray gave this actor or task, at least 1; None outside of one."""
    ray: Any = sys.modules.get("ray")  # a worker has imported it
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None and context.get_task_id() is None:
        return None
    return max(1, int(context.get_assigned_resources().get("CPU", 0)))


def _from_store(reference: Any) -> EngineBytes:
    require("a cluster", "ray", "ray")
    import ray

    if isinstance(reference, ray.ObjectRef):
        found = ray.get(reference)
        if isinstance(found, EngineBytes):
            return found
        raise UsageError(f"the object store holds a {type(found).__name__} there: expected what put_engine returns")
    raise UsageError(f"engine is a {type(reference).__name__}: expected a path, zoo:NAME, or what put_engine returns")
