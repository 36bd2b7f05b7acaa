"""The page in Chromium with a model of maps: what a visitor paints or opens, and what is drawn under it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_page import Opened, told, until
from PIL import Image
from small_engines import ENLARGED, MAPPED

from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.pictures.maps import maps_of_pictures
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.site import make_site
from gpcnn_runtime import Sampler, complete, read_maps, score

pytestmark = pytest.mark.browser

FIELDS = ModelSpec(
    height=8, width=8, levels=6, features=6, layers=3, head_features=6, conditioning="map", conditioning_size=1,
    map_height=4, map_width=4, map_features=5, map_categories=5, map_kind="categories",
)  # fmt: skip
HEIGHTS = ModelSpec(
    height=8, width=6, levels=6, features=6, layers=3, head_features=6, conditioning="map", conditioning_size=1,
    map_height=4, map_width=3, map_features=5,
)  # fmt: skip
BANDS = np.repeat(np.arange(4), 4).reshape(1, 4, 4)
"""What the page begins with."""

MakeModel = Callable[[ModelSpec], Path]
Serve = Callable[[Path], Any]


class Page:
    """A context: the page of a model of maps, open, and the model's engine."""

    def __init__(self, chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, spec: ModelSpec) -> None:
        self.path = model_file(spec)
        folder = Path(f"site-{self.path.stem}")
        make_site(self.path.read_bytes(), "model", "model", "model.gpcnn").write(folder)
        Path("model.gpcnn").write_bytes(self.path.read_bytes())
        self.opened = Opened(chromium(), serve(folder))

    def __enter__(self) -> Any:
        return self.opened.__enter__()

    def __exit__(self, *exception: Any) -> None:
        self.opened.__exit__(*exception)


def drawn(page: Any) -> list[str]:
    """Hashes of the pictures of seed 3, which are drawn now."""
    page.fill("#count", "4")
    page.fill("#seed", "3")
    page.click("#draw-button")
    return hashes(page)


def hashes(page: Any) -> list[str]:
    until(page, "!document.querySelector('#draw-button').ariaBusy")
    shown = []
    for button in page.locator("#pictures button").all():
        button.click()
        shown.append(page.inner_text("#hash"))
    return shown


def expected(maps: Any) -> list[str]:
    """Those of the native engine in Python."""
    with Sampler.load("model.gpcnn") as sampler:
        return [hashlib.sha256(one.tobytes()).hexdigest() for one in sampler.sample(seed=3, count=4, map=maps).levels]


def saved(page: Any) -> np.ndarray[Any, Any]:
    with page.expect_download() as download:
        page.click("#save-map")
    Path("map.npy").write_bytes(Path(download.value.path()).read_bytes())
    array: np.ndarray[Any, Any] = np.load("map.npy")
    return array


