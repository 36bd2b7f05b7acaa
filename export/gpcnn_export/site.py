"""Model file → a page: a folder that any web server can serve, and that draws in the browser. No torch, no onnx.

The folder's `site.json` says which files are ours, by their digests. The page, its service worker and the next export
into the same folder go by it: nobody else's file is ever replaced or removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

import gpcnn_deploy
from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import decode_model_file
from gpcnn_export.owned_folder import digests, owned_files, write_owned

_PACKAGE = Path(__file__).parent
PAGES = (_PACKAGE / "browser", _PACKAGE.parents[1] / "runtime" / "browser")  # in an installed package; in a clone
SUFFIXES = (".html", ".css", ".js", ".ts", ".svg", ".wasm")
MANIFEST = "site.json"
MODEL = "model.gpcnn"
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
        manifest = Manifest(name=self.name, engine=self.engine, files=digests(self.files))
        return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"

    def write(self, folder: Path) -> None:
        """Write the page into a folder that is new, empty, or was written by this function.

        Raises:
            OutputError: the folder has files that are not ours, or cannot be written.
        """
        write_owned(folder, self.files, MANIFEST, self._manifest(), refuse_place(folder))


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
            f"{source} draws from the code of a picture, which a page cannot make: expected a model with labels, "
            "with maps or without conditioning"
        )
    return Site(metadata, name, engine, {**_page_files(), MODEL: content})


def refuse_place(folder: Path) -> dict[str, str]:
    """Our files in a folder, name → digest, if it may be written to; none if it is new or empty.

    Raises:
        OutputError: as `owned_files`.
    """
    return owned_files(folder, MANIFEST)


def _page_files() -> dict[str, bytes]:
    folder = next((folder for folder in PAGES if (folder / "index.html").is_file()), None)
    if folder is None:
        raise EngineError("the files of the page are missing: install gpcnn-deploy anew")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    for name in ("gpcnn.wasm", "gpcnn-relaxed.wasm"):
        if name not in files:
            raise EngineError(f"{name} is missing: install gpcnn-deploy anew, or run make web in a clone")
    return files
