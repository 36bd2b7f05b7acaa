"""A flag of gpcnn-train is declared once: option, recipe key and what the trainer is given follow from it."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.preparation import Resampling
from gpcnn_deploy.spec import Architecture, Head, Input, ModelSpec
from gpcnn_training.commands.train.cli import main
from gpcnn_training.commands.train.flag import Flag, flags_of
from gpcnn_training.commands.train.presets import PRESETS
from gpcnn_training.commands.train.recipe import read_recipe, recipe_keys
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.sources import load_data
from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
from gpcnn_training.trainer.settings import OptimizerName, Settings
from gpcnn_training.trainer.state import read_state

FLAGS = dict(flags_of(TrainRequest))
OPTIONS = {str(param.name): param for param in main.params if param.name != "version"}
NAMES = {
    "Resampling": Resampling,
    "Architecture": Architecture,
    "Head": Head,
    "Input": Input,
    "CompileChoice": CompileChoice,
    "PrecisionChoice": PrecisionChoice,
    "OptimizerName": OptimizerName,
}
HINTS = typing.get_type_hints(TrainRequest, localns=NAMES)
VALUES = {click.types.IntParamType: int, click.types.FloatParamType: float, click.types.StringParamType: str}


def values_of(hint: object) -> set[object]:
    """What a field may hold, None left out."""
    found = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) else (hint,)
    return {value for value in found if value is not types.NoneType}


def test_every_flag_is_an_option_and_nothing_else_is() -> None:
    assert list(OPTIONS) == list(FLAGS)
    assert all(isinstance(param, click.Option) for param in OPTIONS.values())


@pytest.mark.parametrize("name", FLAGS)
def test_a_field_has_the_type_of_its_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPCNN_DATA_DIR", raising=False)
    option, held = OPTIONS[name], values_of(HINTS[name])
    if isinstance(option.type, click.Choice):
        choices = set(option.type.choices)
        assert held == {str} or {value for hint in held for value in typing.get_args(hint) or (hint,)} == choices
    elif isinstance(option.type, click.Path):
        assert held == {Path}
    elif isinstance(option, click.Option) and option.is_flag:
        assert held == {bool}
    else:
        kinds = {kind for base, kind in VALUES.items() if isinstance(option.type, base)}
        assert held == (kinds or {typing.get_type_hints(type(option.type).convert)["return"]})
    given = main.make_context("gpcnn-train", []).params[name]
    assert given == {field.name: field.default for field in dataclasses.fields(TrainRequest)}[name]


@pytest.mark.parametrize(("name", "declared"), FLAGS.items())
def test_every_flag_is_a_recipe_key_or_says_why_not(name: str, declared: Flag) -> None:
    keys = {field.name: field.encode_name for field in msgspec.structs.fields(recipe_keys())}
    assert set(keys) - {"about"} <= set(FLAGS)
    if declared.no_key is None:
        assert f"--{keys[name]}" in OPTIONS[name].opts
    else:
        assert name not in keys
        assert len(declared.no_key) > 10


def test_what_the_trainer_and_the_model_take_are_flags() -> None:
    assert set(Settings.__struct_fields__) <= set(FLAGS)
    for preset in PRESETS.values():
        shape = set(preset.shape())
        assert shape == {"levels", "layers", "features", "head_features", "kernel_size", "first_kernel_size"}
        assert shape <= set(FLAGS) & set(ModelSpec.__struct_fields__)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("layers", "0", "0"),
        ("learning-rate", "nan", "nan"),
        ("learning-rate", "2.0", "2"),
        ("clip", "inf", "inf"),
        ("weight-decay", "-1.0", "-1"),
        ("ema", "1.0", "1"),
        ("code-size", "5000", "5000"),
        ("kernel-size", "65", "65"),
        ("seed", "-1", "-1"),
        ("time-limit", '"45"', "45"),
        ("image-size", '"4y4"', "4y4"),
        ("model", '"gan"', "gan"),
        ("optimizer", '"sgd"', "sgd"),
    ],
)
def test_what_a_flag_refuses_a_recipe_refuses_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [f"--{key}={text}"])
    assert result.exit_code == 2
    assert f"'--{key}'" in result.stderr
    Path("r.toml").write_text(f'about = "x"\ndata = "digits"\n{key} = {value}\n')
    with pytest.raises(UsageError, match=rf"^--recipe r\.toml: .*{key}`"):
        read_recipe("r.toml")
    assert list(tmp_path.iterdir()) == [tmp_path / "r.toml"]


def test_epochs_of_a_recipe_train(tmp_path: Path) -> None:
    """0 on the command line draws samples."""
    (tmp_path / "r.toml").write_text('about = "x"\ndata = "digits"\nepochs = 0\n')
    with pytest.raises(UsageError, match=r"Expected `int` >= 1 - at `\$.epochs`"):
        read_recipe(str(tmp_path / "r.toml"))


def test_each_optimizer_has_a_learning_rate_of_its_own_where_a_preset_says_one() -> None:
    mnist, digits = PRESETS["mnist"], PRESETS["digits"]
    assert mnist.optimizer == "muon"
    assert [mnist.rate(name) for name in ("muon", "adamw", "rmsprop")] == [1e-3, 4e-3, 4e-3]
    assert digits.optimizer == "adamw"
    assert digits.rate("muon") == digits.rate("adamw") == 5e-3


@pytest.mark.parametrize(("asked", "rate"), [(None, 1e-3), ("muon", 1e-3), ("adamw", 4e-3)])
def test_mnist_trains_with_the_optimizer_of_its_preset_unless_another_is_asked_for(
    asked: OptimizerName | None, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(name: str, *others: object) -> DataSet:
        return dataclasses.replace(load_data("digits"), name=name)

    monkeypatch.setattr("gpcnn_training.commands.train.run.load_data", few)
    small = ["--max-steps", "1", "--layers", "1", "--features", "4", "--levels", "17", "--batch-size", "4"]
    more = [] if asked is None else ["--optimizer", asked]
    run = tmp_path / "run"
    result = CliRunner().invoke(
        main, ["--data", "mnist", *small, *more, "--test-images", "2", "--compile", "off", "--out", str(run)]
    )
    assert result.exit_code == 0, result.output
    settings = read_state(run).settings
    assert (settings.optimizer, settings.learning_rate) == (asked or "muon", rate)
