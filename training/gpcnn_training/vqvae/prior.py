"""The second stage of a VQ-VAE: a Gated PixelCNN over grids of codes, or two of a VQ-VAE-2; trained as any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric

from gpcnn_deploy.checkpoint_header import CodesHeader, Header
from gpcnn_deploy.errors import CheckpointError
from gpcnn_training.checkpoint import save_vqvae
from gpcnn_training.network import Network
from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.state import Restored
from gpcnn_training.trainer.trainer import Trainer
from gpcnn_training.vqvae.code_data import CodeData
from gpcnn_training.vqvae.pictures import encode, moved
from gpcnn_training.vqvae.sheets import drawn_sheet
from gpcnn_training.vqvae_network import Vqvae


class PriorTrainer(Trainer):
    """A run's second stage: its checkpoints hold the first one, too."""

    def __init__(
        self,
        run: Path,
        model: Network,
        data: CodeData,
        pictures: Vqvae,
        codes: CodesHeader,
        settings: Settings,
        fabric: Fabric,
        restored: Restored | None = None,
        precision: PrecisionChoice = "auto",
        compiling: CompileChoice = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Train `model` on codes that `pictures` gives; the rest as `Trainer`.

        Raises:
            CheckpointError: a resumed run was trained on other codes.
            TrainingError: as `Trainer`.
        """
        if restored is not None and restored.state.data_digest != data.digest():
            raise CheckpointError(
                f"{run}: was trained on codes of other pictures or of another encoder: start a new run"
            )
        self.pictures = pictures.to(fabric.device).eval()
        self.codes, self.code_data = codes, data
        super().__init__(run, model, data, "codes", settings, fabric, restored, precision, compiling, note)

    def header(self, validation_nll: float | None = None) -> Header:
        """What a checkpoint of now says about itself."""
        header = super().header(validation_nll)
        return msgspec.structs.replace(
            header, vqvae=self.pictures.spec, psnr=self.codes.psnr, perplexity=self.codes.perplexity
        )

    def _save_checkpoint(self, path: Path, header: Header) -> None:
        save_vqvae(path, self.average, self.pictures, header)

    def _sheet(self) -> npt.NDArray[np.uint8]:
        return drawn_sheet(self.average, self.pictures, self.settings.seed, most=20)[0]

    def _levels(self, chosen: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Codes of these pictures, each mirrored and moved anew if the settings say so."""
        settings = self.settings
        if not (settings.mirror or settings.shift):
            return super()._levels(chosen, random)
        assert self.code_data.pictures is not None
        pixels = moved(self.code_data.pictures[chosen], settings.mirror, settings.shift, random)
        return encode(self.pictures, pixels).astype(np.int64)
