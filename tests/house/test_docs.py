"""Pages name what exists: links, paths, commands with their options, make targets, imports; the workflow parses."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "runtime").rglob("*.md")),
]
SCRIPTS = dict(
    re.findall(r'^(gpcnn-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
BASES = [
    ROOT,
    *(ROOT / name for name in ("training", "export", "runtime", "training/gpcnn_training", "export/gpcnn_export")),
    ROOT / "runtime/gpcnn_runtime",
    ROOT / "runtime/native",
    ROOT / "gpcnn_deploy",
]
WRITTEN = {
    "build",
    "runs",
    "site",
    "demo",
    "samples",
    "heat",
    "dist",
    "tensorboard",
    "models/mnist-conditional",
    "commands/VERB",
    "training/recipes/NAME.toml",
}
"""Paths that commands write, and patterns."""
THEIRS = {"train/", "val/", "test/", "cat/old/", "dog/a.heic", "my-pictures/", "photos/"}
"""Paths of readers' own pictures."""
FOREIGN = {
    "--loadEngine",
    "--system-site-packages",
    "--rdzv-endpoint",
    "--nnodes",
    "--nproc-per-node",
    "--all-files",
    "--list",
}
"""Options of other people's programs."""

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    words = re.sub(r"`([^`]*)`", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(found) for found in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)}


@page_by_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@page_by_page
def test_every_path_exists(page: Path) -> None:
    missing = []
    for path in re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.[a-z]+)?)`", page.read_text("utf-8")):
        if path in THEIRS or path.rstrip("/") in WRITTEN or path.startswith(tuple(f"{name}/" for name in WRITTEN)):
            continue
        if not any((base / path).exists() for base in (page.parent, *BASES)):
            missing.append(path)
    files = {path.name for base in BASES[1:4] for path in base.rglob("*.py")} | {
        path.name for path in (ROOT / "gpcnn_deploy").rglob("*.py")
    }
    modules = re.findall(r"`(\w+\.py)`", page.read_text("utf-8"))  # named without their folder
    assert missing + [name for name in modules if name not in files] == []


def lines_of_code(page: Path) -> Iterator[str]:
    """Lines of fenced and indented blocks, continued ones joined."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    yield from (line for block in fenced for line in block.splitlines())
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))


def options(script: str) -> set[str]:
    command = importlib.import_module(SCRIPTS[script]).main
    assert isinstance(command, click.Command)
    context = click.Context(command, help_option_names=["-h", "--help"])
    return {name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)}


BENCHMARKS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"): path
    for path in (ROOT / "benchmarks").glob("*.py")
}


def flags_of_benchmarks(module: str) -> set[str]:
    """Options of `python -m benchmarks…`, read from the source."""
    return set(re.findall(r'"(--[\w-]+)"', BENCHMARKS[module].read_text("utf-8")))


@page_by_page
def test_every_benchmark_has_the_options_that_it_is_shown_with(page: Path) -> None:
    wrong = []
    for line in (*lines_of_code(page), *re.findall(r"`(python -m benchmarks[^`\n]*)`", page.read_text("utf-8"))):
        found = re.search(r"python -m (benchmarks[\w.]*)(.*)", line)
        if found is not None:
            named = set(re.findall(r"(?<=\s)--[\w-]+", found[2]))
            wrong += sorted(named - flags_of_benchmarks(found[1]))
    assert wrong == []


@page_by_page
def test_every_command_has_the_options_that_it_is_shown_with(page: Path) -> None:
    wrong = []
    for line in lines_of_code(page):
        found = re.search(r"\bgpcnn-\w+(?=[ )]|$)", line)
        if found is None or line.startswith(("for ", "type ", "command ")) or "COMPLETE" in line:
            continue
        script = found[0]
        if script not in SCRIPTS:
            wrong.append(line)
            continue
        words = shlex.split(line[found.end() :], comments=True)
        named = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
        wrong += [f"{script} {name}" for name in named if name not in options(script)]
    assert wrong == []


def test_commands_are_found_in_pages() -> None:
    """The test above looks at something."""
    found = [line for page in PAGES for line in lines_of_code(page) if line.startswith("gpcnn-")]
    assert len(found) > 40


@page_by_page
def test_every_option_in_the_text_is_one_of_some_command(page: Path) -> None:
    known = set().union(*(options(script) for script in SCRIPTS), *map(flags_of_benchmarks, BENCHMARKS)) | FOREIGN
    known |= set(re.findall(r'"(--[\w-]+)"', (ROOT / "runtime" / "native" / "build.py").read_text("utf-8")))
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S))
    ours = [span for span in spans if not span.startswith(("pip ", "torchrun ", "trtexec "))]
    named = {name for span in ours for name in re.findall(r"(?:(?<=\s)|^)(--[a-z][\w-]*)", span)}
    assert named - known == set()


@page_by_page
def test_every_make_target_exists(page: Path) -> None:
    named = re.findall(r"(?:`|^|\bor )make ([\w-]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= TARGETS


@page_by_page
def test_every_import_of_a_snippet_resolves(page: Path) -> None:
    for snippet in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


def test_modules_that_pages_run_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m (gpcnn_\w+[\w.]*)", page.read_text("utf-8")):
            assert importlib.util.find_spec(name) is not None, f"{page.name}: {name}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


def test_the_workflow_runs_what_exists() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", step["uses"])
    runs = [step["run"] for step in steps if "run" in step]
    assert set(re.findall(r"\bmake ([\w-]+)", "\n".join(runs))) == {"test"}
    assert {found for run in runs for found in re.findall(r"\b(gpcnn-\w+)", run)} <= set(SCRIPTS)
