"""A model's way into the zoo: its files, a card whose figures are those of the evaluation, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from small_engines import model_of, write_checkpoint
from small_vqvae import PRIOR_2, SPEC_2, save

from benchmarks.make_zoo import DATA, main
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_runtime.commands.bench.report import BenchReport, BenchRow
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.zoo import catalogue as zoo
from gpcnn_runtime.zoo.card import Reconstruction, card_facts
from gpcnn_training.checkpoint import checkpoint_digest
from gpcnn_training.commands.evaluate.run import Evaluation, Reconstructions, Spread
from gpcnn_training.evaluation.class_consistency import ClassConsistency

SPEC = ModelSpec(height=5, width=6, features=6, layers=2, head_features=8, conditioning="label", conditioning_size=3)
CODED = msgspec.structs.replace(SPEC, conditioning="embedding", conditioning_size=4)
RECIPE = "cifar10"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "zoo"


def make_checkpoint(spec: ModelSpec, seed: int = 0) -> Path:
    encoder = EncoderSpec(features=(4, 4, 4)) if spec.conditioning == "embedding" else None
    model = model_of(spec, seed, 1.0, encoder)
    return write_checkpoint(Path(f"{spec.conditioning}-{seed}.safetensors"), model, data="digits")


def evaluate(checkpoint: Path, data: str = "digits", consistency: ClassConsistency | None = None) -> Path:
    evaluation = Evaluation(
        checkpoint=str(checkpoint),
        checkpoint_digest=checkpoint_digest(checkpoint),
        step=1200,
        epoch=3.5,
        data=data,
        test_images=100,
        all_test_images=100,
        protocol="fixed binarization",
        draws=(20.0, 22.0),
        nats_per_image=Spread(mean=21.0, std=1.4),
        nats_per_pixel=Spread(mean=0.7, std=0.05),
        bits_per_dim=Spread(mean=1.0, std=None),
        class_consistency=consistency,
    )
    Path("evaluation.json").write_bytes(msgspec.json.encode(evaluation))
    return Path("evaluation.json")


def bench(digest: str) -> Path:
    row = BenchRow(
        engine="zoo:tiny",
        role="weights",
        strategy="native",
        window=None,
        batch=64,
        threads=2,
        ms_per_image_p50=3.25,
        ms_per_image_p90=4.0,
        ms_per_image_p99=5.0,
        images_per_s=300.0,
        speedup_vs_eager=None,
        floor_ratio=None,
        evaluations_per_image=None,
        peak_rss_mb=60.0,
        load_ms=20.0,
    )
    eager = msgspec.structs.replace(row, engine="eager PyTorch", role="eager", window=None)
    report = BenchReport(
        machine={"cpu": "a chip", "cores": 2},
        engine_digest=digest,
        runs_on="ONNX Runtime 1, CPU",
        multiply_adds=SPEC.multiply_adds(),
        gemm_rate=None,
        floor_ms=None,
        rows=(row, eager),
    )
    Path("bench.json").write_bytes(msgspec.json.encode(report))
    return Path("bench.json")


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def make(checkpoint: Path, *more: str | Path, name: str = "tiny") -> Result:
    return run(checkpoint, name, "--recipe", RECIPE, "--evaluation", "evaluation.json", *more)


def test_the_card_of_a_vqvae_says_how_pictures_come_back_and_whose_nats_it_tells(folder: Path) -> None:
    checkpoint = save(Path("my.safetensors"), spec=SPEC_2, prior=PRIOR_2)
    path = evaluate(checkpoint, "emoji")
    found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    back = Reconstructions(psnr=26.5, perplexity=140.2, codes=18, grid=(10, 4))
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, reconstruction=back)))
    result = make(checkpoint)
    assert result.exit_code == 0, result.output
    card = zoo.read_card("tiny")
    assert card.reconstruction == Reconstruction(psnr=26.5, perplexity=140.2, codes=18)
    facts = dict(card_facts(card))
    assert facts["PSNR"] == "26.50 dB of pictures from their codes, perplexity 140 of 18"
    assert "21.00 ± 1.40 nats/picture's codes" in facts["test NLL"]
    assert "bits/code" in facts["test NLL"]
    with Sampler.load("zoo:tiny") as sampler:
        assert sampler.sample([0]).pictures is not None


def test_a_model_comes_in_with_its_card_and_speed(folder: Path) -> None:
    checkpoint = make_checkpoint(SPEC)
    found = ClassConsistency(samples=30, seed=0, accuracy=0.9, test_images=100, classifier_accuracy=0.98, classes=())
    evaluate(checkpoint, consistency=found)
    result = make(checkpoint, "--about", "a tiny model")
    assert result.exit_code == 0, result.output
    assert "It has no speed yet: gpcnn-bench zoo:tiny" in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.gpcnn", "tiny.json"]
    card = zoo.read_card("tiny")
    assert (card.about, card.recipe, card.data, card.speed) == ("a tiny model", RECIPE, DATA["digits"], ())
    assert (card.trained.epochs, card.trained.steps) == (3.5, 1200)
    assert (card.test_nll.nats_per_image.mean, card.test_nll.nats_per_image.std) == (21.0, 1.4)
    assert (card.test_nll.draws, card.test_nll.test_images, card.test_nll.bits_per_dim.std) == (2, 100, None)
    assert card.class_consistency is not None
    assert (card.class_consistency.accuracy, card.class_consistency.classifier_accuracy) == (0.9, 0.98)
    assert card.checkpoint_digest == checkpoint_digest(checkpoint)
    engine = sha256(folder / "tiny.gpcnn")
    assert card.files == {"tiny.gpcnn": engine}
    with Sampler.load("zoo:tiny") as sampler:
        assert sampler.metadata.role == "weights"
        assert sampler.metadata.parity == card.parity
        assert len(sampler.sample(labels=1)) == 1
    # Again with a benchmark: the same engine, which is not exported anew.
    result = make(checkpoint, "--bench", bench(engine), "--about", "a tiny model")
    assert result.exit_code == 0, result.output
    (speed,) = zoo.read_card("tiny").speed
    assert (speed.batch, speed.threads, speed.ms_per_image) == (64, 2, 3.25)
    assert (speed.runs_on, speed.machine) == ("ONNX Runtime 1, CPU", "a chip")
    assert sha256(folder / "tiny.gpcnn") == engine
    card_of_it = (folder / "tiny.json").read_bytes()
    other = make_checkpoint(SPEC, seed=1)
    wrong = make(checkpoint, "--bench", bench("0" * 64))
    assert "the benchmark is of another engine than" in wrong.stderr
    evaluate(other)
    foreign = make(other, "--bench", bench(engine))
    assert "tiny.gpcnn is of another checkpoint: export this one, without --bench" in foreign.stderr
    assert wrong.exit_code == foreign.exit_code == 1
    assert (folder / "tiny.json").read_bytes() == card_of_it


def test_an_autoencoder_brings_its_encoder(folder: Path) -> None:
    checkpoint = make_checkpoint(CODED)
    evaluate(checkpoint)
    result = make(checkpoint)
    assert result.exit_code == 0, result.output
    card = zoo.read_card("tiny")
    assert card.files == {name: sha256(folder / name) for name in ("tiny.gpcnn", "tiny.encoder.onnx")}
    assert card.encoder_parity is not None
    assert card.class_consistency is None
    zoo.check_files(card)


def fails(result: Result, code: int, message: str, folder: Path) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr.splitlines()[-1]
    assert not folder.exists()


def test_what_does_not_belong_together_is_refused(folder: Path) -> None:
    checkpoint, other = make_checkpoint(SPEC), make_checkpoint(SPEC, seed=1)
    evaluate(other)
    fails(make(checkpoint), 1, "evaluation.json is of another checkpoint (label-1.safetensors)", folder)
    evaluate(checkpoint, data="my-pictures")
    fails(make(checkpoint), 1, "data 'my-pictures' has no licence here", folder)
    evaluate(checkpoint)
    fails(make(checkpoint, name="../tiny"), 2, "../tiny: expected a name of letters, digits and hyphens", folder)
    fails(make(checkpoint, "--bench", "nowhere.json"), 1, "gpcnn-bench zoo:tiny --json FILE makes one", folder)
    fails(make(checkpoint, "--bench", bench("0" * 64)), 1, "tiny.gpcnn", folder)
    Path("evaluation.json").write_text(json.dumps({"checkpoint": 1}))
    fails(make(checkpoint), 1, "gpcnn-evaluate CHECKPOINT --json FILE makes one", folder)
    evaluate(checkpoint)
    wrong = run(checkpoint, "tiny", "--recipe", "nothing", "--evaluation", "evaluation.json")
    fails(wrong, 2, "--recipe nothing: no such recipe or file", folder)
