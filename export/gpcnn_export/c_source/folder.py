"""The folder of C source: its files, and whether a folder that is there may be replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.system.files import atomic_path
from gpcnn_export.c_source.amalgamation import MARK, amalgamation, header, pictures_header
from gpcnn_export.c_source.data import PackedDecoder, model_c, model_h, static_memory
from gpcnn_runtime.engines.native.packing import PackedWeights

TEMPLATES: Final = Path(__file__).parent / "templates"
WEIGHTS_FILE: Final = "model.bin"
DECODER_FILE: Final = "decoder.bin"
TOP_FILE: Final = "top.bin"
PICTURES_HEADER: Final = "gpcnn_pictures.h"
CORTEX_M: Final = ("cortex-m/main.c", "cortex-m/mps2.ld")
PROGRAMS: Final = ("draw", "draw.exe", "draw.wasm", "libmodel.so", "libmodel.dylib", "model.dll", "cortex-m/draw.elf")
"""What the Makefile or `--target` compiles."""


def check_ours(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export.

    Raises:
        OutputError: it does, and nothing of it was touched; or it cannot be looked at.
    """
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
        kernel = folder / "gpcnn.c"
        if kernel.is_file():
            with kernel.open("rb") as stream:
                if stream.read(len(MARK)) == MARK.encode():
                    return
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error
    raise OutputError(
        f"{folder} holds files that are not of an earlier gpcnn-export --format c: name a new folder, or an empty one"
    )


def folder_files(
    metadata: EngineMetadata,
    content: bytes,
    static: PackedWeights | None,
    in_file: bool,
    decoder: bytes | PackedDecoder = b"",
    top: bytes = b"",
) -> dict[str, bytes]:
    """Name → content of every file; `gpcnn.c` comes first, by which the folder is known.

    Args:
        metadata: of the model file.
        content: the model file; of a VQ-VAE, its prior alone; of a VQ-VAE-2, that of the bottom codes.
        static: its packed weights, for a program with static memory; None for one that allocates.
        in_file: the weights go into a file that the program reads, and not into `model.c`.
        decoder: weights of a VQ-VAE's decoder, float32, or packed, with `static`; empty for other models.
        top: of a VQ-VAE-2, the model file of the top codes; empty for other models.
    """
    pictures = metadata.vqvae is not None
    packed = decoder if isinstance(decoder, PackedDecoder) else None
    texts = {
        "gpcnn.c": amalgamation(packed=static is not None, decoder=pictures),
        "gpcnn.h": header(),
        "model.h": model_h(metadata, static, packed),
        "model.c": model_c(metadata, content, static, in_file, decoder, top),
        "main.c": _main(static is not None, pictures, two_levels=bool(top)),
        "Makefile": _makefile(static is not None, pictures),
        "README.md": _readme(metadata, static, in_file, packed),
    }
    if static is not None:
        texts |= {name: _template(name) for name in CORTEX_M}
    if pictures:
        texts[PICTURES_HEADER] = pictures_header()
    files = {name: text.encode() for name, text in texts.items()}
    if in_file:
        files |= {WEIGHTS_FILE: content} | ({DECODER_FILE: decoder} if isinstance(decoder, bytes) and pictures else {})
        files |= {TOP_FILE: top} if top else {}
    return files


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files, each whole or not at all; those of an earlier export that are no longer wanted go.

    Raises:
        OutputError: one cannot be written.
    """
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / name) as path:
                path.write_bytes(content)
        for name in (WEIGHTS_FILE, DECODER_FILE, TOP_FILE, PICTURES_HEADER, *CORTEX_M, *PROGRAMS):
            if name not in files:
                (folder / name).unlink(missing_ok=True)
        if not any(name.startswith("cortex-m/") for name in files) and (folder / "cortex-m").is_dir():
            (folder / "cortex-m").rmdir()
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text()


def _main(static: bool, pictures: bool, two_levels: bool) -> str:
    memory, load = ("buffers.c", "attach.c") if static else ("allocate.c", "load.c")
    begin, write = _template(memory), "  write_picture(arguments[1], spec, image);\n"
    prior, drawn = "model", "spec"
    if pictures:
        begin += _template("buffers.decoder.c") if static else ""
        write = _template("attach.decoder.c" if static else "decode.c")
    if two_levels:
        begin, load = begin + "\n" + _template("load_two.c"), "load_levels.c"
        prior, drawn = "bottom", "&sheet"
        write = _template("draw_bottom.c") + "\n" + write
    text = _template("main.c").replace("@MODEL@\n", begin + "\n").replace("@LOAD@\n", _template(load))
    text = text.replace("@PICTURE@\n", _template("pixels.c" if pictures else "levels.c"))
    return text.replace("@WRITE@\n", write).replace("@DRAWN@", drawn).replace("@PRIOR@", prior)


def _makefile(static: bool, pictures: bool) -> str:
    text = (
        _template("Makefile")
        .replace("@PICTURES@", f" {PICTURES_HEADER}" if pictures else "")
        .replace("@BARE@\n", _template("cortex-m/rules.mk") if static else "")
    )
    return text.replace("@CLEAN@", " cortex-m/draw.elf" if static else "")


def _readme(
    metadata: EngineMetadata, static: PackedWeights | None, in_file: bool, decoder: PackedDecoder | None
) -> str:
    spec = metadata.spec
    condition = {
        "none": "This model takes no condition: write 0.",
        "label": f"CONDITION is a label from 0 to {spec.conditioning_size - 1}.",
        "embedding": f"CONDITION is a file of {spec.conditioning_size} float32 numbers: an embedding.",
        "map": f"CONDITION is a file of float32 numbers: a map, {spec.conditioning_size} × {spec.map_height} × "
        f"{spec.map_width} (planes, rows, columns) {'numbers of categories' if spec.map_categories else 'values'}.",
    }[spec.conditioning]
    weights = (
        "`model.bin`, which the program reads from the folder where it runs" if in_file else "an array in `model.c`"
    )
    row = ""
    if metadata.vqvae is not None:
        files = "`top.bin`, `model.bin` and `decoder.bin`" if spec.code_levels == 2 else "`model.bin` and `decoder.bin`"
        weights = weights.replace("`model.bin`", files).replace("an array", "arrays")
        row = f"| `{PICTURES_HEADER}` | how to call the decoder, which makes pictures of the codes that are drawn |\n"
    text = _template("README.md").replace("@CONDITION@", condition).replace("@WEIGHTS@", weights)
    text = text.replace("@PICTURES@\n", row)
    if static is None:
        return text.replace("@STATIC@", "")
    needs = static_memory(spec, static, decoder)
    return (
        text.replace("@STATIC@", _template("README.static.md"))
        .replace("@RAM@", f"{needs.ram:,}")
        .replace("@CODE@", "35" if decoder is None else "42")
        .replace("@FILE@", "picture.pgm" if metadata.pictures.channels == 1 else "picture.ppm")
        .replace("@FLASH@", f"{needs.weights:,}")
    )
