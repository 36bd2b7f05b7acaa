"""One call of `gpcnn-train`, from a checked request to the last line it prints."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
import torch
from lightning_fabric import Fabric

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.commands.command import say, write_json
from gpcnn_deploy.errors import (
    CheckpointError,
    DataError,
    GpcnnError,
    InterruptedRun,
    SpecError,
    TrainingError,
    UsageError,
    lacks_memory,
)
from gpcnn_deploy.spec import Conditioning, EncoderSpec, ModelSpec, layers_in_words, levels_in_words, map_in_words
from gpcnn_deploy.system.files import check_file, check_folder
from gpcnn_deploy.system.machine import of_memory
from gpcnn_deploy.text import counted
from gpcnn_training.architectures import make_network
from gpcnn_training.checkpoint import checkpoint_header, load_checkpoint, save_checkpoint
from gpcnn_training.commands.train.places import data_folder, hold, is_there, note, remembered_name, run_folder
from gpcnn_training.commands.train.presets import OWN_DATA, PRESETS
from gpcnn_training.commands.train.recipe import with_recipe
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.commands.train.stages import only_pictures, run_stages
from gpcnn_training.commands.train.stages_begun import is_of_stages, refuse_stages
from gpcnn_training.data.conditions import conditions_of, note_on_scale
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.names import NAMES
from gpcnn_training.data.quantize import quantization_for
from gpcnn_training.data.sources import load_data
from gpcnn_training.evaluation.likelihood import DRAWN_FROM_IMAGES, bits_per_dim, draw_samples
from gpcnn_training.model import parameter_count
from gpcnn_training.runs import CHECKPOINT, LOCK, RUNS, SAMPLES, STATE, checkpoint_path, make_run_folder, newest_run
from gpcnn_training.trainer.compute import limit_threads, threads_set
from gpcnn_training.trainer.device import make_fabric, resolve_device
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.initial import initial_weights
from gpcnn_training.trainer.interrupt import Interrupt
from gpcnn_training.trainer.settings import Settings, duration
from gpcnn_training.trainer.state import load_state, read_state
from gpcnn_training.trainer.trainer import Trainer, final_header, resumed

_LOGITS_OF_A_BATCH = 1 << 26  # float32 numbers, 256 MiB: larger images get smaller batches by default
_INPUT_SIZE = 16  # of a category's vector, where none is asked for
_MIXTURES = 10  # as in PixelCNN++
_MAP_FEATURES, _FACTOR = 32, 4  # of a map's network, and of upscaling


def run(request: TrainRequest) -> int:
    """Do what was asked; returns the exit code.

    Raises:
        GpcnnError: the request, the data, a checkpoint or the output folder is at fault.
    """
    if request.devices > 1 and ":" in request.device:
        kind = request.device.partition(":")[0]
        raise UsageError(f"--device {request.device} names one, --devices {request.devices} takes several: name {kind}")
    device = resolve_device(request.device)
    if request.epochs == 0:
        return _only_samples(request, device)
    request = with_recipe(request)
    refuse_stages(request)
    fabric = make_fabric(device, request.devices, request.nodes)
    limit_threads()
    with contextlib.ExitStack() as stack:
        trainer: Trainer | None = None
        try:
            if is_of_stages(request):
                return run_stages(request, fabric, stack)
            trainer = _go_on(request, fabric, stack) if request.resume else _start(request, fabric, stack)
            return _train(trainer, request, fabric)
        except GpcnnError:
            if fabric.is_global_zero:
                raise
            return 1  # the first process says why
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            saved = trainer is not None and trainer.step and (trainer.run / STATE).exists()
            kept = f"; {trainer.run} keeps what was trained" if trainer is not None and saved else ""
            raise TrainingError(
                f"{device} has not enough memory{of_memory()}: try a smaller --batch-size, --features or --layers{kept}"
            ) from error


def _start(request: TrainRequest, fabric: Fabric, stack: contextlib.ExitStack) -> Trainer:
    if fabric.is_global_zero:
        check_folder(request.out or RUNS, "--out")  # before a download
    name = request.data or "digits"
    data = load_data(name, request.data_dir, request.preparation())
    model = request.model or _usual_model(data)
    if model == "embedding" and data.train_embeddings is None:
        raise DataError(
            f"{name}: has no embeddings: expected an .npz with an array 'embeddings', floats [N, E], one row an image"
        )
    if model == "map" and data.train_maps is None:
        raise DataError(
            f"{name}: has no maps: expected an .npz with an array 'maps', [N, h, w] or [N, h, w, M], one for each image"
        )
    if model == "conditional":
        if not data.class_names:
            what = "class folders: expected one folder per class" if Path(name).is_dir() else "labels: add them"
            raise DataError(f"{name}: has no {what}, or train with --model unconditional")
        data.check_classes()
    if model != "autoencoder" and request.code_size is not None:
        raise UsageError("--code-size is the length of an autoencoder's code: leave it out, or add --model autoencoder")
    if request.input_size is not None and request.input != "categorical":
        raise UsageError("--input-size is the length of a category's vector: leave it out, or add --input categorical")
    if request.mixtures is not None and request.head != "mixture":
        raise UsageError("--mixtures is the number of logistics: leave it out, or add --head mixture")
    if request.head == "mixture" and request.input == "categorical":
        raise UsageError("--head mixture needs levels in an order, and categories have none: leave out one of the two")
    if model != "upscale" and request.factor is not None:
        raise UsageError("--factor says how much a picture is enlarged: leave it out, or add --model upscale")
    if request.architecture == "pixelcnn":
        if model not in ("conditional", "unconditional"):
            raise UsageError(
                f"--architecture pixelcnn draws what a label decides, or nothing, and not --model {model}: add --model "
                "conditional or unconditional"
            )
        if request.head == "mixture":
            raise UsageError("--architecture pixelcnn has a probability for every level: leave out --head mixture")
    if model not in ("upscale", "map") and request.map_features is not None:
        raise UsageError("--map-features is for a map: leave it out, or add --model map or upscale")
    try:
        spec = _spec(request, data, model)
    except SpecError as error:
        raise UsageError(str(error)) from error
    data.check_levels(spec.levels)
    conditions_of(data, spec, model == "autoencoder")  # refuses what does not fit, before there is a folder
    settings = _settings(request, spec, fabric.device)
    torch.manual_seed(settings.seed)
    network = make_network(spec, EncoderSpec() if model == "autoencoder" else None)
    if request.init is not None:
        initial_weights(network, request.init)
    folder: Path | None = None
    if fabric.is_global_zero:
        kind = model if spec.architecture == "gated" else f"{spec.architecture}-{model}"
        folder = make_run_folder(f"{data.name}-{kind}", request.out)
    folder = fabric.broadcast(folder) if fabric.world_size > 1 else folder
    assert folder is not None
    hold(folder, fabric, stack)
    try:
        return Trainer(
            folder,
            network,
            data,
            quantization_for(spec.channels, spec.levels),
            settings,
            fabric,
            precision=request.precision or "auto",
            compiling=request.compile or "auto",
            note=note(fabric),
        )
    except GpcnnError:
        if fabric.is_global_zero and request.out is None and all(file.name == LOCK for file in folder.iterdir()):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        raise


def _usual_model(data: DataSet) -> str:
    """What decides what is drawn where nothing says so."""
    if data.train_maps is not None:
        return "map"
    return "conditional" if data.train_embeddings is None else "embedding"


def _map_fields(request: TrainRequest, data: DataSet, model: str) -> dict[str, Any]:
    """Fields of a `ModelSpec` for the map; none for a model without one.

    Raises:
        SpecError: the map's size, or the factor, does not divide the image's size.
    """
    channels, height, width = data.image_shape
    features = request.map_features or _MAP_FEATURES
    if model == "upscale":
        factor = request.factor or _FACTOR
        if height % factor or width % factor:
            raise SpecError(
                f"--factor {factor} does not divide the {counted(height, 'row')} and {counted(width, 'column')} of the "
                "pictures: name another, or resize them with --image-size"
            )
        size = {"map_height": height // factor, "map_width": width // factor}
        return {"conditioning_size": channels, **size, "map_features": features, "map_kind": "picture"}
    if model != "map":
        return {}
    assert data.train_maps is not None
    assert data.test_maps is not None
    planes, rows, columns = data.train_maps.shape[1:]
    if rows > height or columns > width or height % rows or width % columns:
        raise SpecError(
            f"{data.name}: maps have {counted(rows, 'row')} and {counted(columns, 'column')}: expected divisors of the "
            "images' "
            f"{height} and {width}"
        )
    categories = 0
    if data.train_maps.dtype.kind != "f":
        categories = max(2, 1 + int(max(data.train_maps.max(), data.test_maps.max())))
    return {
        "conditioning_size": planes,
        "map_height": rows,
        "map_width": columns,
        "map_features": features,
        "map_categories": categories,
        "map_kind": "categories" if categories else "values",
    }


def _spec(request: TrainRequest, data: DataSet, model: str) -> ModelSpec:
    preset = PRESETS.get(request.data or "digits", OWN_DATA)
    channels, height, width = data.image_shape
    conditioning_size = {"conditional": len(data.class_names), "autoencoder": request.code_size or 10}
    if data.train_embeddings is not None:
        conditioning_size["embedding"] = data.train_embeddings.shape[1]
    conditioning: dict[str, Conditioning] = {
        "conditional": "label",
        "autoencoder": "embedding",
        "embedding": "embedding",
        "map": "map",
        "upscale": "map",
        "unconditional": "none",
    }
    fields: dict[str, Any] = {name: getattr(request, name) or default for name, default in preset.shape().items()}
    fields["conditioning_size"] = conditioning_size.get(model, 0)
    fields |= _map_fields(request, data, model)
    return ModelSpec(
        height=height,
        width=width,
        channels=channels,
        **fields,
        conditioning=conditioning[model],
        input=request.input or "values",
        input_size=(request.input_size or _INPUT_SIZE) if request.input == "categorical" else 0,
        head=request.head or "categorical",
        mixtures=(request.mixtures or _MIXTURES) if request.head == "mixture" else 0,
        architecture=request.architecture or "gated",
    )


def _settings(request: TrainRequest, spec: ModelSpec, device: torch.device) -> Settings:
    name = request.data or "digits"
    preset = PRESETS.get(name, OWN_DATA)
    stepwise = request.epochs is not None or request.max_steps is not None
    time_limit = request.time_limit
    if time_limit is None and not stepwise and device.type == "cpu":
        time_limit = preset.cpu_time_limit
    fitting = max(1, min(preset.batch_size, _LOGITS_OF_A_BATCH // (spec.height * spec.width * spec.head_outputs)))
    defaults = Settings(
        data=remembered_name(name),
        data_dir=str(request.data_dir.resolve()) if request.data_dir else None,
        batch_size=fitting,
        learning_rate=preset.rate(request.optimizer or preset.optimizer),
        optimizer=preset.optimizer,
        epochs=None if stepwise else preset.epochs,
        time_limit=time_limit,
    )
    flags = {name: getattr(request, name) for name in Settings.__struct_fields__ if name not in ("data", "data_dir")}
    return msgspec.structs.replace(defaults, **{name: value for name, value in flags.items() if value is not None})


def _go_on(request: TrainRequest, fabric: Fabric, stack: contextlib.ExitStack) -> Trainer:
    assert request.resume is not None
    request.refuse_what_runs_keep()
    folder = run_folder(request.resume)
    if fabric.is_global_zero:
        read_state(folder)  # says what is missing, before anything is written
        check_folder(folder, "--resume")
    hold(folder, fabric, stack)
    restored = load_state(folder)
    settings = restored.state.settings
    if request.epochs or request.max_steps or request.time_limit:
        settings = msgspec.structs.replace(
            settings, epochs=request.epochs, max_steps=request.max_steps, time_limit=request.time_limit
        )
    if request.learning_rate is not None:
        settings = msgspec.structs.replace(settings, learning_rate=request.learning_rate)
    data_dir = data_folder(request, settings)
    if request.data is not None:  # where they are now
        settings = msgspec.structs.replace(settings, data=remembered_name(request.data))
    if not is_there(settings.data):
        raise CheckpointError(
            f"{folder}: was trained on {settings.data}, which is not there any more: say where these data are now with "
            f"--data NEW, such as gpcnn-train --resume {shlex.quote(str(folder))} --data NEW"
        )
    data = load_data(settings.data, data_dir, restored.state.checkpoint.preparation)
    settings = msgspec.structs.replace(settings, data_dir=str(data_dir.resolve()) if data_dir else None)
    return resumed(folder, restored, data, settings, fabric, note(fabric))


def _only_samples(request: TrainRequest, device: torch.device) -> int:
    """`--epochs 0`: draw a sheet of samples from a checkpoint that is there."""
    request.refuse_what_runs_keep()
    checkpoint = request.resume
    if checkpoint is None:
        checkpoint = newest_run(prefix=_prefix(request))
    elif request.model:
        raise UsageError(f"--epochs 0 draws from {checkpoint} as it is: leave out --model, or --resume")
    if checkpoint_header(checkpoint).vqvae is not None:
        return only_pictures(request, checkpoint, device)
    model, header = load_checkpoint(checkpoint)
    shows_images = header.spec.conditioning in DRAWN_FROM_IMAGES
    if not shows_images and request.resume is not None and request.data:
        raise UsageError(f"--epochs 0 draws from {checkpoint} as it is: leave out --data and --model, or --resume")
    limit_threads()
    path = (request.out or checkpoint_path(checkpoint).parent) / SAMPLES
    check_file(path, "--out")
    data = _pictures_of(checkpoint, request, header) if shows_images else None
    count = draw_samples(path, model.to(device), header.seed if request.seed is None else request.seed, data)
    click.echo(f"{count} samples of {checkpoint_path(checkpoint)}\nsamples     {path}")
    return 0


def _pictures_of(checkpoint: Path, request: TrainRequest, header: Header) -> DataSet:
    """The data that a model was trained on whose samples follow pictures."""
    name, data_dir = request.data or header.data, request.data_dir
    folder = checkpoint_path(checkpoint).parent
    if request.data is None and header.data not in NAMES and (folder / STATE).is_file():
        name = read_state(folder).settings.data
    if not is_there(name):
        raise DataError(f"{checkpoint}: was trained on {name}, which is not here: say where it is with --data")
    return load_data(name, data_dir, header.preparation)


def _prefix(request: TrainRequest) -> str:
    """How the names of the runs begin that `--data` and `--model` ask for."""
    if request.data is None:
        if request.model is not None:
            raise UsageError("--epochs 0 with --model needs --data too, or a run with --resume")
        return ""
    name = request.data if request.data in NAMES else Path(request.data).resolve().stem
    return f"{name}-{request.model or ''}"


def _train(trainer: Trainer, request: TrainRequest, fabric: Fabric) -> int:
    main = fabric.is_global_zero
    if main:
        _announce(trainer, request)
    code = InterruptedRun.exit_code
    with Interrupt() as interrupt, Display("training", silent=not main) as display:
        ended = trainer.train(display, lambda: interrupt.requested)
        code = interrupt.exit_code
    if not main:
        return 0  # another status would make the launcher end the first process, which has work left
    try:
        if not ended:
            raise KeyboardInterrupt
        _finish(trainer, request)
    except KeyboardInterrupt:
        go_on = f"gpcnn-train --resume {shlex.quote(str(trainer.run))}"
        if request.device != "auto":
            go_on += f" --device {request.device}"
        if request.devices * request.nodes > 1:
            go_on += f" --devices {request.devices} --nodes {request.nodes}"
        click.echo(f"\ninterrupted at step {trainer.step}, saved in {trainer.run}; go on with:\n  {go_on}", err=True)
        return code
    return 0


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` writes about a finished run."""

    checkpoint: str
    samples: str
    steps: int
    epochs: float
    seconds: float
    test_nats_per_image: float
    test_bits_per_dim: float
    test_images: int
    best_step: int
    parameters: int
    compute: str


