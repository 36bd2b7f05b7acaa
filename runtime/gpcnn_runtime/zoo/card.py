"""The card of a model of the zoo: what it was trained on, how good and how fast it is, which files it is made of."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gpcnn_deploy.metadata import EncoderParity, ParityReport
from gpcnn_deploy.text import counted

CARD_SCHEMA = 1


class CardData(msgspec.Struct, frozen=True, kw_only=True):
    """The data set that a model was trained on.

    Attributes:
        name: as `gpcnn-train --data` has it.
        source: where it is published.
        licence: under which it is, in words.
    """

    name: str
    source: str
    licence: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and sample standard deviation over the draws; of a single one there is no deviation."""

    mean: float
    std: float | None = None


class Likelihood(msgspec.Struct, frozen=True, kw_only=True):
    """Negative log-likelihood of test images.

    Attributes:
        nats_per_image, nats_per_pixel, bits_per_dim: the same figure in three units.
        draws: binarizations of the test images that were scored.
        test_images: how many there are.
        protocol: how pixels became levels, in words.
    """

    nats_per_image: Figure
    nats_per_pixel: Figure
    bits_per_dim: Figure
    draws: int
    test_images: int
    protocol: str


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """Share of samples that a classifier takes for the class they were drawn as.

    Attributes:
        samples: how many were drawn, equally many of each class.
        accuracy: that share.
        test_images: real test images that the classifier was tested on.
        classifier_accuracy: share of those that it takes for their class.
    """

    samples: int
    accuracy: float
    test_images: int
    classifier_accuracy: float


class Reconstruction(msgspec.Struct, frozen=True, kw_only=True):
    """How test pictures come back from their codes, of a VQ-VAE.

    Attributes:
        psnr: in dB, of the mean squared error of all pixels of all pictures.
        perplexity: of the codes.
        codes: how many vectors the codebooks have together.
    """

    psnr: float
    perplexity: float
    codes: int


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `gpcnn-bench`.

    Attributes:
        batch: images a call.
        threads: that drew at the same time.
        ms_per_image: median, in ms.
        runs_on: library, version and device.
        machine: the processor.
    """

    batch: int
    threads: int
    ms_per_image: float
    runs_on: str
    machine: str


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """How long: passes over the training images, and optimizer steps."""

    epochs: float
    steps: int


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a model of the zoo.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        name: what follows `zoo:`.
        about: what it is, in a sentence.
        data: what it was trained on.
        recipe: `gpcnn-train --recipe` of this name trains it.
        trained: how long.
        checkpoint_digest: SHA-256 of the checkpoint that it was exported from.
        test_nll: on the data's test images; of a VQ-VAE, of their codes.
        class_consistency: None for a model without labels.
        parity, encoder_parity: what the export proved.
        speed: measured with `gpcnn-bench`.
        versions: package → version of the export.
        files: name → SHA-256.
        reconstruction: of a VQ-VAE; None for other models.
    """

    schema: int = CARD_SCHEMA
    name: str
    about: str
    data: CardData
    recipe: str
    trained: Trained
    checkpoint_digest: str
    test_nll: Likelihood
    class_consistency: Consistency | None = None
    parity: ParityReport
    encoder_parity: EncoderParity | None = None
    speed: tuple[Speed, ...] = ()
    versions: dict[str, str]
    files: dict[str, str]
    reconstruction: Reconstruction | None = None


def card_facts(card: Card) -> Iterator[tuple[str, str]]:
    """What people want to know from a card, line by line."""
    yield "about", card.about
    yield "data", f"{card.data.name} ({card.data.licence}), {card.data.source}"
    yield "recipe", f"gpcnn-train --recipe {card.recipe}"
    yield "trained", f"{card.trained.epochs:,.1f} epochs, {counted(card.trained.steps, 'step')}"
    nll = card.test_nll
    of_codes = card.reconstruction is not None
    image, pixel, dim = ("picture's codes", "code", "code") if of_codes else ("image", "pixel", "dim")
    figures = (
        (nll.nats_per_image, 2, f"nats/{image}"),
        (nll.nats_per_pixel, 5, f"nats/{pixel}"),
        (nll.bits_per_dim, 4, f"bits/{dim}"),
    )
    yield "test NLL", ", ".join(f"{_figure(figure, digits)} {unit}" for figure, digits, unit in figures)
    yield "protocol", f"{counted(nll.test_images, 'test image')}, {nll.protocol}"
    if (found := card.class_consistency) is not None:
        yield (
            "consistency",
            f"{found.accuracy:.1%} of {found.samples:,} samples are taken for their class by a classifier that takes "
            f"{found.classifier_accuracy:.1%} of {counted(found.test_images, 'test image')} for theirs",
        )
    if (back := card.reconstruction) is not None:
        yield (
            "PSNR",
            f"{back.psnr:.2f} dB of pictures from their codes, perplexity {back.perplexity:.0f} of {back.codes}",
        )
    for speed in card.speed:
        threads = counted(speed.threads, "thread")
        where = f"{speed.runs_on}, {speed.machine}"
        yield "speed", f"{speed.ms_per_image:.1f} ms an image in batches of {speed.batch}, {threads}: {where}"


def _figure(figure: Figure, digits: int) -> str:
    return f"{figure.mean:.{digits}f}" + ("" if figure.std is None else f" ± {figure.std:.{digits}f}")
