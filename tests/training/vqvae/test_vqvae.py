"""A VQ-VAE's parts: codes are the nearest vectors, gradients pass them, the codebook follows what is assigned to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpcnn_deploy.errors import SpecError
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_training.vqvae.codebook import CodebookAverages, perplexity
from gpcnn_training.vqvae.pictures import as_numbers, as_pixels, decibels, decode, encode, moved, reconstruct
from gpcnn_training.vqvae_network import Vqvae

SPEC = VqvaeSpec(height=8, width=12, channels=3, codes=7, downsample=4, code_size=5, features=6, blocks=1)
RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (9, 3, 8, 12)).astype(np.uint8)


@pytest.fixture
def network() -> Vqvae:
    torch.manual_seed(1)
    return Vqvae(SPEC).eval()


def test_the_code_is_the_nearest_vector_of_the_codebook(network: Vqvae) -> None:
    with torch.no_grad():
        vectors = network.vectors(network.encoder(as_numbers(PIXELS)))
        codes = network.encode(as_numbers(PIXELS))
    assert vectors.shape == (9, 5, 2, 3)
    distances = (vectors.permute(0, 2, 3, 1)[..., None, :] - network.codebook).square().sum(-1)
    assert torch.equal(codes, distances.argmin(-1))
    assert network.decode(codes).shape == PIXELS.shape
    assert np.array_equal(encode(network, PIXELS)[:, 0], codes.numpy())


@pytest.mark.parametrize("downsample", [2, 4, 8, 16])
def test_sizes_come_back_for_every_downsampling(downsample: int) -> None:
    spec = VqvaeSpec(height=32, width=16, channels=1, codes=4, downsample=downsample, code_size=2, features=3, blocks=0)
    network = Vqvae(spec)
    pictures = torch.zeros(2, 1, 32, 16)
    coded = network(pictures)
    assert coded.codes[0].shape == (2, 32 // downsample, 16 // downsample) == (2, *spec.grid)
    assert coded.pictures.shape == pictures.shape


def test_the_gradient_of_the_reconstruction_reaches_the_encoder_as_if_nothing_was_chosen(network: Vqvae) -> None:
    pictures = as_numbers(PIXELS)
    coded = network(pictures)
    (vectors,) = coded.vectors
    vectors.retain_grad()
    (coded.pictures - pictures).square().sum().backward()
    through = vectors.grad
    chosen = network.codebook[coded.codes[0]].permute(0, 3, 1, 2).clone().requires_grad_()
    (network.decoder(chosen) - pictures).square().sum().backward()
    assert chosen.grad is not None
    assert torch.allclose(through, chosen.grad, atol=1e-4)
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in network.encoder.parameters())


def test_the_codebook_moves_to_the_means_of_what_is_assigned_to_it() -> None:
    codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    averages = CodebookAverages(codebook)
    vectors = torch.tensor([[0.2, 0.0], [0.4, 0.0], [2.0, 3.0], [2.0, 3.0]]).T.reshape(1, 2, 2, 2)
    codes = torch.tensor([[[0, 0], [1, 1]]])
    for step in range(1, 2000):
        averages.update(codebook, vectors, codes, seed=0, step=step)
    assert torch.allclose(codebook, torch.tensor([[0.3, 0.0], [2.0, 3.0]]), atol=1e-3)


def test_codes_that_nothing_is_assigned_to_are_restarted_where_vectors_are_unless_that_is_over() -> None:
    vectors = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    flat = vectors.permute(0, 2, 3, 1).reshape(-1, 3)
    codes = torch.zeros(4, 5, 5, dtype=torch.int64)

    def after(restart: bool) -> tuple[torch.Tensor, int]:
        codebook = torch.full((6, 3), 50.0)
        codebook[0] = 0
        averages = CodebookAverages(codebook)
        restarted = sum(averages.update(codebook, vectors, codes, 3, step, restart) for step in range(1, 400))
        return codebook, restarted

    codebook, restarted = after(restart=True)
    assert restarted >= 5
    distances = torch.cdist(codebook[1:], flat).min(1).values
    assert float(distances.max()) < 0.05
    again, _ = after(restart=True)
    assert torch.equal(codebook, again)
    assert after(restart=False)[1] == 0


def test_perplexity_and_decibels_of_known_cases() -> None:
    assert math.isclose(perplexity(torch.tensor([5, 5, 5, 5, 0])), 4)
    assert math.isclose(perplexity(torch.tensor([9, 0])), 1)
    assert math.isclose(decibels(255**2 / 100), 20)


def test_moved_pictures_are_mirrored_and_shifted_over_their_edge() -> None:
    one = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    many = np.repeat(one, 400, 0)
    plain = {picture.tobytes() for picture in moved(many, True, 0, np.random.default_rng(1))}
    assert plain == {one[0].tobytes(), np.ascontiguousarray(one[0, :, :, ::-1]).tobytes()}
    found = {picture.tobytes() for picture in moved(many, False, 1, np.random.default_rng(1))}
    padded = np.pad(one[0, 0], 1, mode="edge")
    expected = {np.ascontiguousarray(padded[i : i + 3, j : j + 4]).tobytes() for i in range(3) for j in range(3)}
    assert found == expected
    assert np.array_equal(many, np.repeat(one, 400, 0))


def test_pictures_are_rounded_and_cut(network: Vqvae) -> None:
    assert np.array_equal(as_pixels(as_numbers(PIXELS)), PIXELS)
    wild = as_pixels(torch.tensor([[[[-9.0, -1.0, 0.0, 1.0, 9.0]]]]))
    assert wild.tolist() == [[[[0, 0, 128, 255, 255]]]]
    found = reconstruct(network, PIXELS)
    back = decode(network, found.codes).astype(float)
    assert math.isclose(found.squared_error, ((back - PIXELS) ** 2).mean())
    assert math.isclose(found.psnr, decibels(((back - PIXELS) ** 2).mean()))


def test_a_spec_refuses_sizes_that_do_not_divide_and_priors_of_other_grids() -> None:
    with pytest.raises(SpecError, match="expected a multiple of 4"):
        VqvaeSpec(height=10, width=8, channels=3)
    with pytest.raises(SpecError, match="expected 2, 4, 8 or 16"):
        VqvaeSpec(height=12, width=12, channels=3, downsample=3)
    with pytest.raises(SpecError, match="codes is 5000"):
        VqvaeSpec(height=8, width=8, channels=3, codes=5000)
    fitting = {"height": 2, "width": 3, "levels": 7, "input": "categorical", "input_size": 4}
    assert SPEC.refuse(ModelSpec(**fitting)) is None
    for change in ({"height": 3}, {"levels": 8}, {"channels": 3}, {"input": "values", "input_size": 0}):
        assert SPEC.refuse(ModelSpec(**{**fitting, **change}))
