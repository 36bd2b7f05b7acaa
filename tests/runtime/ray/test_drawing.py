"""`Drawer` without Ray: however positions are dealt out, each gets the image that one run draws there."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import EMBEDDED, LABELLED, NAMES, PLAIN, Make, model_of

import gpcnn_runtime.ray
from gpcnn_deploy.errors import EngineError, MissingExtraError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler
from gpcnn_runtime.ray import Drawer, EngineBytes, put_engine
from gpcnn_runtime.ray.engine import assigned_threads, load_sampler

COUNT = 6
MANY = ModelSpec(
    height=3, width=3, levels=300, features=4, layers=2, head_features=6, input="categorical", input_size=4
)


@given(st.permutations(range(2 * COUNT)), st.integers(1, 2 * COUNT))
@settings(max_examples=20, deadline=None)
def test_batches_of_any_order_are_the_rows_of_one_run(sampler_path: Path, order: list[int], size: int) -> None:
    drawer = Drawer(sampler_path, [2, "boot"], COUNT, 5, temperature=0.9, threads=1, log_prob=True)
    with Sampler.load(sampler_path, 1) as sampler:
        whole = sampler.sample([2, 0], count=COUNT, seed=5, temperature=0.9)
    for start in range(0, len(order), size):
        asked = np.array(order[start : start + size])
        batch = drawer({"id": asked})
        np.testing.assert_array_equal(batch["position"], asked)
        np.testing.assert_array_equal(batch["levels"], whole.levels[asked])
        np.testing.assert_array_equal(batch["label"], np.where(asked < COUNT, 2, 0))
        assert batch["class_name"].tolist() == [NAMES[2] if k < COUNT else NAMES[0] for k in asked]
        np.testing.assert_allclose(batch["log_prob"], whole.log_prob[asked], atol=1e-5)
        np.testing.assert_allclose(batch["nats"], -whole.log_likelihood()[asked], atol=1e-4)


def test_pictures_are_those_of_the_levels(make: Make, sampler_path: Path) -> None:
    grey, colour = Drawer(sampler_path, 1, 3, pixels=True), Drawer(make(PLAIN, 3), count=3, pixels=True)
    batch = grey({"id": np.arange(3)})
    assert batch["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch["image"], batch["levels"][:, 0] * 85)
    batch = colour({"id": np.arange(3)})
    np.testing.assert_array_equal(batch["image"], np.rint(batch["levels"].transpose(0, 2, 3, 1) * 42.5))
    assert "label" not in batch


def test_levels_beyond_255_are_kept() -> None:
    engine = EngineBytes("many.gpcnn", draft_model_file(model_of(MANY), ()).content)
    drawn = Drawer(engine, count=8)({"id": np.arange(8)})["levels"]
    assert drawn.dtype == np.uint16
    assert drawn.max() > 255


def test_vectors_and_shared_noise(make: Make) -> None:
    engine = make(EMBEDDED, 2)
    vectors = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    drawer = Drawer(engine, embedding=vectors, same_noise=3, seed=2)
    with Sampler.load(engine) as sampler:
        whole = sampler.sample(embedding=vectors, same_noise=3, seed=2).levels
    np.testing.assert_array_equal(drawer({"id": np.array([4, 1, 5])})["levels"], whole[[4, 1, 5]])


def test_completions(sampler_path: Path) -> None:
    known, mask = np.full((1, 6, 5), 3), np.arange(6)[None, :, None] < np.full((1, 1, 5), 2)
    drawer = Drawer(sampler_path, 0, 4, known=known, mask=mask)
    levels = drawer({"id": np.array([3, 0])})["levels"]
    assert (levels[:, :, :2] == 3).all()
    with Sampler.load(sampler_path) as sampler:
        np.testing.assert_array_equal(levels, sampler.sample(0, count=4, known=known, mask=mask).levels[[3, 0]])


def test_other_columns_stay_with_their_rows(sampler_path: Path) -> None:
    drawer = Drawer(sampler_path, 0, 10, column="k")
    batch = drawer({"name": np.array(["b", "a"], object), "k": np.array([7, 2], np.uint16)})
    assert list(zip(batch["name"], batch["position"].tolist(), strict=True)) == [("b", 7), ("a", 2)]
    assert "k" not in batch


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ({"item": np.arange(2)}, "no column 'id' of positions among item: name it with column="),
        ({"id": np.array([0.0])}, "positions are float64 of shape [1]: expected integers [N]"),
        ({"id": np.array([[0]])}, "positions are int64 of shape [1, 1]: expected integers [N]"),
        ({"id": np.arange(0)}, "positions are int64 of shape [0]: expected integers [N]"),
        ({"id": np.array([3, 10])}, "positions are 3 to 10: the job has 10 images, 0 to 9"),
        ({"id": np.array([-1])}, "positions are -1: the job has 10 images, 0 to 9"),
        ({"id": np.arange(1), "nats": np.zeros(1)}, "the batch has a column 'nats' already: rename it"),
    ],
)
def test_batches_that_are_none(sampler_path: Path, batch: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Drawer(sampler_path, 0, 10)(batch)
    assert str(caught.value).startswith(told)


def test_what_does_not_fit_the_model_is_refused_before_a_batch(sampler_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="draws one class at a time"):
        Drawer(sampler_path)
    with pytest.raises(UsageError, match="count is 0"):
        Drawer(sampler_path, 0, 0)
    with pytest.raises(EngineError, match="nothing"):
        Drawer(tmp_path / "nothing.onnx", 0)
    with pytest.raises(UsageError, match="engine is a int: expected a path, zoo:NAME, or what put_engine returns"):
        load_with_ray(5)


def load_with_ray(engine: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", SimpleNamespace(ObjectRef=bytes, is_initialized=lambda: False))
        load_sampler(engine, 1)  # type: ignore[arg-type]


def test_an_engine_travels_as_bytes(make: Make, tmp_path: Path) -> None:
    """Path, bytes and bytes that were pickled draw the same; nothing is left of the file."""
    model = tmp_path / "model.gpcnn"
    model.write_bytes(draft_model_file(model_of(LABELLED), NAMES).content)
    for path in (model, make(LABELLED, 2), make(LABELLED, None)):
        here = tmp_path / path.name
        here.write_bytes(path.read_bytes())
        wanted = Drawer(here, "boot", 4)({"id": np.arange(4)})
        sent = pickle.loads(pickle.dumps(EngineBytes.read(here)))
        here.unlink()
        drawer = Drawer(sent, "boot", 4)
        for name, array in drawer({"id": np.arange(4)}).items():
            np.testing.assert_array_equal(array, wanted[name])


def test_a_model_of_the_zoo_travels_under_its_name() -> None:
    sent = EngineBytes.read("zoo:mnist-unconditional")
    assert sent.name == "zoo:mnist-unconditional"
    assert len(repr(sent)) < 200, "no megabytes in a message"
    named, held = Drawer("zoo:mnist-unconditional", count=2), Drawer(sent, count=2)
    np.testing.assert_array_equal(named({"id": np.arange(2)})["levels"], held({"id": np.arange(2)})["levels"])


def test_engines_that_do_not_travel(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"plan")
    with pytest.raises(UsageError, match=r"only \.gpcnn and \.onnx engines are sent to workers"):
        EngineBytes.read(tmp_path / "model.plan")
    (tmp_path / "broken.gpcnn").write_bytes(b"broken")
    with pytest.raises(EngineError, match=r"broken\.gpcnn"):
        EngineBytes.read(tmp_path / "broken.gpcnn")
    with pytest.raises(EngineError, match=r"none\.gpcnn"):
        EngineBytes.read(tmp_path / "none.gpcnn")


def test_options_of_other_engines_are_refused(sampler_path: Path) -> None:
    with pytest.raises(UsageError, match="reproducible is for model files"):
        Drawer(EngineBytes.read(sampler_path), 0, reproducible=True)
    with pytest.raises(UsageError, match=r"provider cuda is for \.onnx engines"):
        Drawer(EngineBytes.read("zoo:mnist-unconditional"), provider="cuda")


def ray_that_says(cpus: float, actor: str | None = "a", started: bool = True) -> SimpleNamespace:
    context = SimpleNamespace(
        get_actor_id=lambda: actor, get_task_id=lambda: None, get_assigned_resources=lambda: {"CPU": cpus}
    )
    return SimpleNamespace(is_initialized=lambda: started, get_runtime_context=lambda: context)


def test_threads_are_the_cpus_of_the_actor(sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, threads in ((3.0, 3), (1, 1), (0.5, 1), (0, 1)):
        monkeypatch.setitem(sys.modules, "ray", ray_that_says(cpus))
        assert Drawer(sampler_path, 0)._sampler.threads == threads
        assert Drawer(sampler_path, 0, threads=2)._sampler.threads == 2
    monkeypatch.setitem(sys.modules, "ray", ray_that_says(3, actor=None))
    assert assigned_threads() is None, "a driver has the whole machine"
    monkeypatch.setitem(sys.modules, "ray", ray_that_says(3, started=False))
    assert assigned_threads() is None


def test_without_ray_the_object_store_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"needs the package 'ray'.*pip install 'gpcnn-deploy\[ray\]'"
    ) as caught:
        put_engine("zoo:mnist-unconditional")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "errors travel from workers"


def test_the_names_resolve_and_load_nothing_heavy() -> None:
    for name in gpcnn_runtime.ray.__all__:
        assert getattr(gpcnn_runtime.ray, name).__name__ == name
    heavy = ("numpy", "ray", "onnxruntime", "msgspec")
    code = f"import sys, gpcnn_runtime.ray; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
