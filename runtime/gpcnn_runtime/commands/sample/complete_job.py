"""`gpcnn-sample --complete`: from pictures on disk to completions, and to files. Light until something is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gpcnn_deploy.errors import OutputError, UsageError
from gpcnn_deploy.text import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_runtime.commands.sample.jobs import Job
    from gpcnn_runtime.commands.sample.report import CompletionReport
    from gpcnn_runtime.completions import Completions, RankBy
    from gpcnn_runtime.engines.base import Engine

TABLE_ROWS = 20
SHEET_SIDE = 768  # a smaller sheet is enlarged to about this many pixels


@dataclasses.dataclass(frozen=True)
class ToComplete:
    """What `--complete` and the options beside it ask for; exactly one of mask, rows and box is there.

    Attributes:
        picture: the picture to complete.
        mask: a picture, white where to draw.
        rows: how many rows at the top stay.
        box: `X,Y,W,H`, what to draw.
        candidates: completions drawn for each one shown.
        rank_by: which of them are shown.
        resize: convert pictures that do not fit the model.
        invert: swap dark and light of the picture, not of the mask.
    """

    picture: Path
    mask: Path | None
    rows: int | None
    box: str | None
    candidates: int
    rank_by: RankBy
    resize: bool
    invert: bool

    def read(self, metadata: EngineMetadata) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """(levels int32 [C, H, W], mask bool [H, W], true to keep) of the picture; of a VQ-VAE, its 8-bit pixels.

        Raises:
            DataError: a picture cannot be read, or does not fit the model.
            UsageError: the mask, rows or box do not fit the image.
        """
        from gpcnn_runtime.inputs.masks import keep_outside, keep_rows, read_mask
        from gpcnn_runtime.inputs.picture import read_levels

        spec, preparation = metadata.pictures, metadata.preparation
        levels = read_levels(self.picture, spec, resize=self.resize, invert=self.invert, preparation=preparation)
        if self.mask is not None:
            return levels, read_mask(self.mask, spec, resize=self.resize, preparation=preparation)
        if self.rows is not None:
            return levels, keep_rows(spec, self.rows)
        assert self.box is not None
        return levels, keep_outside(spec, self.box)


def to_complete(
    picture: Path | None,
    mask: Path | None,
    rows: int | None,
    box: str | None,
    candidates: int,
    rank_by: RankBy,
    resize: bool,
    invert: bool,
) -> ToComplete:
    """The options, checked for what contradicts.

    Raises:
        UsageError: one is missing, or there is one too many.
    """
    holes = [name for name, value in (("--mask", mask), ("--rows", rows), ("--box", box)) if value is not None]
    if picture is None:
        name = (holes or (["--candidates"] if candidates != 1 else ["--rank-by"]))[0]
        raise UsageError(f"{name} is for completing a picture: name it with --complete PICTURE, or leave {name} out")
    if not holes:
        raise UsageError("--complete does not say what to draw: add --rows, --box or --mask")
    if len(holes) > 1:
        raise UsageError(f"{' and '.join(holes)} each say what to draw: leave one of them")
    if candidates < 1:
        raise UsageError(f"--candidates is {candidates}: expected at least 1")
    return ToComplete(picture, mask, rows, box, candidates, rank_by, resize, invert)


def known_digest(levels: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> str:
    """Hexadecimal SHA-256 of what is kept, and of which pixels are."""
    import hashlib

    return hashlib.sha256(mask.tobytes() + (levels * mask).tobytes()).hexdigest()


def as_codes(
    engine: Engine, pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """(codes int32 [1, h, w], mask bool [h, w]) of a picture uint8 [C, H, W]; a code is kept if all its pixels are.

    Of two levels of codes both are of their sheet.

    Raises:
        UsageError: no code is kept, or each of them.
        EngineError, MissingExtraError: there is no encoder that can be used.
    """
    from gpcnn_deploy.code_sheet import join_sheet
    from gpcnn_runtime.engines.codes import code_encoder

    codes, spec = code_encoder(engine).encode(pixels[None])[0], engine.metadata.spec
    height, width = mask.shape
    levels = [mask.reshape(h, height // h, w, width // w).min(axis=(1, 3)) for h, w in spec.code_grids]
    kept = cast("npt.NDArray[np.bool_]", join_sheet(spec, *levels))
    if not kept.any():
        h, w = spec.code_grids[-1]
        raise UsageError(
            f"no code of the picture would be left: one stands for {height // h}×{width // w} pixels, "
            "and is kept if all of them are: keep more"
        )
    return codes, kept


def refuse_place(path: Path, job: Job) -> None:
    """Refuse, before anything is drawn, a place where the completions of `job` cannot go.

    Raises:
        OutputError: it holds something else.
    """
    from gpcnn_deploy.system.files import is_stream
    from gpcnn_runtime.commands.sample.jobs import claimed, holds

    if job.output_format == "png":
        claimed(path, job)
    elif path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file with -o")
    elif job.output_format == "npz" and not is_stream(path):
        holds(path, job)


def write_completions(
    path: Path, job: Job, completions: Completions, scale: int | None, class_names: tuple[str, ...] = ()
) -> None:
    """Write a sheet, a folder of pictures or an .npz, each file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from gpcnn_deploy.pictures.levels import save_png

    if job.output_format == "npz":
        _write_npz(path, job, completions, class_names)
    elif job.output_format == "png":
        _write_folder(path, job, completions, class_names)
    else:
        sheet = completions.sheet()
        save_png(path, sheet, scale or max(1, SHEET_SIDE // max(sheet.shape[:2])))


def _write_npz(path: Path, job: Job, completions: Completions, class_names: tuple[str, ...]) -> None:
    import numpy as np

    from gpcnn_deploy.system.files import atomic_path

    arrays: dict[str, Any] = {
        "levels": completions.levels,
        "log_prob": completions.log_prob,
        "rank": np.arange(1, len(completions) + 1, dtype=np.int32),
        "positions": completions.positions,
        "original": completions.original,
        "mask": completions.mask,
        "seed": np.uint64(job.seed),
        "job": np.array(job.json().decode()),
    }
    if completions.pictures is not None:
        arrays["pictures"], arrays["picture"], arrays["kept"] = (
            completions.pictures,
            completions.picture,
            completions.kept,
        )
    if completions.labels is not None:
        arrays["labels"], arrays["class_names"] = completions.labels, np.array(class_names)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _write_folder(path: Path, job: Job, completions: Completions, class_names: tuple[str, ...]) -> None:
    from gpcnn_deploy.class_names import in_file_name
    from gpcnn_deploy.pictures.levels import save_png
    from gpcnn_runtime.commands.sample.jobs import claim

    older = not claim(path, job).class_names  # whose file names have numbers
    pictures = {"original": completions.original_pixels(), "masked": completions.masked()}
    digits = max(2, len(str(len(completions))))
    for k, pixels in enumerate(completions.pixels()):
        label = ""
        if completions.labels is not None:
            number = int(completions.labels[k])
            label = f"-{number}" if older and job.class_names else f"-{in_file_name(class_names[number])}"
        pictures[f"{k + 1:0{digits}}{label}"] = pixels
    for name, pixels_CHW in pictures.items():
        picture = pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)
        save_png(path / f"{name}.png", picture, job.scale)


def in_words(asked: ToComplete, completions: Completions) -> str:
    """`4 completions of digit.png (3 distinct), the best of 32`."""
    count, distinct = len(completions), completions.distinct()
    words = f"{counted(count, 'completion')} of {asked.picture}"
    if distinct < count:
        words += f" ({distinct} distinct)"
    if completions.drawn > count:
        tried = completions.drawn // (count * asked.candidates)
        words += f", the best of {count * asked.candidates}" + (
            f" under each of {counted(tried, 'label')}" if tried > 1 else ""
        )
    return words


def ranking(asked: ToComplete, metadata: EngineMetadata, completions: Completions) -> str:
    """A table of the best completions: noise stream, nats (-log p) of the image and of what is known in it, label."""
    labels, known = completions.labels, completions.known_log_likelihood()
    lines = ["rank  position        nats       known" + ("" if labels is None else "  label")]
    for k, log_prob in enumerate(completions.log_likelihood()[:TABLE_ROWS]):
        label = "" if labels is None else f"  {metadata.label_words(int(labels[k]))}"
        lines.append(f"{k + 1:>4}  {completions.positions[k]:>8}  {-log_prob:>10.3f}  {-known[k]:>10.3f}{label}")
    if len(completions) > TABLE_ROWS:
        lines.append(f"… and {len(completions) - TABLE_ROWS} more, which --json FILE lists")
    if not completions.guided() and asked.candidates == 1:
        lines.append(
            "Known pixels that come after drawn ones, row by row, did not guide them: "
            "--candidates 16 --rank-by known shows what fits them"
        )
    return "\n".join(lines)


def completion_report(asked: ToComplete, completions: Completions) -> CompletionReport:
    """What `--json` tells about it."""
    from gpcnn_runtime.commands.sample.report import CompletionReport

    return CompletionReport(
        picture=str(asked.picture),
        kept_pixels=int((completions.mask if completions.kept is None else completions.kept)[0].sum()),
        guided=completions.guided(),
        candidates=asked.candidates,
        rank_by=asked.rank_by,
        drawn=completions.drawn,
    )
