"""The autoencoder: its encoder is the reference's, learns with its decoder, and its code decides what is drawn."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.errors import CheckpointError, UsageError
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_training.checkpoint import load_checkpoint, save_checkpoint
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.encoder import Encoder
from gpcnn_training.evaluation.likelihood import draw_samples
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached, score
from gpcnn_training.trainer.compute import Compute
from gpcnn_training.trainer.device import make_fabric
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.initial import initial_weights
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.trainer import Trainer

SPEC = ModelSpec(
    height=6, width=5, levels=4, layers=2, features=8, head_features=8, conditioning="embedding", conditioning_size=3
)
SMALL = EncoderSpec(features=(4, 6, 8))


def test_the_reference_encoder_has_the_reference_sizes() -> None:
    spec = ModelSpec(height=28, width=28, conditioning="embedding", conditioning_size=10)
    encoder = Encoder(EncoderSpec(), spec)
    shapes = {name: tuple(weight.shape) for name, weight in encoder.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (100, 1, 5, 5),
        "conv2.weight": (150, 100, 5, 5),
        "conv3.weight": (200, 150, 3, 3),
        "code.weight": (10, 200 * 7 * 7),
    }


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 9), (8, 8)])
def test_any_size_has_a_code(height: int, width: int) -> None:
    model = GatedPixelCNN(msgspec.structs.replace(SPEC, height=height, width=width), SMALL)
    assert model.embed(torch.zeros(2, 1, height, width, dtype=torch.int64)).shape == (2, 3)


def test_every_pixel_of_a_picture_reaches_its_code() -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN(SPEC, SMALL)
    image = torch.randint(4, (1, 1, 6, 5))
    code = model.embed(image)
    for i in range(6):
        for j in range(5):
            other = image.clone()
            other[0, 0, i, j] = (other[0, 0, i, j] + 2) % 4
            assert not torch.equal(model.embed(other), code), (i, j)


def test_without_a_condition_an_image_is_scored_under_its_own_code() -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN(SPEC, SMALL)
    images = torch.randint(4, (3, 1, 6, 5))
    assert torch.equal(score(model, images), score(model, images, model.embed(images)))
    assert not torch.allclose(score(model, images), score(model, images, model.embed(images).flip(0)))
    with pytest.raises(UsageError, match="conditioned on an embedding: pass one per image"):
        sample_cached(model, torch.zeros(1, 1, 6, 5))


def test_encoder_and_decoder_learn_together(tmp_path: Path, stripes: DataSet) -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN(SPEC, SMALL)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = Settings(data="stripes", batch_size=8, learning_rate=1e-2, max_steps=120)
    trainer = Trainer(
        tmp_path,
        model,
        stripes,
        "nearest",
        settings,
        make_fabric(torch.device("cpu")),
        precision="fp32",
        compiling="off",
    )
    trainer.compute = Compute(threads=1)
    with Display("training") as display:
        trainer.train(display)
    for name, weight in trainer.model.state_dict().items():
        assert not torch.equal(weight, before[name]), name
    trained, header = load_checkpoint(tmp_path)
    assert (header.encoder, header.class_names) == (SMALL, ())
    images = torch.from_numpy(stripes.test_pixels // 64).long()
    own = -score(trained, images).sum() / len(images)
    swapped = -score(trained, images, trained.embed(images).roll(1, 0)).sum() / len(images)
    assert swapped > own + 3  # horizontal and vertical stripes alternate: the code says which
    assert draw_samples(tmp_path / "x.png", trained, 0, stripes) == 8 * 8


def test_an_encoder_without_a_code_to_read_is_refused(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(SPEC, conditioning="none", conditioning_size=0)
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, GatedPixelCNN(spec), Header(spec=spec, encoder=SMALL, data="x", quantization="nearest"))
    with pytest.raises(CheckpointError, match="an encoder, but conditioning is none"):
        load_checkpoint(path)


def test_init_takes_the_weights_and_folds_the_classes_into_the_biases(tmp_path: Path) -> None:
    torch.manual_seed(0)
    labelled = msgspec.structs.replace(SPEC, conditioning="label", conditioning_size=2)
    source = GatedPixelCNN(labelled)
    assert isinstance(source.condition_projection, torch.nn.Embedding)
    with torch.no_grad():
        source.condition_projection.weight[1] = source.condition_projection.weight[0]  # so that the mean is each
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, source, Header(spec=labelled, class_names=("a", "b"), data="x", quantization="nearest"))
    plain = GatedPixelCNN(msgspec.structs.replace(SPEC, conditioning="none", conditioning_size=0))
    initial_weights(plain, path)
    images = torch.randint(4, (3, 1, 6, 5))
    with torch.no_grad():
        assert torch.allclose(plain(images), source(images, torch.tensor([0, 1, 0])), atol=1e-5)
    again = GatedPixelCNN(labelled)
    initial_weights(again, path)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in source.state_dict().items())
    coded = GatedPixelCNN(SPEC, SMALL)
    initial_weights(coded, path)
    assert torch.equal(coded.layers[1].vertical.weight, source.layers[1].vertical.weight)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="its layers is 2, the new model's 3"):
        initial_weights(GatedPixelCNN(msgspec.structs.replace(labelled, layers=3)), path)