def test_categories_are_painted_and_opened(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map that is saved is what was drawn under, and the command that the page shows tells the same hashes."""
    monkeypatch.chdir(tmp_path)
    with Page(chromium, serve, model_file, FIELDS) as page:
        assert page.inner_text("#map-about") == "4×4: categories 0 to 4."
        first = drawn(page)
        assert first == expected(BANDS)
        assert saved(page).tolist() == BANDS[0].tolist()
        page.fill("#category", "4")
        page.focus("#map")
        for key in ("ArrowRight", "Space", "ArrowDown", "Space"):
            page.keyboard.press(key)
        assert page.inner_text("#map-cursor") == "Row 2, column 2: category 4"
        page.fill("#category", "2")
        box = page.locator("#map").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
        painted = BANDS.copy()
        painted[0, 0, 1] = painted[0, 1, 1] = 4
        painted[0, 3, 3] = 2
        second = drawn(page)
        assert second == expected(painted) != first
        assert saved(page).tolist() == painted[0].tolist()
        command = shlex.split(page.inner_text("#command"))
        assert command[:5] == ["gpcnn-sample", "--engine", "model.gpcnn", "--map", "map.npy"]
        assert [image["levels_sha256"] for image in told(*command[1:])["images"]] == second
        page.click("#fill-map")
        assert saved(page).tolist() == np.full((4, 4), 2).tolist()

        numbers = np.random.default_rng(4).integers(0, 5, (4, 4), np.uint8)
        picture = Image.fromarray(numbers, "P")
        picture.putpalette([9, 200, 7] * 5)
        picture.save("regions.png")
        page.set_input_files("#map-file", "regions.png")
        until(page, "document.getElementById('map-about').textContent.includes('regions.png')")
        assert hashes(page) == expected(numbers[None])
        np.save("several.npy", np.stack([numbers.T, numbers]))
        page.set_input_files("#map-file", "several.npy")
        until(page, "document.getElementById('map-about').textContent.includes('several.npy')")
        assert hashes(page) == expected(numbers.T[None])
        Image.fromarray(np.zeros((5, 4), np.uint8)).save("tall.png")
        np.save("beyond.npy", numbers + 1)
        np.save("floats.npy", numbers * 0.5)
        for name, words in (
            ("tall.png", "tall.png has the shape [5, 4]: expected [4, 4], or several of these"),
            ("beyond.npy", "beyond.npy holds 5: expected categories 0 to 4"),
            ("floats.npy", "floats.npy holds floats: expected integers, categories 0 to 4"),
        ):
            page.set_input_files("#map-file", name)
            until(page, f"document.getElementById('draw-error').textContent.startsWith('{name}')")
            assert page.inner_text("#draw-error") == words
        assert saved(page).tolist() == numbers.T.tolist(), "the map before stays"


def test_completions_and_scores_are_under_the_map(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Page(chromium, serve, model_file, FIELDS) as page:
        drawn(page)
        page.locator("#pictures button").first.click()
        page.click("#use")
        page.fill("#keep", "3")
        page.click("#complete")
        page.wait_for_selector("#completed:not([hidden])")
        page.click("#score")
        page.wait_for_selector("#scored:not([hidden])")
        mask = np.zeros((8, 8), bool)
        mask[:3] = True
        with Sampler.load("model.gpcnn") as sampler:
            image = sampler.sample(seed=3, map=BANDS).levels[0]
            ours = complete(sampler, image, mask, count=8, seed=3, map=BANDS)
            nats = score(sampler, image[None], map=BANDS).nats[0]
        marks = [mark.inner_text() for mark in page.locator("#completions .mark").all()]
        assert marks == [hashlib.sha256(one.tobytes()).hexdigest()[:8] for one in ours.levels]
        assert page.inner_text("#nats").startswith(f"-log p: {nats:.2f} nats")


def test_values_come_from_arrays_and_pictures(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any range; what is painted over an opened map leaves the rest of it as it was, to the bit."""
    monkeypatch.chdir(tmp_path)
    with Page(chromium, serve, model_file, HEIGHTS) as page:
        begun = np.repeat(np.array([0, 85, 170, 255], np.float32) * np.float32(1 / 255), 3).reshape(1, 4, 3)
        assert drawn(page) == expected(begun)
        values = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
        np.save("heights.npy", values)
        page.set_input_files("#map-file", "heights.npy")
        until(page, "document.getElementById('map-about').textContent.includes('heights.npy')")
        assert hashes(page) == expected(values[None])
        np.testing.assert_array_equal(saved(page), values)
        page.fill("#map-shade", "255")
        page.focus("#map")
        page.keyboard.press("Space")
        painted = values.copy()
        painted[0, 0] = values.max()
        np.testing.assert_array_equal(saved(page), painted)
        assert drawn(page) == expected(painted[None])
        Image.fromarray(np.arange(0, 240, 20, dtype=np.uint8).reshape(4, 3)).save("heights.png")
        page.set_input_files("#map-file", "heights.png")
        until(page, "document.getElementById('map-about').textContent.includes('heights.png')")
        with Sampler.load("model.gpcnn") as sampler:
            maps = read_maps("heights.png", sampler.metadata.spec)
        assert hashes(page) == expected(maps)
        np.save("nan.npy", np.full((4, 3), np.nan))
        page.set_input_files("#map-file", "nan.npy")
        until(page, "document.getElementById('draw-error').textContent")
        assert page.inner_text("#draw-error") == "nan.npy holds nan or infinite numbers: expected finite ones"


def test_a_small_picture_is_enlarged(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In colour; a score is under the small picture of the picture itself, as of gpcnn-score."""
    monkeypatch.chdir(tmp_path)
    with Page(chromium, serve, model_file, ENLARGED) as page:
        assert page.inner_text("#map-about") == "2×3: the picture at a smaller size."
        pixels = np.random.default_rng(1).integers(0, 256, (3, 2, 3), np.uint8)
        Image.fromarray(pixels).save("small.png")
        page.set_input_files("#map-file", "small.png")
        until(page, "document.getElementById('map-about').textContent.includes('small.png')")
        with Sampler.load("model.gpcnn") as sampler:
            maps = read_maps("small.png", sampler.metadata.spec)
        assert drawn(page) == expected(maps)
        np.testing.assert_array_equal(saved(page), pixels)
        command = shlex.split(page.inner_text("#command"))
        assert [image["levels_sha256"] for image in told(*command[1:])["images"]] == expected(maps)
        page.locator("#pictures button").first.click()
        page.click("#use")
        page.click("#score")
        page.wait_for_selector("#scored:not([hidden])")
        with Sampler.load("model.gpcnn") as sampler:
            image = sampler.sample(seed=3, map=maps).levels
            own = maps_of_pictures(pixels_from_levels(image, ENLARGED.levels), ENLARGED)
            nats = score(sampler, image, map=own).nats[0]
        assert page.inner_text("#nats").startswith(f"-log p: {nats:.2f} nats")


def test_maps_of_several_planes_are_opened_and_not_painted(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Page(chromium, serve, model_file, MAPPED) as page:
        for hidden in ("#map", "#category", "#fill-map"):
            assert not page.is_visible(hidden)
        maps = np.random.default_rng(5).integers(0, 3, (2, 2, 2))
        np.save("maps.npy", maps.transpose(1, 2, 0))
        page.set_input_files("#map-file", "maps.npy")
        until(page, "document.getElementById('map-about').textContent.includes('maps.npy')")
        assert drawn(page) == expected(maps)
        np.testing.assert_array_equal(saved(page), maps.transpose(1, 2, 0))


def test_a_model_without_maps_has_no_map(
    chromium: Callable[..., Any], serve: Serve, model_file: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one of maps, and the other way about."""
    monkeypatch.chdir(tmp_path)
    plain = ModelSpec(height=4, width=4, features=4, layers=2, head_features=4)
    with Page(chromium, serve, model_file, FIELDS) as page:
        assert page.is_visible("#map")
        for spec, visible in ((plain, False), (FIELDS, True)):
            page.set_input_files("#model-file", model_file(spec))
            until(page, f"document.getElementById('model').textContent.includes('{spec.width}×{spec.height} pixels')")
            until(page, "!document.querySelector('#draw-button').ariaBusy")
            assert page.is_visible("#map") == visible
            assert ("--map" in page.inner_text("#command")) == visible
