"""The page in Chromium: what a visitor does with mouse, finger, keys and files, and what the page then shows."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from opened_page import DRAWN, Opened, told, until
from PIL import Image
from small_engines import LABELLED
from small_vqvae import PRIOR_2, SPEC_2, models, save

from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.export.cli import main as export
from gpcnn_export.site import make_site
from gpcnn_runtime import Sampler, complete, score
from gpcnn_runtime.commands.score.heatmap import heat
from gpcnn_runtime.zoo.catalogue import FOLDER

pytestmark = pytest.mark.browser

ZOO = "zoo:mnist-conditional"
MEGABYTES = 3.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "site"
    result = CliRunner().invoke(export, [ZOO, "--format", "web", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def page(chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path) -> Iterator[Any]:
    """The page, its model loaded, the first pictures drawn. Whatever it asks for elsewhere, or complains of, fails."""
    with Opened(chromium(), serve(site)) as page:
        yield page


def draw(page: Any, label: str, seed: int | str, count: int = 1, temperature: str | None = None) -> None:
    page.select_option("#label", label=label)
    page.fill("#count", str(count))
    page.fill("#seed", str(seed))
    if temperature is not None:
        page.fill("#temperature", temperature)
    page.click("#draw-button")
    until(page, "!document.querySelector('#draw-button').ariaBusy")


def easel(page: Any) -> np.ndarray[Any, Any]:
    """Levels of the picture on the easel, read off its pixels; all of them stay."""
    page.fill("#keep", "28")
    values = page.evaluate(
        """() => { const c = document.getElementById('canvas'), s = c.width / 28, g = c.getContext('2d');
        return Array.from({length: 784}, (_, k) => g.getImageData((k % 28 + 0.25) * s, (Math.floor(k / 28) + 0.25) * s, 1, 1).data[0]); }"""  # noqa: E501
    )
    return (np.reshape(values, (1, 28, 28)) > 127).astype(np.int64)


def test_pictures_are_those_of_gpcnn_sample(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hash; and the command that the page shows, typed as it stands, tells the same."""
    monkeypatch.chdir(tmp_path)
    for label, seed, count, temperature in (("3", 7, 3, None), ("all", 2**64 - 1, 2, "0.8")):
        draw(page, label, seed, count, temperature)
        shown = []
        for button in page.locator("#pictures button").all():
            button.click()
            shown.append(page.inner_text("#hash"))
        command = shlex.split(page.inner_text("#command"))
        assert command[:3] == ["gpcnn-sample", "--engine", ZOO]
        assert shown == [image["levels_sha256"] for image in told(*command[1:])["images"]]
        assert len(shown) == count * (10 if label == "all" else 1)


def test_an_address_brings_pictures_back(
    page: Any, chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path
) -> None:
    draw(page, "5", 99, 2, "1.2")
    first = page.inner_text("#hash")
    with Opened(chromium(), serve(site), page.url.split("/")[-1]) as again:
        assert again.inner_text("#hash") == first
        assert again.locator("#pictures button").count() == 2


def test_pictures_appear_row_by_row(page: Any) -> None:
    """Seen from the canvas: ever more rows are there; and all at once for people who want no motion."""
    look = """() => new Promise((resolve) => { const seen = new Set(); const tick = () => {
      const c = document.querySelector('#pictures canvas');
      const rows = c.getContext('2d').getImageData(0, 0, 28, 28).data.filter((_, k) => k % 4 === 3);
      seen.add(rows.reduce((a, b) => a + (b > 0), 0) / 28);
      if (document.querySelector('#draw-button').ariaBusy) requestAnimationFrame(tick); else resolve([...seen]); };
      document.getElementById('draw-button').click(); requestAnimationFrame(tick); })"""
    page.select_option("#label", label="8")
    heights = page.evaluate(look)
    assert len(heights) > 5
    assert heights == sorted(heights)
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(
        """() => { const ask = window.requestAnimationFrame; window.frames_asked = 0;
        window.requestAnimationFrame = (call) => (window.frames_asked++, ask.call(window, call)); }"""
    )
    draw(page, "7", 1)
    assert page.evaluate("window.frames_asked") == 0


def test_completions_are_those_of_python(page: Any) -> None:
    draw(page, "4", 11)
    page.click("#use")
    page.fill("#keep", "12")
    page.click("#complete")
    page.wait_for_selector("#completed:not([hidden])")
    with Sampler.load(ZOO) as sampler:
        drawn = sampler.sample([4], 11)
        mask = np.zeros((28, 28), bool)
        mask[:12] = True
        ours = complete(sampler, drawn.levels[0], mask, count=8, seed=11)
    marks = [mark.inner_text() for mark in page.locator("#completions .mark").all()]
    assert marks == [hashlib.sha256(image.tobytes()).hexdigest()[:8] for image in ours.levels]
    page.locator("#completions button").nth(2).click()
    np.testing.assert_array_equal(easel(page), ours.levels[2])


