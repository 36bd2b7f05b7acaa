"""What `python -m benchmarks.native` writes: figures for programs, and a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gpcnn_runtime.commands.bench.table import EXTRAPOLATED, figure


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The native engine beside ONNX Runtime on one model, batch size and number of threads.

    Attributes:
        case: what the model stands for, as the aims name it.
        model, weights: in words.
        work: `draw`, or `score` of images that are all known.
        instructions: what the native engine computed with.
        batch: images a call.
        threads: that shared them.
        native_ms, onnx_ms: medians of an image, in ms; the second is None where ONNX Runtime was not asked.
        onnx_window: columns that the fastest ONNX engine of those tried drew at a time.
        floor_ms: multiply-adds of an image at the peak rate of a core, in ms.
        floor_ratio: native_ms × threads over it.
        eager_ms: naive eager PyTorch, in ms an image, extrapolated from the first pixels if it takes long; None where
            it was not timed.
        load_ms, peak_rss_mb: of the native engine.
    """

    case: str
    model: str
    weights: str
    work: Literal["draw", "score"]
    instructions: str
    batch: int
    threads: int
    native_ms: float
    onnx_ms: float | None
    onnx_window: int | None
    floor_ms: float
    floor_ratio: float
    eager_ms: float | None
    load_ms: float
    peak_rss_mb: float

    @property
    def over_onnx(self) -> float | None:
        """How many times faster than ONNX Runtime."""
        return None if self.onnx_ms is None else self.onnx_ms / self.native_ms

    @property
    def over_eager(self) -> float | None:
        """How many times faster than naive eager PyTorch."""
        return None if self.eager_ms is None else self.eager_ms / self.native_ms


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """A program from its start to its end, one image drawn and written.

    Attributes:
        program: what ran.
        ms: median, in ms.
        rss_mb: the most memory that any run held, in MB (10**6 bytes).
        runs: how many.
    """

    program: str
    ms: float
    rss_mb: float
    runs: int


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that the native engine is held to.

    Attributes:
        what: in words.
        at_most, at_least: the limit; one of them is None.
        found: what was measured; None if it could not be.
    """

    what: str
    at_most: float | None = None
    at_least: float | None = None
    found: float | None

    @property
    def reached(self) -> bool | None:
        """Whether it was; None if it was not measured."""
        if self.found is None:
            return None
        return (self.at_most is None or self.found <= self.at_most) and (
            self.at_least is None or self.found >= self.at_least
        )


class NativeResults(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        command: what was typed.
        seconds: how long the run took.
        machine: `gpcnn_deploy.system.machine.machine_facts`.
        gemm_rate, gemm_library: peak fp32 multiply-adds per second of one core in this run, and whose product it was.
        near_ties: images that parted at a proven near-tie; all others were identical in every comparison.
        images: images that were compared.
        figures, cold, aims: the results.
        instructions: what the native engine computed with where a figure names no others.
        library_bytes: size of the native engine's library.
        skipped: what could not be measured, and why.
    """

    command: str
    seconds: float
    machine: dict[str, str | int]
    gemm_rate: float
    gemm_library: str
    near_ties: int
    images: int
    figures: tuple[Figure, ...]
    cold: tuple[Cold, ...]
    aims: tuple[Aim, ...]
    library_bytes: int
    instructions: str = ""
    skipped: tuple[str, ...] = ()


class NativeRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The file of figures: the newest run on each kind of processor, the newest first."""

    runs: tuple[NativeResults, ...] = ()

    def with_run(self, run: NativeResults) -> NativeRuns:
        """These runs and a new one, which takes the place of the one on the same processor."""
        cpu = run.machine["cpu"]
        return NativeRuns(runs=(run, *(one for one in self.runs if one.machine["cpu"] != cpu)))


def native_markdown(runs: NativeRuns) -> str:
    """The page: a section for each processor."""
    parts = [
        "# The native engine beside ONNX Runtime",
        "`make bench-native` writes the section of the processor that it runs on, and keeps the others. All ways draw "
        "from the same weights and noise. Times are medians, in ms an image. *× floor* is the time of every core in "
        "use over the time that the multiply-adds take on one core at the best rate of an fp32 matrix product in the "
        f"run. *w* is the window of the fastest ONNX engine of those tried. *{EXTRAPOLATED}*: eager PyTorch, the full "
        "network once per sub-pixel, is timed on its first pixels.",
    ]
    return "\n\n".join(parts + [_section(run) for run in runs.runs]) + "\n"


def _section(results: NativeResults) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {machine[name]}" for name in ("onnxruntime", "torch", "numpy") if name in machine)
    parted = f", and {results.near_ties} parted at a proven near-tie" if results.near_ties else ""
    identical = results.images - results.near_ties
    with_set = f", {results.instructions}" if results.instructions else ""
    parts = [
        f"## {machine['cpu']}{with_set}",
        f"Written by `{results.command}` in {results.seconds:.0f} seconds, on {machine['cores']} cores, "
        f"{machine['system']}. Python {machine['python']}, {versions}, gpcnn-deploy {machine['gpcnn-deploy']}. Of "
        f"{results.images} comparisons of an image, {identical} were identical{parted}. The floor is that of "
        f"{results.gemm_rate / 1e9:.1f} G multiply-adds a second ({results.gemm_library}, one thread, in cache).",
        _figures(results.figures),
        "From its start to its end, a process takes:",
        _rows(
            [["program", "ms", "MB", "runs"]]
            + [[cold.program, figure(cold.ms), figure(cold.rss_mb), str(cold.runs)] for cold in results.cold]
        ),
        f"The library has {results.library_bytes / 1e3:.0f} KB.",
        _rows([["aim", "limit", "measured", "reached"], *map(_aim, results.aims)]),
    ]
    parts += [f"Not measured: {reason}." for reason in results.skipped]
    return "\n\n".join(parts)


def _figures(figures: Sequence[Figure]) -> str:
    table = [
        [
            "model",
            "work",
            "batch",
            "threads",
            "native",
            "ONNX Runtime (w)",
            "× ONNX",
            "× floor",
            "× eager",
            "MB",
            "load",
        ]
    ]
    for one in figures:
        name = f"{one.model} ({one.weights})"
        table.append(
            [
                name if not one.instructions else f"{name}, {one.instructions}",
                one.work,
                str(one.batch),
                str(one.threads),
                figure(one.native_ms),
                "–" if one.onnx_ms is None else f"{figure(one.onnx_ms)} ({one.onnx_window})",
                figure(one.over_onnx),
                figure(one.floor_ratio),
                "–" if one.over_eager is None else EXTRAPOLATED + figure(one.over_eager),
                f"{one.peak_rss_mb:.0f}",
                f"{one.load_ms:.0f}",
            ]
        )
    return _rows(table, left=2)


def _aim(aim: Aim) -> list[str]:
    limit = f"≥ {figure(aim.at_least)}" if aim.at_most is None else f"≤ {figure(aim.at_most)}"
    reached = {True: "yes", False: "no", None: "–"}[aim.reached]
    return [aim.what, limit, figure(aim.found), reached]


def _rows(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    head, *body = rows
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
