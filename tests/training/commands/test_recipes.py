"""Recipes are flags in a file: they say the same, and what they cannot say is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpcnn_deploy.errors import UsageError
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main
from gpcnn_training.commands.train.recipe import names, read_recipe, with_recipe
from gpcnn_training.commands.train.request import TrainRequest


@pytest.mark.parametrize("name", names())
def test_every_recipe_of_the_package_is_read_and_asks_for_a_model_that_can_be(name: str) -> None:
    from gpcnn_deploy.spec import ModelSpec

    recipe = read_recipe(name)
    assert len(recipe.about) > 20
    request = with_recipe(TrainRequest(recipe=name))
    assert request.data == recipe.flags["data"]
    sizes = {"layers", "features", "head_features", "kernel_size", "first_kernel_size", "levels"}
    ModelSpec(height=32, width=32, **{k: v for k, v in recipe.flags.items() if k in sizes})
    assert request.epochs or request.max_steps or request.time_limit


def test_a_recipe_stands_for_its_flags_and_flags_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"data": "digits", "model": "unconditional", "layers": 2, "features": 8, "kernel-size": 5}
    flags |= {"optimizer": "rmsprop", "learning-rate": 0.003, "max-steps": 4, "seed": 5}
    flags |= {"precision": "fp32", "compile": "off"}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in flags.items()]
    Path("small.toml").write_text('about = "a small model"\n' + "".join(lines))
    said = [text for key, value in flags.items() for text in (f"--{key}", str(value))]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for arguments in (["--recipe", "small.toml", "--out", "a"], [*said, "--out", "b"]):
        result = CliRunner().invoke(main, [*arguments, "--test-images", "5"])
        assert result.exit_code == 0, result.output
    assert Path("a/checkpoint.safetensors").read_bytes() == Path("b/checkpoint.safetensors").read_bytes()
    request = with_recipe(TrainRequest(recipe="small.toml", epochs=3, seed=0, data="mnist"))
    assert (request.epochs, request.max_steps, request.seed, request.data) == (3, None, 0, "mnist")
    assert load_checkpoint(Path("a"))[1].spec.kernel_size == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('about = "x"\ndata = "digits"\nlearning_rate = 1', "unknown field `learning_rate`; keys are about, data"),
        ('about = "x"\ndata = "digits"\nlayers = 0', r"Expected `int` >= 1 - at `\$.layers`"),
        ('about = "x"\ndata = "digits"\nlayers = "12"', r"got `str` - at `\$.layers`"),
        ('about = "x"', "missing required field `data`"),
        ("about = ", "small.toml: Invalid value"),
        ("\xff", "small.toml: "),
    ],
)
def test_a_bad_recipe_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "small.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        read_recipe(str(path))