def test_scores_and_the_heatmap_are_those_of_gpcnn_score(page: Any) -> None:
    draw(page, "2", 5)
    page.click("#use")
    page.click("#score")
    page.wait_for_selector("#scored:not([hidden])")
    with Sampler.load(ZOO) as sampler:
        levels = sampler.sample([2], 5).levels
        ours = score(sampler, levels.astype(np.int64), per_pixel=True)
        spec = sampler.metadata.spec
    assert page.inner_text("#nats").startswith(
        f"-log p: {ours.nats[0]:.2f} nats, {ours.bits_per_dim()[0]:.3f} bits/dim"
    )
    shown = page.evaluate(
        "Array.from(document.getElementById('heat').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    assert ours.log_prob is not None
    expected = heat(ours.log_prob[0], spec).transpose(1, 2, 0).astype(int)
    assert np.abs(np.reshape(shown, (28, 28, 4))[..., :3] - expected).max() <= 1
    posterior = ours.posterior()
    assert posterior is not None
    best = page.locator("#posterior tr.likeliest")
    assert best.locator("th").inner_text() == str(posterior[0].argmax())
    row, column = divmod(int((-ours.log_prob[0, 0]).argmax()), 28)
    assert f"row {row + 1}, column {column + 1}" in page.get_attribute("#heat", "aria-label")


def test_a_picture_file_is_read_as_gpcnn_score_reads_it(page: Any, tmp_path: Path) -> None:
    with Sampler.load(ZOO) as sampler:
        levels = sampler.sample([6], 3).levels[0]
    path = tmp_path / "six.png"
    Image.fromarray(pixels_from_levels(levels, 2)[0]).save(path)
    page.set_input_files("#picture-file", path)
    until(page, "document.getElementById('status').textContent.includes('six.png')")
    np.testing.assert_array_equal(easel(page), levels)
    page.click("#invert")
    np.testing.assert_array_equal(easel(page), 1 - levels)
    large = tmp_path / "large.png"
    Image.fromarray(pixels_from_levels(levels, 2)[0].repeat(5, 0).repeat(5, 1)).save(large)
    page.set_input_files("#picture-file", large)
    until(page, "document.getElementById('status').textContent.includes('large.png')")
    np.testing.assert_array_equal(easel(page), levels)
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#picture-file", tmp_path / "text.png")
    until(page, "document.getElementById('picture-error').textContent")
    assert "text.png is no picture that the browser can read" in page.inner_text("#picture-error")


def test_painting_with_the_mouse_and_marking(page: Any) -> None:
    page.click("#clear")
    box = page.locator("#canvas").bounding_box()
    side = box["width"] / 28

    def stroke(*cells: tuple[int, int]) -> None:
        for k, (row, column) in enumerate(cells):
            page.mouse.move(box["x"] + (column + 1) * side, box["y"] + (row + 1) * side)
            if k == 0:
                page.mouse.down()
        page.mouse.up()

    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    stroke((4, 4), (20, 20))
    painted = easel(page)[0]
    assert all(painted[k, k] for k in range(4, 22)), "a stroke has no gaps, however fast the mouse"
    assert painted.sum() < 80
    page.get_by_label("Erase").check()
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    stroke((4, 4), (20, 20))
    assert easel(page).sum() == 0
    page.click("#complete")
    until(page, "document.getElementById('picture-error').textContent")
    assert "All pixels stay" in page.inner_text("#picture-error")


def test_by_keyboard_alone(page: Any) -> None:
    """Every control is reached by Tab, in the order of the page, and works."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.tagName")
        if at == "seed":
            page.keyboard.press("Control+A")
            page.keyboard.type("21")
            page.keyboard.press("Enter")
            until(page, "document.getElementById('command').textContent.includes('--seed 21')")
        if at == "canvas":
            for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
                page.keyboard.press(key)
            assert page.inner_text("#cursor") == "Row 2, column 3: white, stays"
            page.keyboard.press("Shift+ArrowDown")
            assert page.inner_text("#cursor") == "Row 3, column 3: white, stays"
        if at in ("complete", "score"):
            page.keyboard.press("Space")
            page.wait_for_selector(f"#{at}d:not([hidden])")
        reached.append(at)
        if at == "open-model":
            break
    wanted = ["label", "count", "seed", "new-seed", "temperature", "draw-button", "slowly", "use", "save", "canvas"]
    wanted += ["tool", "keep", "open-picture", "invert", "clear", "picture-label", "complete", "score", "open-model"]
    assert [name for name in reached if name in wanted] == wanted
    assert (
        page.evaluate('document.querySelectorAll(\'[tabindex]:not([tabindex="0"]):not([tabindex="-1"])\').length') == 0
    )


def test_everything_has_a_name_and_results_are_told(page: Any) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, canvas, section, table')].filter((e) => !(
        e.labels?.length || e.ariaLabel || e.getAttribute('aria-labelledby') || e.textContent.trim()
        || e.type === 'file' || e.caption || e.role || e.closest('button')?.ariaLabel)).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    draw(page, "1", 8)
    assert page.inner_text("#status").startswith("1 picture drawn in ")
    name = page.locator("#pictures button").get_attribute("aria-label")
    assert name.startswith("Picture 1, label 1, ")
    for role in ("#draw-error", "#picture-error", "#trouble"):
        assert page.get_attribute(role, "role") == "alert"
    assert page.get_attribute("#status", "role") == "status"
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path, scheme: str
) -> None:
    """WCAG 2.2, AA: 4.5 to 1."""
    with Opened(chromium(), serve(site), color_scheme=scheme, viewport={"width": 1200, "height": 900}) as page:
        page.click("#use")
        page.click("#score")
        page.wait_for_selector("#scored:not([hidden])")
        poor = page.evaluate(
            """() => { const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => {
              const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
              return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
            const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
              if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
            const texts = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.disabled
              && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
            return texts.map((e) => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
              return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 30)]; })
              .filter(([ratio]) => ratio < 4.5); }"""
        )
        assert poor == []


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_needs_no_sideways_scrolling(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path, width: int
) -> None:
    size = {"width": width, "height": 700}
    with Opened(chromium(), serve(site), viewport=size, has_touch=True, is_mobile=True) as page:
        page.tap("#use")
        page.tap("#complete")
        page.wait_for_selector("#completed:not([hidden])")
        page.tap("#score")
        page.wait_for_selector("#scored:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        small = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input:not([type=radio]):not([type=checkbox])')]
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 36).map((e) => e.id)"""
        )
        assert small == [], "fingers need room"