def _finish(trainer: Trainer, request: TrainRequest) -> None:
    """Score and sample the best checkpoint, which is what will be exported."""
    checkpoint = trainer.run / CHECKPOINT
    model, header = load_checkpoint(checkpoint)
    model = model.to(trainer.device)
    everything = len(trainer.data.test_pixels)
    scored = min(request.test_images or everything, everything)
    with threads_set(trainer.compute.threads):
        with Display("scoring the test images") as display:
            nll = trainer.score(model, test=scored, on_progress=display.update)
        save_checkpoint(checkpoint, model, final_header(header, nll, scored))
        trainer.record_test(nll, scored)
        draw_samples(trainer.run / SAMPLES, model, trainer.settings.seed, trainer.data)
    report = _Report(
        checkpoint=str(checkpoint),
        samples=str(trainer.run / SAMPLES),
        steps=trainer.step,
        epochs=trainer.epoch,
        seconds=trainer.seconds,
        test_nats_per_image=nll,
        test_bits_per_dim=bits_per_dim(nll, trainer.spec),
        test_images=scored,
        best_step=header.step,
        parameters=parameter_count(model),
        compute=trainer.compute.describe(),
    )
    write_json(request.json_path, report)
    of = f"{scored:,} of " if scored < everything else ""
    say(
        request.json_path,
        f"trained {counted(trainer.step, 'step')} ({trainer.epoch:.1f} epochs) in {duration(trainer.seconds)}\n"
        f"test NLL    {nll:.2f} nats/image, {report.test_bits_per_dim:.4f} bits/dim "
        f"({of}{counted(everything, 'test image')})\n"
        f"samples     {report.samples}\n"
        f"checkpoint  {checkpoint}\n"
        f"next        gpcnn-export {shlex.quote(str(checkpoint))}"
        + (" --format onnx --graph step" if trainer.spec.architecture != "gated" else ""),
    )
    _say_what_more_gives(trainer, request)


