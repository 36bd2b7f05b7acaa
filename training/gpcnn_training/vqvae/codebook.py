"""How the codebook of a VQ-VAE learns: exponential moving averages (arXiv 1711.00937, appendix A.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpcnn_training.data.quantize import stream
from gpcnn_training.vqvae_network import Vqvae

DECAY = 0.99
FEWEST = 0.02
"""A code with a smaller share of the average code's uses is dead, and is restarted."""
_TRIAL = 2 * FEWEST
"""Share of the average code's uses that a restarted code is given: unused, it is dead again in 70 steps."""
_SMOOTHING = 1e-5
_RESTARTS = 3 << 62  # apart from the other streams of a run
_BETWEEN_LEVELS = 1 << 61


class CodebookAverages:
    """The averages: per code, how many vectors of a batch are assigned to it, and their sum.

    Attributes:
        uses: float [K].
        sums: float [K, D].
    """

    def __init__(self, codebook_KD: Tensor) -> None:
        """Start at a codebook, as if each code had been used once."""
        self.uses = torch.ones(len(codebook_KD), device=codebook_KD.device)
        self.sums = codebook_KD.clone()

    @torch.no_grad()
    def update(
        self,
        codebook_KD: Tensor,
        vectors_NDhw: Tensor,
        codes_Nhw: Tensor,
        seed: int,
        step: int,
        restart: bool = True,
        level: int = 0,
    ) -> int:
        """Move the codebook, in place, by a batch of vectors and the codes nearest to them.

        With `restart`, a code that is hardly used is restarted at a vector of this batch, drawn by seed and step, the
        likelier the further it is from its code. At step 0 all are: the codebook begins where the vectors are. Each
        `level` of codes draws by a stream of its own.

        Returns:
            how many codes were restarted.
        """
        flat = vectors_NDhw.detach().permute(0, 2, 3, 1).reshape(-1, codebook_KD.shape[1]).float()
        chosen = codes_Nhw.reshape(-1)
        number = len(codebook_KD)
        counts = torch.bincount(chosen, minlength=number).to(flat.dtype)
        sums = torch.zeros_like(codebook_KD).index_add_(0, chosen, flat)
        self.uses.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        typical = len(flat) / number
        dead = self.uses < FEWEST * typical if step else torch.ones_like(self.uses, dtype=torch.bool)
        restarted = int(dead.sum()) if restart or step == 0 else 0
        if restarted:
            distances = (flat - codebook_KD[chosen]).square().sum(1).double().cpu().cumsum(0)
            drawn = (
                torch.from_numpy(stream(seed, _RESTARTS + level * _BETWEEN_LEVELS + step).random(restarted))
                * distances[-1]
            )
            found = torch.searchsorted(distances, drawn).clamp(max=len(flat) - 1).to(flat.device)
            self.sums[dead] = flat[found] * (_TRIAL * typical)
            self.uses[dead] = _TRIAL * typical
        total = self.uses.sum()
        smooth = (self.uses + _SMOOTHING) / (total + number * _SMOOTHING) * total
        codebook_KD.copy_(self.sums / smooth[:, None])
        return restarted


def averages_of(network: Vqvae) -> dict[str, CodebookAverages]:
    """Averages that start at the codebooks of a network, by their names."""
    return {name: CodebookAverages(codebook) for name, codebook in network.codebooks.items()}


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of how often codes are used: as many codes would be used if all were used alike."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return math.exp(float(-(shares * shares.clamp(min=1e-300).log()).sum()))