def test_it_works_offline_after_the_first_visit(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path
) -> None:
    served = serve(site)
    with Opened(chromium(), served) as page:
        until(page, "document.getElementById('offline').textContent.includes('works offline')")
        served.stop()
        page.reload()
        page.wait_for_selector(DRAWN)
        draw(page, "9", 17)
        assert page.inner_text("#hash") == _hash(9, 17)


def _hash(label: int, seed: int) -> str:
    with Sampler.load(ZOO) as sampler:
        return hashlib.sha256(sampler.sample([label], seed).levels.tobytes()).hexdigest()


def test_another_export_is_seen_at_once(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], model_file: Callable[[ModelSpec], Path], tmp_path: Path
) -> None:
    """Although everything is kept for offline use."""
    folder = tmp_path / "site"
    assert CliRunner().invoke(export, [ZOO, "--format", "web", "-o", str(folder)]).exit_code == 0
    with Opened(chromium(), serve(folder)) as page:
        until(page, "document.getElementById('offline').textContent.includes('works offline')")
        path = model_file(LABELLED)
        make_site(path.read_bytes(), str(path), "small", "small.gpcnn").write(folder)
        page.reload()
        page.wait_for_selector(DRAWN)
        assert page.inner_text("#model").startswith("small: 5×6 pixels, 4 levels")
        assert page.inner_text("#command").startswith("gpcnn-sample --engine small.gpcnn --label all")
        assert page.locator("#label option").all_inner_texts() == ["all", "boot", "3", "bag, red"]


def test_the_first_visit_is_small_and_quick(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path
) -> None:
    served = serve(site)
    with Opened(chromium(), served) as page:
        until(page, "document.getElementById('offline').textContent.includes('works offline')")
        assert served.sent <= MEGABYTES * 1e6, f"{served.sent / 1e6:.2f} MB with all that is kept for offline use"
        loaded = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
        drawn = page.evaluate("performance.getEntriesByName('gpcnn-drawn')[0].startTime")
        print(f"{served.sent} bytes; load {loaded:.0f} ms, first picture {drawn:.0f} ms; {page.inner_text('#engine')}")


