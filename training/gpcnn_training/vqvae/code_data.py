"""A data set of pictures as one of codes, which a prior is trained on as on any other images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from gpcnn_training.data.dataset import DataSet, Pixels
from gpcnn_training.trainer.trainer import hold_out
from gpcnn_training.vqvae.pictures import encode
from gpcnn_training.vqvae_network import Vqvae


@dataclass(frozen=True)
class CodeData(DataSet):
    """Grids of codes, uint16 [N, 1, h, w], in place of pixels; its last training images are held out.

    Attributes:
        origin: SHA-256 of the pictures and of the network that made the codes; whether they are the same does not
            depend on the last bits of a sum, as the codes themselves do.
        pictures: training pictures uint8 [N, C, H, W], in the order of the codes.
    """

    origin: str = ""
    pictures: Pixels | None = None

    def digest(self) -> str:
        """The origin."""
        return self.origin


def code_data(network: Vqvae, data: DataSet) -> CodeData:
    """The codes of all pictures; those held out to choose the best checkpoint by come last."""
    h, w = network.spec.grid
    train, validation = hold_out(data, h * w)
    order = np.concatenate([train, validation])
    pictures = data.train_pixels[order]
    return CodeData(
        data.name,
        cast(Pixels, encode(network, pictures)),
        data.train_labels[order],
        cast(Pixels, encode(network, data.test_pixels)),
        data.test_labels,
        data.class_names,
        len(validation),
        data.preparation,
        data.notes,
        origin=_origin(network, data),
        pictures=pictures,
    )


def codes_to_score(codes: npt.NDArray[np.uint16], data: DataSet) -> CodeData:
    """A data set whose test images are these codes of the test pictures; nothing can be trained on it."""
    return CodeData(
        data.name,
        cast(Pixels, codes[:1]),
        data.test_labels[:1],
        cast(Pixels, codes),
        data.test_labels[: len(codes)],
        data.class_names,
    )


def _origin(network: Vqvae, data: DataSet) -> str:
    digest = hashlib.sha256(data.digest().encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
