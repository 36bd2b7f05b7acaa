"""How a benchmark and the eager PyTorch baseline talk: each in a process of its own, neither imports the other.

The benchmark writes an .npz file with `noise` float32 [N, C, H, W], `image` int32 [N, C, H, W] (what the engine drew of
it) and `condition` (label int32 [N] or embedding float32 [N, E]; absent for an unconditional model), and runs

    python -m gpcnn_training.baseline CHECKPOINT REQUEST.npz --threads T --limit SECONDS [--window W]

which prints a `BaselineReport` as one line of JSON.
"""

from __future__ import annotations

import msgspec

BASELINE_MODULE = "gpcnn_training.baseline"


class BaselineReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch took, and whether its images are the engine's.

    Attributes:
        seconds: of the whole batch, one number for each run; a single extrapolated number if `extrapolated`.
        extrapolated: the run was timed on its first `pixels_timed` pixels, and scaled by the number of forward passes.
        pixels_timed: pixels drawn in a run.
        pixels: H · W.
        passes: full forwards that a whole image takes, C · H · W; None with caches, where none is full.
        threads: CPU threads it ran on: whichever number up to --threads was fastest on the machine as it was.
        identical: images that are equal to the engine's in every sub-pixel.
        near_ties: images that part from the engine's at a proven near-tie.
        divergence: the first divergence that no rounding error explains, in words; None if there is none.
        peak_rss_mb: peak memory of the process, in MB.
        load_ms: from the path of the checkpoint to a model, in ms.
        library: name and version of what ran, for example `PyTorch 2.13.0`.
        checkpoint_digest: SHA-256 of the checkpoint; of a model file, the one that it names.
    """

    seconds: tuple[float, ...]
    extrapolated: bool
    pixels_timed: int
    pixels: int
    passes: int | None
    threads: int
    identical: int
    near_ties: int
    divergence: str | None
    peak_rss_mb: float
    load_ms: float
    library: str
    checkpoint_digest: str