@pytest.mark.parametrize("feature", ["SIMD", "relaxed SIMD"])
def test_a_browser_without_a_feature(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], site: Path, feature: str
) -> None:
    """V8 has no SIMD without SSE 4.1: a message. Relaxed SIMD does not fuse without FMA: the other kernel is taken."""
    if feature == "relaxed SIMD":
        browser = chromium("--js-flags=--no-enable-fma3")
        with Opened(browser, serve(site)) as page:
            assert page.inner_text("#engine") == "Engine: wasm32, reproducible."
            draw(page, "9", 17)
            assert page.inner_text("#hash") == _hash(9, 17)
        return
    page = chromium("--js-flags=--no-enable-sse4-1").new_page()
    page.goto(serve(site).url)
    until(page, "document.getElementById('trouble-text').textContent.includes('SIMD')")
    assert page.is_visible("#trouble")
    assert not page.is_visible("#main")
    assert "please update yours" in page.inner_text("#trouble")
    page.close()


def test_mistakes_are_told_beside_their_button(page: Any, tmp_path: Path) -> None:
    for field, value, message in (
        ("#seed", "x", "Seed: expected a whole number from 0 to 2⁶⁴ - 1."),
        ("#seed", str(2**64), "Seed: expected a whole number"),
        ("#count", "0", "Pictures: expected a whole number from 1 to 64."),
        ("#count", "65", "Pictures: expected"),
        ("#count", "1.5", "Pictures: expected"),
    ):
        before = page.input_value(field)
        page.fill(field, value)
        page.click("#draw-button")
        until(page, "document.getElementById('draw-error').textContent")
        assert page.inner_text("#draw-error").startswith(message)
        page.fill(field, before)
        page.click("#draw-button")
        until(page, "!document.getElementById('draw-error').textContent")
        until(page, "!document.querySelector('#draw-button').ariaBusy")
    (tmp_path / "broken.gpcnn").write_bytes(b"broken")
    page.set_input_files("#model-file", tmp_path / "broken.gpcnn")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "export it anew" in page.inner_text("#trouble")
    draw(page, "9", 17)
    assert page.inner_text("#hash") == _hash(9, 17), "the model before goes on"


def test_stop_stops_and_the_page_goes_on(page: Any) -> None:
    page.select_option("#label", label="all")
    page.fill("#count", "64")
    page.click("#draw-button")
    until(page, "!document.getElementById('stop').disabled")
    page.click("#stop")
    until(page, "document.getElementById('status').textContent === 'Stopped.'")
    draw(page, "9", 17)
    assert page.inner_text("#hash") == _hash(9, 17)


def test_another_model_is_opened(page: Any, model_file: Callable[[ModelSpec], Path]) -> None:
    """In colour and without labels; and the page's own folder, without a model, asks for one."""
    spec = ModelSpec(height=6, width=9, channels=3, levels=5, features=4, layers=2, head_features=6)
    path = model_file(spec)
    page.set_input_files("#model-file", path)
    until(page, "document.getElementById('model').textContent.includes('colour')")
    until(page, "!document.querySelector('#draw-button').ariaBusy")
    assert not page.is_visible("#label")
    assert page.is_visible("#colour")
    assert page.inner_text("#command") == f"gpcnn-sample --engine {path.name} --count 8 --seed 0 --json -"
    images = told(
        "--engine", str(path), "--count", "8", "--seed", "0", "--json", "-", "-o", str(path.with_suffix(".png"))
    )
    assert page.inner_text("#hash") == images["images"][0]["levels_sha256"]
    page.click("#score")
    page.wait_for_selector("#scored:not([hidden])")
    assert not page.is_visible("#posterior")