def _say_what_more_gives(trainer: Trainer, request: TrainRequest) -> None:
    preset = PRESETS.get(trainer.settings.data)
    given = request.recipe or request.epochs or request.max_steps or request.time_limit
    if given or preset is None or preset.recipe is None or trainer.spec.conditioning != "label":
        return
    if trainer.device.type == "cpu":
        click.echo(f"better      gpcnn-train --recipe {preset.recipe}  ({preset.recipe_gives})", err=True)


def _announce(trainer: Trainer, request: TrainRequest) -> None:
    data, spec, settings = trainer.data, trainer.spec, trainer.settings
    size = f"{spec.height}×{spec.width}" + (" RGB" if spec.channels == 3 else "")
    binarized = ", binarized anew each epoch" if trainer.quantization == "stochastic-binary" else ""
    kind = {
        "label": f"conditional on {counted(len(data.class_names), 'class', 'classes')}",
        "embedding": f"conditional on {'an embedding' if trainer.model.encoder is None else 'a code'} of "
        f"{counted(spec.conditioning_size, 'number')}",
        "map": f"conditional on {map_in_words(spec)}",
        "none": "unconditional",
    }[spec.conditioning]
    weights = f"{parameter_count(trainer.model):,} weights"
    if trainer.model.encoder is not None:
        weights += f", {parameter_count(trainer.model.encoder):,} of them the encoder's"
    place = f"{trainer.device} with {trainer.compute.describe()}"
    if trainer.processes > 1:
        place += f", {counted(trainer.processes, 'process', 'processes')}"
    click.echo(
        f"{data.name}: {len(trainer.train_images):,} training, {len(trainer.validation_images):,} validation and "
        f"{counted(len(data.test_pixels), 'test image')}, {size}, {levels_in_words(spec)}{binarized}\n"
        f"model: {layers_in_words(spec)}, {weights}, {kind}\n"
        f"training on {place} for {settings.limits()}, in {trainer.run}; Ctrl-C saves",
        err=True,
    )
    for line in data.notes:
        click.echo(line, err=True)
    given = spec.conditioning in ("embedding", "map") and trainer.model.encoder is None
    if given and (scale := note_on_scale(data, spec)):
        click.echo(scale, err=True)
    if data.preparation is not None:
        click.echo(f"pictures are {data.preparation}; gpcnn-score and --complete prepare theirs so, too", err=True)
    limits = (request.time_limit, request.epochs, request.max_steps, request.resume)
    if all(limit is None for limit in limits) and settings.time_limit is not None:
        click.echo("train longer, and better, with for example --time-limit 1h", err=True)
    if trainer.progress >= 1:
        click.echo("that is reached already; to train on, give a larger limit, which counts from step 0", err=True)
    elif trainer.step:
        click.echo(f"going on at step {trainer.step:,}, {trainer.progress:.0%} of the way", err=True)
