"""A run of a VQ-VAE's stages as the flags ask for it: begun, or gone on with; and what is refused before."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric

from gpcnn_deploy.checkpoint_header import CODES_KEY, CodesHeader, read_header
from gpcnn_deploy.errors import CheckpointError, SpecError, UsageError
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_deploy.system.files import check_folder
from gpcnn_training.checkpoint import load_codes, load_vqvae, save_codes
from gpcnn_training.commands.train.places import data_folder, hold, is_there, note, remembered_name, run_folder
from gpcnn_training.commands.train.presets import OWN_DATA, PRESETS, PRIOR
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.sources import load_data
from gpcnn_training.runs import (
    CHECKPOINT,
    CODES,
    CODES_STATE,
    RUNS,
    STATE,
    make_run_folder,
)
from gpcnn_training.trainer.device import distributed
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.vqvae.plan import Plan, has_plan, read_plan, write_plan
from gpcnn_training.vqvae.state import load_codes_state, read_codes_state
from gpcnn_training.vqvae.trainer import CodesTrainer
from gpcnn_training.vqvae_network import Vqvae

_OF_STAGES = ("stage", "codes", "downsample", "coder_features", "coder_blocks", "mirror", "shift")
_OF_PIXELS = {
    "levels": "--codes says how many",
    "input": "codes are categories",
    "head": "codes are categories",
    "architecture": "its prior is a Gated PixelCNN",
    "mixtures": "codes are categories",
    "factor": "pictures are enlarged by --model upscale",
    "map_features": "it has no map",
}
_MODELS = {"vqvae": 1, "vqvae2": 2}  # and how many levels of codes they have
_DOWNSAMPLE = {"vqvae": 4, "vqvae2": 2}  # so that a code of the (top) level stands for 4×4 pixels
_MAP_FEATURES = 32
_CODES_WEIGHT_DECAY = 0.01
_CODES_LEARNING_RATE = 2e-3
_INPUT_SIZE = 16
_SHARE = 0.5  # of a time limit of both stages, that the first one gets


def is_of_stages(request: TrainRequest) -> bool:
    """Whether a VQ-VAE is asked for, or the run to go on with is one's."""
    if request.resume is None:
        return request.model in _MODELS
    return has_plan(request.resume if request.resume.is_dir() else request.resume.parent)


def refuse_stages(request: TrainRequest) -> None:
    """Refuse the flags of a VQ-VAE for another model, and several processes for a VQ-VAE.

    Raises:
        UsageError: names the first flag that is wrong.
    """
    if is_of_stages(request):
        if distributed(request.devices, request.nodes):
            raise UsageError("--devices: a VQ-VAE trains in one process: leave it out, and --nodes")
        return
    given = [name for name in _OF_STAGES if getattr(request, name) is not None]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{option} is of a VQ-VAE: leave it out, or add --model vqvae or vqvae2")


def begin(
    request: TrainRequest, fabric: Fabric, stack: contextlib.ExitStack
) -> tuple[Path, Plan, CodesTrainer | None, DataSet]:
    """A new run: its folder with the plan, and the trainer of the first stage, where there is one."""
    _refuse(request)
    check_folder(request.out or RUNS, "--out")
    given = None if request.init is None else _codes_of(request.init)
    name = request.data or "digits"
    data = load_data(name, request.data_dir, request.preparation())
    if data.class_names:
        data.check_classes()
    try:
        spec = _picture_spec(request, data) if given is None else given[0].spec
        prior = _prior_spec(request, data, spec)
    except SpecError as error:
        raise UsageError(str(error)) from error
    if spec.code_levels != _MODELS[request.model or "vqvae"]:
        model = next(name for name, levels in _MODELS.items() if levels == spec.code_levels)
        raise UsageError(f"--init {request.init}: is of --model {model}: name that model, or take other codes")
    if spec.image_shape != data.image_shape:
        raise UsageError(
            f"--init {request.init}: its pictures are {'×'.join(map(str, spec.image_shape))}, those of {name} "
            f"{'×'.join(map(str, data.image_shape))} (channels × height × width): make them equal with --image-size"
        )
    plan = Plan(
        spec=prior,
        settings=_settings(request, name, fabric.device, PRIOR.batch_size, PRIOR.learning_rate, None),
        shared=request.stage is None,
        given=given is not None,
        precision=request.precision or "auto",
        compiling=request.compile or "auto",
    )
    run = make_run_folder(f"{data.name}-{request.model}", request.out)
    hold(run, fabric, stack)
    write_plan(run, plan)
    if given is not None:
        save_codes(run / CODES, *given)
        return run, plan, None, data
    settings = _settings(request, name, fabric.device, PRIOR.batch_size, _CODES_LEARNING_RATE, _CODES_WEIGHT_DECAY)
    settings = _of_codes(settings, plan.shared)
    torch.manual_seed(settings.seed)
    trainer = CodesTrainer(
        run,
        Vqvae(spec),
        data,
        settings,
        fabric.device,
        precision=plan.precision,
        compiling=plan.compiling,
        note=note(fabric),
    )
    return run, plan, trainer, data


