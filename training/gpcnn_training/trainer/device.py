"""The device of a run, and the processes that share it out."""

from __future__ import annotations

import logging
import os
import warnings

import torch
from lightning_fabric import Fabric

from gpcnn_deploy.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps` → a device that this machine has.

    Raises:
        UsageError: not a device name, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        number and (kind != "cuda" or not number.isascii() or not number.isdigit())
    ):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:0, cuda:1, … or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise UsageError(f"--device {name}: PyTorch sees {count} CUDA GPUs on this machine: try --device auto")
        return torch.device("cuda", int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: PyTorch sees no Apple GPU on this machine: try --device auto")
    return torch.device(kind)


def distributed(devices: int, nodes: int) -> bool:
    """Whether the run has several processes, started by this one or by `torchrun`."""
    return devices * nodes > 1 or "TORCHELASTIC_RUN_ID" in os.environ


def make_fabric(device: torch.device, devices: int = 1, nodes: int = 1) -> Fabric:
    """Fabric over `devices` processes on each of `nodes` machines, or over those that `torchrun` started; ready to use.

    The first process starts the others of its machine, with the same command line. It returns in each of them.

    Raises:
        UsageError: more GPUs than there are, or a kind of device that cannot be shared.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    if devices * nodes > 1 and device.type == "mps":
        raise UsageError("--devices: an Apple GPU cannot be shared by processes: leave it out, or add --device cpu")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(f"--devices {devices}: PyTorch sees {torch.cuda.device_count()} CUDA GPUs on this machine")
    several = distributed(devices, nodes)
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" and not several else devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision="32-true",  # `compute.autocast` lowers it
    )
    fabric.launch()
    return fabric


def local_processes(fabric: Fabric) -> int:
    """How many processes of the run share this machine's cores."""
    return max(1, fabric.world_size // int(getattr(fabric.strategy, "num_nodes", 1)))
