"""`stages.json`: what the second stage of a VQ-VAE's run is to be, kept in its folder from the beginning."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.schema import decode_versioned, written
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import write_atomic
from gpcnn_deploy.text import exact_json
from gpcnn_training.runs import STAGES
from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
from gpcnn_training.trainer.settings import Settings

SCHEMA = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run of two stages.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        spec: the prior's dimensions.
        settings: of the prior's training. A time limit is that of both stages together where it is `shared`.
        shared: whether the time limit is.
        given: the codes are those of another run; this one has no first stage.
        precision, compiling: what was asked for.
    """

    schema: int = SCHEMA
    spec: ModelSpec
    settings: Settings
    shared: bool = False
    given: bool = False
    precision: PrecisionChoice = "auto"
    compiling: CompileChoice = "auto"


def has_plan(run: Path) -> bool:
    """Whether a run folder is that of a VQ-VAE."""
    return (run / STAGES).is_file()


def write_plan(run: Path, plan: Plan) -> None:
    """Write the plan, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(run / STAGES, exact_json(written(plan)).encode())


def read_plan(run: Path) -> Plan:
    """The plan of a run.

    Raises:
        CheckpointError: missing, damaged or of a newer schema.
    """
    path = run / STAGES

    def damaged(reason: object) -> CheckpointError:
        return CheckpointError(f"{path}: damaged ({reason}): start a new run")

    try:
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): start a new run") from error
    return decode_versioned(text, Plan, SCHEMA, f"{path}: written with", CheckpointError, damaged)
