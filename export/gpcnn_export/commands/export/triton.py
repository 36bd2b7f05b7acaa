"""`gpcnn-export --format triton`: a model in a folder that Triton Inference Server serves."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from gpcnn_deploy.commands.command import say, write_json
from gpcnn_deploy.commands.outputs import Output, check_outputs
from gpcnn_deploy.errors import UsageError


def run(
    source: Path, out: Path, name: str | None, max_batch: int, read: Callable[[], bytes], json_path: Path | None
) -> None:
    """Write the model, and tell.

    Args:
        source: a checkpoint, a run folder, or a model file.
        out: the model repository.
        name: of the model; None makes one of the source's.
        max_batch: most images of a batch.
        read: gives the bytes of the model file, once all else was found well.
        json_path: as `--json`.

    Raises:
        UsageError: a name that Triton cannot take, a batch below 1, or a model that the server cannot draw.
        OutputError, EngineError: as what this calls.
    """
    from gpcnn_export.commands.export.result import of_triton
    from gpcnn_export.triton.repository import check_name, check_place, make_triton_model, model_name

    if name is not None:
        check_name(name)
    if max_batch < 1:
        raise UsageError(f"--max-batch {max_batch}: expected at least 1")
    name = name or model_name(source)
    check_outputs(
        [Output("-o", out, "folder"), Output("-o", out / name, "folder")]
        + ([] if json_path is None else [Output("--json", json_path)])
    )
    check_place(out, name)
    model = make_triton_model(read(), str(source), name, max_batch)
    folder = model.write(out)
    write_json(json_path, of_triton(folder, model))
    parameters = f"{model.metadata.parameters:,} parameters"
    say(json_path, f"Wrote {folder}: a model for Triton, {parameters}, {model.size / 1e6:.1f} MB.")
    say(
        json_path,
        f"Next, where Triton's Python has gpcnn-deploy: tritonserver --model-repository={shlex.quote(str(out))}",
    )