def test_a_vqvae_2_draws_pictures_by_two_levels_of_codes(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, pictures = models(SPEC_2, PRIOR_2)
    Path("model.gpcnn").write_bytes(draft_model_file(model, ("a", "b"), pictures=pictures).content)
    result = CliRunner().invoke(export, ["model.gpcnn", "--format", "web", "-o", "site"])
    assert result.exit_code == 0, result.output
    with Opened(chromium(), serve(Path("site"))) as page:
        assert page.inner_text("#model").startswith("model: 8×16 pixels, colour, 2×4 and 4×8 codes of 9, ")
        draw(page, "b", 7, 3)
        with Sampler.load("model.gpcnn") as sampler:
            drawn = sampler.sample(["b"], 7, 3)
        assert drawn.pictures is not None
        for k, button in enumerate(page.locator("#pictures button").all()):
            button.click()
            assert page.inner_text("#hash") == hashlib.sha256(drawn.levels[k].tobytes()).hexdigest()
            pixels = page.evaluate(
                f"Array.from(document.querySelectorAll('#pictures canvas')[{k}].getContext('2d').getImageData(0, 0, 8, 16).data)"  # noqa: E501
            )
            found = np.reshape(pixels, (16, 8, 4))[..., :3].transpose(2, 0, 1)
            assert np.abs(found - drawn.pictures[k].astype(int)).max() <= 1
        assert not page.is_visible("#picture")


def test_a_vqvae_draws_pictures_by_codes(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In colour, from an export of its checkpoint; it only draws, and another model then does all again."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(export, [str(save(Path("my.safetensors"))), "--format", "web", "-o", "site"])
    assert result.exit_code == 0, result.output
    Path("model.gpcnn").write_bytes(Path("site", "model.gpcnn").read_bytes())
    with Opened(chromium(), serve(Path("site"))) as page:
        assert page.inner_text("#model").startswith("model: 8×12 pixels, colour, 2×3 codes of 9, ")
        draw(page, "b", 7, 3)
        with Sampler.load("model.gpcnn") as sampler:
            drawn = sampler.sample(["b"], 7, 3)
        assert drawn.pictures is not None
        assert page.inner_text("#chosen p >> nth=1").startswith(
            "SHA-256 of its codes, which gpcnn-sample calls levels:"
        )
        for k, button in enumerate(page.locator("#pictures button").all()):
            button.click()
            assert page.inner_text("#hash") == hashlib.sha256(drawn.levels[k].tobytes()).hexdigest()
            with page.expect_download() as download:
                page.click("#save")
            with Image.open(download.value.path()) as saved:
                found = np.asarray(saved.convert("RGB")).transpose(2, 0, 1).astype(int)
            assert np.abs(found - drawn.pictures[k]).max() <= 1
            pixels = page.evaluate(
                f"Array.from(document.querySelectorAll('#pictures canvas')[{k}].getContext('2d').getImageData(0, 0, 8, 12).data)"  # noqa: E501
            )
            np.testing.assert_array_equal(np.reshape(pixels, (12, 8, 4))[..., :3].transpose(2, 0, 1), found)
        assert "bits/code" in page.inner_text("#chosen-nats")
        command = shlex.split(page.inner_text("#command"))
        assert [one["levels_sha256"] for one in told(*command[1:])["images"]][2] == page.inner_text("#hash")
        for hidden in ("#picture", "#use", "#slowly"):
            assert not page.is_visible(hidden)
        assert "This page only draws with this model" in page.inner_text("#draws-alone")
        page.evaluate(
            """() => { const files = new DataTransfer(); files.items.add(new File(['x'], 'a.png'));
            window.dispatchEvent(new DragEvent('drop', {dataTransfer: files})); }"""
        )
        until(page, "document.getElementById('draw-error').textContent")
        assert "complete pictures with gpcnn-sample" in page.inner_text("#draw-error")
        page.set_input_files("#model-file", FOLDER / "mnist-conditional.gpcnn")
        until(page, "document.getElementById('model').textContent.includes('28×28')")
        until(page, "!document.querySelector('#draw-button').ariaBusy")
        page.click("#use")
        page.click("#score")
        page.wait_for_selector("#scored:not([hidden])")
        page.set_input_files("#model-file", "model.gpcnn")
        until(page, "document.getElementById('model').textContent.includes('8×12')")
        assert not page.is_visible("#picture")


def test_the_page_without_a_model_asks_for_one(
    chromium: Callable[..., Any], serve: Callable[[Path], Any], model_file: Callable[[ModelSpec], Path]
) -> None:
    page = chromium().new_page()
    page.goto(serve(Path(__file__).parents[2] / "runtime" / "browser").url)
    until(page, "document.getElementById('model').textContent.includes('no model here yet')")
    page.set_input_files("#model-file", model_file(LABELLED))
    page.wait_for_selector(DRAWN)
    page.close()


def test_a_picture_is_dropped_on_the_page(page: Any, tmp_path: Path) -> None:
    with Sampler.load(ZOO) as sampler:
        levels = sampler.sample([8], 2).levels[0]
    path = tmp_path / "eight.png"
    Image.fromarray(pixels_from_levels(levels, 2)[0]).save(path)
    page.evaluate(
        """(bytes) => { const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], 'eight.png', {type: 'image/png'}));
        document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }""",
        list(path.read_bytes()),
    )
    until(page, "document.getElementById('status').textContent.includes('eight.png')")
    np.testing.assert_array_equal(easel(page), levels)
