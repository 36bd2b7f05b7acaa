"""Run folders: where a training run keeps its files, and which run is the newest."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gpcnn_deploy.errors import CheckpointError, OutputError, UsageError

CHECKPOINT = "checkpoint.safetensors"  # the best so far on the images held out from training
LAST = "last.safetensors"
STATE = "training-state.safetensors"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
SAMPLES = "samples.png"
CODES = "codes.safetensors"  # of a VQ-VAE: encoder, codebook and decoder, the best so far
CODES_STATE = "codes-state.safetensors"
CODES_METRICS = "codes-metrics.jsonl"
STAGES = "stages.json"  # what is to be done behind the codes
RECONSTRUCTIONS = "reconstructions.png"
LOCK = ".lock"
RUNS = Path("runs")


def checkpoint_path(path: Path) -> Path:
    """A checkpoint file as it is; for a run folder, the checkpoint in it.

    Raises:
        CheckpointError: the folder holds the first stage of a VQ-VAE alone.
    """
    if not path.is_dir():
        return path
    if (path / CODES).exists() and not (path / CHECKPOINT).exists():
        raise CheckpointError(
            f"{path}: holds the first stage of a VQ-VAE, which draws nothing yet: train its prior with gpcnn-train "
            f"--resume {path}"
        )
    return path / CHECKPOINT


def run_folder(resume: Path) -> Path:
    """The folder of the run that `--resume` names, itself or by a file in it.

    Raises:
        CheckpointError: there is no such run.
    """
    if not resume.exists():
        raise CheckpointError(f"{resume}: no such run: name a run folder, or the checkpoint in it")
    return resume if resume.is_dir() else resume.parent


def newest_run(folder: Path = RUNS, prefix: str = "") -> Path:
    """Path of the checkpoint that was written last among the runs in `folder` whose names begin with `prefix`.

    Raises:
        CheckpointError: there is none.
    """
    found = [path for path in folder.glob(f"*/{CHECKPOINT}") if path.parent.name.startswith(prefix)]
    if not found:
        runs = f"{folder}/{prefix}*" if prefix else str(folder)
        raise CheckpointError(f"no checkpoint in {runs}: train one with gpcnn-train, or name a checkpoint")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path))


def make_run_folder(name: str, out: Path | None, folder: Path = RUNS) -> Path:
    """Make the folder of a new run: `out`, or `folder/name`, `folder/name-2`, … whichever is still free.

    Raises:
        UsageError: `out` already holds a run.
        OutputError: the folder cannot be made or written to.
    """
    try:
        if out is None:
            return _first_free(folder, re.sub(r"[^\w.-]+", "-", name))
        for file in (CHECKPOINT, LAST, STATE, METRICS, TENSORBOARD, SAMPLES, CODES, CODES_STATE, STAGES):
            if (out / file).exists():
                raise UsageError(
                    f"{out} already holds a {file}: name another folder with --out, or go on with --resume {out}"
                )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out or folder}: {error.strerror}: name another place with --out") from error
    if not os.access(out, os.W_OK):
        raise OutputError(f"cannot write into {out}: fix permissions, or name another place with --out")
    return out


def _first_free(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
