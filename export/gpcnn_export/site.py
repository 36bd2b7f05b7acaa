"""Model file → a page: a folder that any web server can serve, and that draws in the browser. No torch, no onnx.

The folder's `site.json` says which files are ours, by their digests. The page, its service worker and the next export
into the same folder go by it: nobody else's file is ever replaced or removed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

import gpcnn_deploy
from gpcnn_deploy.errors import EngineError, OutputError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import decode_model_file
from gpcnn_deploy.system.files import sha256, write_atomic

_PACKAGE = Path(__file__).parent
PAGES = (_PACKAGE / "browser", _PACKAGE.parents[1] / "runtime" / "browser")  # in an installed package; in a clone
SUFFIXES = (".html", ".css", ".js", ".ts", ".svg", ".wasm")
MANIFEST = "site.json"
MODEL = "model.gpcnn"
MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 256 << 20
"""Of a model file: WebAssembly's memory and a visitor's patience end beyond."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `site.json` holds.

    Attributes:
        schema: version of this layout.
        generator: always begins with `gpcnn-deploy`.
        name: of the model, for people.
        engine: what gpcnn-sample calls the model by: `zoo:NAME`, or a file name.
        model: the model file in the folder.
        files: name → SHA-256 of all other files.
    """

    schema: int = 1
    generator: str = f"gpcnn-deploy {gpcnn_deploy.__version__}"
    name: str
    engine: str
    model: str = MODEL
    files: dict[str, str]


@dataclass(frozen=True)
class Site:
    """A page that is ready to be written.

    Attributes:
        metadata: of its model.
        name: of its model, for people.
        engine: what gpcnn-sample calls the model by.
        files: name → content, without the manifest.
    """

    metadata: EngineMetadata
    name: str
    engine: str
    files: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all files, which is what a first visit transfers from a server that does not compress."""
        return sum(map(len, self.files.values())) + len(self._manifest())

    def _manifest(self) -> bytes:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(self.files.items())}
        manifest = Manifest(name=self.name, engine=self.engine, files=digests)
        return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"

    def write(self, folder: Path) -> None:
        """Write the page into a folder that is new, empty, or was written by this function.

        Raises:
            OutputError: the folder has files that are not ours, or cannot be written.
        """
        ours = refuse_place(folder)
        for name, content in self.files.items():
            found = folder / name
            if name not in ours and found.exists() and found.read_bytes() != content:
                raise _not_ours(folder, name)
        manifest = self._manifest()
        if not ours:  # first, so that a folder that was left half written is known as ours
            write_atomic(folder / MANIFEST, manifest)
        for name, content in self.files.items():
            write_atomic(folder / name, content)
        for name in ours.keys() - self.files.keys() - {MANIFEST}:
            (folder / name).unlink(missing_ok=True)
        write_atomic(folder / MANIFEST, manifest)


def make_site(content: bytes, source: str, name: str, engine: str) -> Site:
    """The page of a model file.

    Args:
        content: the file's bytes.
        source: where they are from, for messages.
        name: of the model, for people.
        engine: what gpcnn-sample calls the model by.

    Raises:
        EngineError: the model file is damaged, foreign or newer.
        UsageError: a model that the page cannot show.
    """
    if len(content) > MAX_MODEL_BYTES:
        raise UsageError(
            f"{source} has {len(content) / 1e6:.0f} MB: a page takes at most {MAX_MODEL_BYTES / 1e6:.0f} MB; export a "
            "smaller model"
        )
    metadata, _ = decode_model_file(content, source)
    if metadata.spec.conditioning == "embedding":
        raise UsageError(
            f"{source} draws from the code of a picture, which a page cannot make: expected a model with labels or "
            "without conditioning"
        )
    return Site(metadata, name, engine, {**_page_files(), MODEL: content})


def refuse_place(folder: Path) -> dict[str, str]:
    """Our files in a folder, name → digest, if it may be written to; none if it is new or empty.

    Raises:
        OutputError: the folder is no folder, has files but no `site.json` of ours, or one of our files was changed.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write {folder}: it is a file; name a folder with -o")
        if not folder.exists() or next(folder.iterdir(), None) is None:
            return {}
        ours = _read_manifest(folder)
        for name, digest in ours.items():
            if (folder / name).is_file() and sha256(folder / name) != digest:
                raise OutputError(
                    f"{folder / name} was changed since it was exported, and would be lost: move it away, or name "
                    "another folder with -o"
                )
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}; name another folder with -o") from error
    return ours


def _read_manifest(folder: Path) -> dict[str, str]:
    try:
        with (folder / MANIFEST).open("rb") as stream:
            manifest = msgspec.json.decode(stream.read(MAX_MANIFEST_BYTES), type=Manifest)
    except (FileNotFoundError, IsADirectoryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_ours(folder) from None
    plain = all(Path(name).name == name and name not in (".", "..") for name in manifest.files)
    if not plain or not manifest.generator.startswith("gpcnn-deploy"):
        raise _not_ours(folder)
    return manifest.files


def _not_ours(folder: Path, name: str = "") -> OutputError:
    what = f"has a file {name} that" if name else "has files, and none of them says that this command"
    wrote = "this command did not write" if name else "wrote them"
    return OutputError(f"{folder} {what} {wrote}: name a new or an empty folder with -o")


def _page_files() -> dict[str, bytes]:
    folder = next((folder for folder in PAGES if (folder / "index.html").is_file()), None)
    if folder is None:
        raise EngineError("the files of the page are missing: install gpcnn-deploy anew")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    for name in ("gpcnn.wasm", "gpcnn-relaxed.wasm"):
        if name not in files:
            raise EngineError(f"{name} is missing: install gpcnn-deploy anew, or run make web in a clone")
    return files