def _refuse(request: TrainRequest) -> None:
    """Refuse flags of a new run that would do nothing, or contradict each other."""
    for name, why in _OF_PIXELS.items():
        if name == "map_features" and request.model == "vqvae2":
            continue
        if getattr(request, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is not of a VQ-VAE, {why}: leave it out")
    if request.stage == "prior" and request.init is None:
        raise UsageError(
            "--stage prior needs codes: name a run that has them with --init, or go on with it by --resume"
        )
    if request.init is not None and request.stage != "prior":
        raise UsageError("--init gives a VQ-VAE its codes: add --stage prior, or leave it out")
    of_codes = ("codes", "downsample", "coder_features", "coder_blocks", "code_size")
    if request.init is not None and (given := [name for name in of_codes if getattr(request, name) is not None]):
        raise UsageError(f"--{given[0].replace('_', '-')} is decided by --init {request.init}: leave it out")


def _codes_of(path: Path) -> tuple[Vqvae, CodesHeader]:
    """Encoder, codebook and decoder in a run folder, a file of codes, or a VQ-VAE's checkpoint."""
    if path.is_dir():
        path = path / (CODES if (path / CODES).exists() else CHECKPOINT)
    if path.name == CODES:
        return load_codes(path)
    _, pictures, header = load_vqvae(path)
    return pictures, CodesHeader(
        vqvae=pictures.spec,
        data=header.data,
        preparation=header.preparation,
        seed=header.seed,
        psnr=header.psnr,
        perplexity=header.perplexity,
        versions=header.versions,
    )


def _picture_spec(request: TrainRequest, data: DataSet) -> VqvaeSpec:
    channels, height, width = data.image_shape
    return VqvaeSpec(
        height=height,
        width=width,
        channels=channels,
        codes=request.codes or 256,
        downsample=request.downsample or _DOWNSAMPLE[request.model or "vqvae"],
        code_size=request.code_size or 64,
        features=request.coder_features or 64,
        blocks=2 if request.coder_blocks is None else request.coder_blocks,
        code_levels=_MODELS[request.model or "vqvae"],
    )


def _prior_spec(request: TrainRequest, data: DataSet, spec: VqvaeSpec) -> ModelSpec:
    height, width = spec.grid
    shape: dict[str, Any] = {name: getattr(request, name) or default for name, default in PRIOR.shape().items()}
    return ModelSpec(
        height=height,
        width=width,
        **{**shape, "levels": spec.codes},
        conditioning="label" if data.class_names else "none",
        conditioning_size=len(data.class_names),
        input="categorical",
        input_size=request.input_size or _INPUT_SIZE,
        code_levels=spec.code_levels,
        map_features=(request.map_features or _MAP_FEATURES) if spec.code_levels == 2 else 0,
    )


def _settings(
    request: TrainRequest,
    name: str,
    device: torch.device,
    batch_size: int,
    learning_rate: float,
    weight_decay: float | None,
) -> Settings:
    """What a stage is asked to do; a time limit is as it was given."""
    preset = PRESETS.get(name, OWN_DATA)
    stepwise = request.epochs is not None or request.max_steps is not None
    time_limit = request.time_limit
    if time_limit is None and not stepwise and device.type == "cpu":
        time_limit = preset.cpu_time_limit
    defaults = Settings(
        data=remembered_name(name),
        data_dir=str(request.data_dir.resolve()) if request.data_dir else None,
        batch_size=batch_size,
        learning_rate=learning_rate,
        epochs=None if stepwise or request.time_limit is not None else PRIOR.epochs,
        time_limit=time_limit,
    )
    if weight_decay is not None:
        defaults = msgspec.structs.replace(defaults, weight_decay=weight_decay)
    flags = {name: getattr(request, name) for name in Settings.__struct_fields__ if name not in ("data", "data_dir")}
    return msgspec.structs.replace(defaults, **{name: value for name, value in flags.items() if value is not None})


def _of_codes(settings: Settings, shared: bool) -> Settings:
    """The settings of the first stage, whose optimizer is AdamW and which gets its share of a time limit of both."""
    settings = msgspec.structs.replace(settings, optimizer="adamw")
    if not shared or settings.time_limit is None:
        return settings
    return msgspec.structs.replace(settings, time_limit=settings.time_limit * _SHARE)


def go_on(
    request: TrainRequest, fabric: Fabric, stack: contextlib.ExitStack
) -> tuple[Path, Plan, CodesTrainer | None, DataSet]:
    """A run that was begun: its plan with new limits, and the trainer of its first stage where that has not ended."""
    assert request.resume is not None
    request.refuse("resumed", f"--resume goes on with {request.resume} as it was begun")
    run = run_folder(request.resume)
    plan = read_plan(run)
    check_folder(run, "--resume")
    prior_begun = (run / STATE).is_file()
    if request.stage == "codes" and (prior_begun or plan.given):
        raise UsageError(
            f"--stage codes: the prior in {run} is of its codes as they are: begin a new run, or leave --stage out"
        )
    if request.stage == "prior" and not (run / CODES).is_file():
        raise CheckpointError(f"{run}: has no codes yet: leave out --stage prior, and both stages are trained")
    hold(run, fabric, stack)
    settings = plan.settings
    new_limits = bool(request.epochs or request.max_steps or request.time_limit)
    if new_limits:
        settings = msgspec.structs.replace(
            settings, epochs=request.epochs, max_steps=request.max_steps, time_limit=request.time_limit
        )
    if request.learning_rate is not None and request.stage != "codes":
        settings = msgspec.structs.replace(settings, learning_rate=request.learning_rate)
    folder = data_folder(request, settings)
    if request.data is not None:
        settings = msgspec.structs.replace(settings, data=remembered_name(request.data))
    if not is_there(settings.data):
        raise CheckpointError(
            f"{run}: was trained on {settings.data}, which is not there any more: say where these data are now with "
            f"--data NEW, such as gpcnn-train --resume {shlex.quote(str(run))} --data NEW"
        )
    settings = msgspec.structs.replace(settings, data_dir=str(folder.resolve()) if folder else None)
    shared = request.stage is None if new_limits else plan.shared
    if request.stage != "codes":
        plan = msgspec.structs.replace(plan, settings=settings, shared=shared)
        write_plan(run, plan)
    ended = prior_begun or plan.given or ((run / CODES).is_file() and request.stage == "prior")
    if not ended and (run / CODES_STATE).is_file():
        ended = read_codes_state(run).ended and request.stage != "codes"
    preparation = read_header(run / CODES, CodesHeader, CODES_KEY)[0].preparation if (run / CODES).is_file() else None
    data = load_data(settings.data, folder, preparation)
    if ended:
        return run, plan, None, data
    if not (run / CODES_STATE).is_file():
        raise CheckpointError(f"{run}: was stopped before anything was saved: start a new run")
    restored = load_codes_state(run)
    ours = restored.state.settings
    if new_limits:
        limits = {"epochs": request.epochs, "max_steps": request.max_steps, "time_limit": request.time_limit}
        ours = _of_codes(msgspec.structs.replace(ours, **limits), shared)
    if request.learning_rate is not None:
        ours = msgspec.structs.replace(ours, learning_rate=request.learning_rate)
    ours = msgspec.structs.replace(ours, data=settings.data, data_dir=settings.data_dir)
    trainer = CodesTrainer(run, restored.network, data, ours, fabric.device, restored, note=note(fabric))
    return run, plan, trainer, data
