"""`make gpu-test`: real plans on this machine's GPU against eager PyTorch and the CPU engine, timed, in one report.

    python -m benchmarks.gpu_report [-o gpu-report.md] [--checkpoint runs/mnist-conditional/checkpoint.safetensors]

Weights are random unless a checkpoint is named: its model then takes the place of the first one, which is timed, too,
because how many evaluations an image takes depends on what was learnt.

Without a GPU it says so, writes nothing, claims nothing and exits 0. It exits 1 if a check fails; the report is written
all the same.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.metadata import Precision, Role
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.onnxruntime.load import onnx_engine
from gpcnn_runtime.engines.plan_file import Flavor
from gpcnn_runtime.engines.tensorrt.engine import PlanEngine
from gpcnn_runtime.engines.tensorrt.gpu import Gpu, find_gpu
from gpcnn_runtime.engines.tensorrt.library import is_installed, load
from gpcnn_runtime.engines.tensorrt.load import load_plan_engine

if TYPE_CHECKING:
    from gpcnn_training.architectures import Prior

Array = npt.NDArray[Any]

SPECS = {  # the first one is timed, too
    "28×28 binary, label": ModelSpec(height=28, width=28, levels=2, conditioning="label", conditioning_size=10),
    "16×12 of 17 levels": ModelSpec(height=16, width=12, levels=17, layers=6),
    "8×8 RGB of 256 levels": ModelSpec(height=8, width=8, channels=3, levels=256, layers=4),
    "12×12 binary, embedding": ModelSpec(height=12, width=12, layers=4, conditioning="embedding", conditioning_size=16),
}
TRAINED: dict[ModelSpec, Prior] = {}
BATCHES = (1, 8, 64)
MAX_BATCH = 64
RUNS = 5
PROOF_IMAGES = 24  # a third each: plain samples, completions at another temperature, images that are all known


@dataclass
class Report:
    """What was found, and whether all of it was right."""

    lines: list[str] = field(default_factory=list)
    failures: int = 0

    def add(self, line: str = "") -> None:
        """Add a line and show it."""
        self.lines.append(line)
        print(line, flush=True)

    def check(self, good: bool, cells: list[str]) -> None:
        """Add a table row with its verdict."""
        self.failures += not good
        self.add("| " + " | ".join([*cells, "yes" if good else "**NO**"]) + " |")


@dataclass(frozen=True)
class Case:
    """One plan to build."""

    flavor: Flavor
    name: str
    role: Role
    window: int | None
    precision: Precision


def cases(flavor: Flavor) -> Iterator[Case]:
    """Every role, kind of model and precision."""
    for name, spec in SPECS.items():
        for precision in ("fp32", "fp16"):
            yield Case(flavor, name, "step", None, precision)
            for window in {spec.width, spec.width // 4}:
                yield Case(flavor, name, "sampler", window, precision)


def model_of(spec: ModelSpec) -> Prior:
    """The checkpoint's model, or random weights, large enough that pixels depend on each other."""
    if spec in TRAINED:
        return TRAINED[spec]
    import torch

    from gpcnn_training.model import GatedPixelCNN

    torch.manual_seed(1)
    model = GatedPixelCNN(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def check_plan(report: Report, case: Case, engine: PlanEngine, onnx: bytes, model: Prior) -> None:
    """Images and log-probabilities of one plan against eager PyTorch and against the CPU engine."""
    from gpcnn_export.proof.parity import LOG_PROB_TOLERANCE, compare, draw_on, feeds, request_of
    from gpcnn_training.divergence import NEAR_TIE

    on_cpu = draw_on(onnx_engine(Path("model.onnx"), onnx))
    images = divergent = unproven = as_on_cpu = 0
    error = drift = 0.0
    for feed in feeds(model.spec, PROOF_IMAGES // 3):
        result = engine.run(request_of(feed))
        found = compare(model, feed, result.levels, result.log_prob)
        images += found.images
        divergent += len(found.divergences)
        unproven += sum(divergence.margin > NEAR_TIE for divergence in found.divergences)
        error = max(error, found.log_prob_error)
        as_on_cpu += int((on_cpu(feed)[0] == result.levels).all(axis=(1, 2, 3)).sum())
        score = {**feed, "known": on_cpu(feed)[0], "mask": np.ones_like(feed["mask"])}
        scored = engine.run(request_of(score)).log_prob.mean(), on_cpu(score)[1].mean()
        drift = max(drift, abs(float(scored[0] - scored[1])) / np.log(2))
    # fp16 promises closeness, not equality: what it reaches is reported, and only nonsense fails.
    good = unproven == 0 and error <= LOG_PROB_TOLERANCE if case.precision == "fp32" else drift < 0.05
    window = "" if case.window is None else f", w = {case.window}"
    report.check(
        good,
        [
            case.flavor,
            case.name,
            f"{case.role}{window}",
            case.precision,
            f"{images - divergent}/{images}",
            f"{divergent - unproven}",
            f"{as_on_cpu}/{images}",
            f"{error:.1e}",
            f"{drift:.1e}",
        ],
    )


def median_ms(work: Callable[[], Any]) -> float:
    """Median wall-clock time of `RUNS` calls after one to warm up, in ms."""
    work()
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e3


def time_plan(report: Report, case: Case, engine: PlanEngine) -> None:
    """Time per image, network evaluations and launches of one plan at each batch size."""
    from gpcnn_export.proof.parity import feeds, request_of

    for batch in BATCHES:
        ask = request_of(feeds(engine.metadata.spec, batch)[0])
        milliseconds = median_ms(lambda ask=ask: engine.run(ask))  # type: ignore[misc]
        evaluations = engine.run(ask).evaluations
        launches, refusal = engine.launched(batch)
        replay = "CUDA graph" if refusal is None else refusal
        window = "" if case.window is None else f", w = {case.window}"
        cells = [case.flavor, f"{case.role}{window}", case.precision, str(batch), f"{milliseconds / batch:.3f}"]
        report.add("| " + " | ".join([*cells, str(evaluations), str(launches), replay]) + " |")


def time_eager(report: Report, headline: ModelSpec) -> None:
    """Eager PyTorch on the same GPU, Jacobi; and what the naive raster loop would take, one evaluation per pixel."""
    import torch

    from gpcnn_export.proof.parity import feeds
    from gpcnn_training.sampling import sample_jacobi

    if not torch.cuda.is_available():
        report.add(f"Eager CUDA was not timed: torch {torch.__version__} has no CUDA here.")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = copy.deepcopy(model_of(headline)).cuda()
    report.add("| eager PyTorch on CUDA, fp32, no TF32 | batch | Jacobi, ms/image | naive raster loop, ms/image |")
    report.add("|---|---|---|---|")
    for batch in BATCHES:
        feed = feeds(headline, batch)[0]
        noise = torch.from_numpy(feed["noise"]).cuda()
        condition = feed.get(headline.conditioning)
        label = None if condition is None else torch.from_numpy(condition).cuda()

        def jacobi(noise: torch.Tensor = noise, label: torch.Tensor | None = label) -> None:
            sample_jacobi(model, noise, label)
            torch.cuda.synchronize()

        def forward(noise: torch.Tensor = noise, label: torch.Tensor | None = label) -> None:
            with torch.no_grad():
                model(torch.zeros_like(noise, dtype=torch.int32), label)
            torch.cuda.synchronize()

        naive = median_ms(forward) * headline.subpixels / batch
        report.add(f"| {torch.__version__} | {batch} | {median_ms(jacobi) / batch:.3f} | {naive:.1f} (extrapolated) |")


def run_flavor(report: Report, flavor: Flavor, folder: Path, timings: list[Callable[[], None]]) -> None:
    """Build, check and time every plan of one flavour."""
    from gpcnn_export.onnx_engine import draft_engine
    from gpcnn_export.onnx_to_plan import build_plan

    for number, case in enumerate(cases(flavor)):
        model = model_of(SPECS[case.name])
        onnx = folder / f"{list(SPECS).index(case.name)}-{case.role}-{case.window}.onnx"
        if not onnx.exists():
            onnx.write_bytes(draft_engine(model, case.role, case.window).content)
        plan = folder / flavor / f"{number}.plan"
        try:
            build_plan(onnx, plan, flavor=flavor, precision=case.precision, max_batch=MAX_BATCH)
            with load_plan_engine(plan) as engine:
                assert isinstance(engine, PlanEngine)
                check_plan(report, case, engine, onnx.read_bytes(), model)
        except GpcnnError as error:
            report.check(
                False, [flavor, case.name, case.role, case.precision, f"{type(error).__name__}: {error}", *[""] * 4]
            )
            continue
        if case.name == next(iter(SPECS)):
            timings.append(lambda case=case, plan=plan: _timed(report, case, plan))  # type: ignore[misc]


def _timed(report: Report, case: Case, plan: Path) -> None:
    with load_plan_engine(plan) as engine:
        assert isinstance(engine, PlanEngine)
        time_plan(report, case, engine)


def run(gpu: Gpu, folder: Path) -> Report:
    """Everything, for all flavours installed."""
    report, (title, headline) = Report(), next(iter(SPECS.items()))
    report.add(f"# gpcnn-deploy on {gpu.name} (compute capability {gpu.compute_capability})")
    report.add()
    report.add(
        f"{platform.platform()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}; random weights."
    )
    timings: list[Callable[[], None]] = []
    flavors: list[Flavor] = [flavor for flavor in ("tensorrt", "tensorrt-rtx") if is_installed(flavor)]
    if not flavors:
        report.add("Neither tensorrt nor tensorrt-rtx is installed: nothing was run.")
        report.failures += 1
    for flavor in flavors:
        library = load(flavor)
        report.add(f"\n## {flavor} {library.version}\n")
        capabilities = library.portable_capabilities()
        if capabilities and gpu.compute_capability not in capabilities:
            report.add(f"Not run: its plans run on {', '.join(capabilities)}, not on this GPU.")
            continue
        report.add(
            "| flavour | model | role | precision | images = eager PyTorch | differ by a proven near-tie "
            "| images = CPU engine | log-prob error, nats | NLL drift, bits/dim | good |"
        )
        report.add("|" + "---|" * 10)
        run_flavor(report, flavor, folder, timings)
    report.add(f"\n## Time, {title}, {headline.layers} layers × {headline.features} features\n")
    report.add("| flavour | role | precision | batch | ms/image | evaluations | launches | replay |")
    report.add("|" + "---|" * 8)
    for timing in timings:
        try:
            timing()
        except GpcnnError as error:
            report.failures += 1
            report.add(f"| {type(error).__name__}: {error} |" + " |" * 7)
    report.add()
    time_eager(report, headline)
    report.add(f"\n{report.failures} check(s) failed." if report.failures else "\nAll checks passed.")
    return report


def use(checkpoint: Path) -> None:
    """Put a trained model in the place of the first random one."""
    from gpcnn_training.architectures import gated
    from gpcnn_training.checkpoint import load_checkpoint

    model = gated(load_checkpoint(checkpoint)[0])
    others = list(SPECS.items())[1:]
    SPECS.clear()
    SPECS.update({checkpoint.parent.name: model.spec, **dict(others)})
    TRAINED[model.spec] = model


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu-report.md"))
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args(arguments)
    output: Path = options.output
    try:
        gpu = find_gpu()
    except GpcnnError as error:
        print(f"No GPU here, so nothing was run and nothing is claimed: {error}")
        return 0
    if options.checkpoint is not None:
        use(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        report = run(gpu, Path(folder))
    output.write_text("\n".join(report.lines) + "\n")
    print(f"Wrote {output}.")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
