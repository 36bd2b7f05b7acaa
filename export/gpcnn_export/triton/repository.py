"""Model file → a model in Triton's model repository: `NAME/config.pbtxt`, `NAME/1/model.py`, `NAME/1/model.gpcnn`.

`NAME/gpcnn.json` says which files are ours. Other models of the repository are never touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

import gpcnn_deploy
from gpcnn_deploy.errors import EngineError, OutputError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import decode_model_file, read_model_file
from gpcnn_export.owned_folder import digests, owned_files, write_owned
from gpcnn_export.triton.config import config_text
from gpcnn_runtime.engines.plan_file import read_plan_metadata
from gpcnn_runtime.serving import MODEL, PLAN

MANIFEST = "gpcnn.json"
VERSION = "1"
"""Triton's number of the model's version."""
PROGRAM = Path(__file__).parent / "model.py"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `gpcnn.json` holds.

    Attributes:
        schema: version of this layout.
        generator: always begins with `gpcnn-deploy`.
        checkpoint: digest of the checkpoint that the model is from.
        files: name → SHA-256 of all other files.
    """

    schema: int = 1
    generator: str = f"gpcnn-deploy {gpcnn_deploy.__version__}"
    checkpoint: str
    files: dict[str, str]


@dataclass(frozen=True)
class TritonModel:
    """A model that is ready to be written.

    Attributes:
        name: Triton's name of it, and its folder's.
        metadata: of the model.
        files: name → content, without the manifest.
    """

    name: str
    metadata: EngineMetadata
    files: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values())) + len(self._manifest())

    def _manifest(self) -> bytes:
        manifest = Manifest(checkpoint=self.metadata.checkpoint_digest, files=digests(self.files))
        return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"

    def write(self, repository: Path) -> Path:
        """Write the model into a repository, where it may replace its own earlier export; returns its folder.

        Raises:
            OutputError: as `check_place`; or a plan of another model is there, or a file cannot be written.
        """
        folder = repository / self.name
        ours = check_place(repository, self.name)
        plan = folder / VERSION / PLAN
        if plan.exists() and not self._is_of_this_model(plan):
            raise OutputError(
                f"{plan} is of another model, and would no longer fit: remove it, or name this model with --name"
            )
        write_owned(folder, self.files, MANIFEST, self._manifest(), ours)
        return folder

    def _is_of_this_model(self, plan: Path) -> bool:
        try:
            engine = read_plan_metadata(plan).engine
        except EngineError:
            return False
        return (engine.checkpoint_digest, engine.spec) == (self.metadata.checkpoint_digest, self.metadata.spec)


def make_triton_model(content: bytes, source: str, name: str, max_batch: int) -> TritonModel:
    """The files of a model.

    Args:
        content: bytes of the model file.
        source: where they are from, for messages.
        name: Triton's name of the model, which `check_name` found to be sound.
        max_batch: most images of a batch, and so of a request.

    Raises:
        EngineError: the model file is damaged, foreign or newer.
        UsageError: a model whose condition is none that the server takes.
    """
    metadata, _ = decode_model_file(content, source)
    if metadata.spec.conditioning not in ("none", "label", "embedding", "map"):
        raise UsageError(
            f"{source} is conditioned on: {metadata.spec.conditioning}: expected a model with labels, embeddings or "
            "maps, or without conditioning"
        )
    files = {
        "config.pbtxt": config_text(metadata, name, max_batch).encode(),
        f"{VERSION}/model.py": PROGRAM.read_bytes(),
        f"{VERSION}/{MODEL}": content,
    }
    return TritonModel(name, metadata, files)


def model_name(path: Path) -> str:
    """A name for the model of a file: the file's, or its run folder's for a checkpoint that lies in one."""
    of_a_run = path.name in ("checkpoint.safetensors", "last.safetensors")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.resolve().parent.name if of_a_run else path.stem)
    return name.lstrip("_.-")[:100] or "model"


def check_name(name: str) -> None:
    """Refuse what cannot be both a folder and a part of an address.

    Raises:
        UsageError: says what can.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: expected up to 100 letters, digits, dots, dashes and underscores, a letter or digit first"
        )


def check_place(repository: Path, name: str) -> dict[str, str]:
    """Our files in the model's folder, name → digest, if it may be written to; none if it is new or empty.

    Raises:
        OutputError: the repository is a model's own folder; or as `owned_files`, of the model's folder in it.
    """
    if (repository / "config.pbtxt").exists():
        raise OutputError(
            f"{repository} is the folder of one model, and no repository of models: name the folder above it, or a new "
            "one, with -o"
        )
    folder = repository / name
    return owned_files(folder, MANIFEST, lambda path: path.name == MODEL and _same_model(folder, path))


def _same_model(folder: Path, path: Path) -> bool:
    """Whether a model file has the weights that were exported: `--format trt` writes it anew beside its plan."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        metadata, _ = read_model_file(path)
    except (EngineError, msgspec.DecodeError, OSError):
        return False
    return metadata.checkpoint_digest == manifest.checkpoint
