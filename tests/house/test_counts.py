"""Messages that count say `1 image` and `2 images`: they ask `counted`, which every f-string with a number has to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("gpcnn_deploy", "runtime/gpcnn_runtime", "training/gpcnn_training", "export/gpcnn_export")

COUNTABLE = (
    "images|pictures|completions|epochs|steps|layers|features|classes|labels|planes|maps|blocks|threads|cores|channels|"
    "rows|columns|numbers|embeddings|vectors|files|folders|shards|parts|processes|conditions|bytes|inputs"
)
COUNTED = re.compile(rf" (?:(?:test|training|validation|real|residual|usual|class) )*(?:{COUNTABLE})\b")

NO_NUMBER_OR_NEVER_ONE = {
    ("c_source.py", "memory.ram"),
    ("c_source.py", "memory.weights"),
    ("c_source.py", "made.stat().st_size"),
    ("checkpoint_header.py", "kind"),
    ("dataset.py", "part"),
    ("decoder.py", "size"),
    ("idx.py", "axes"),
    ("library.py", "info.model_bytes"),
    ("packing.py", "needs.weights"),
    ("schedule.py", "self.batch_from"),
    ("metadata.py", "metadata.batch_from"),
    ("metadata.py", "len(metadata.class_names)"),
    ("spec.py", "spec.conditioning_size"),
    ("base.py", "evaluations"),
    ("engine.py", "count"),  # more than a plan was built for
    ("maps.py", "planes"),  # neither one nor three
    ("cli.py", "coder.codes"),
    ("tuning.py", "', '.join(shown)"),
}
"""(file, expression)."""


def counts(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, expression, words) wherever a number in braces stands before a noun that is always many."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for value, after in zip(node.values, node.values[1:], strict=False):
            if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                found = COUNTED.match(str(after.value))
                form = "" if value.format_spec is None else ast.unparse(value.format_spec)
                if found and not before.endswith("×") and "." not in form:  # neither a size nor a mean
                    yield node.lineno, ast.unparse(value.value), found[0].strip()
            before = str(value.value) if isinstance(value, ast.Constant) else ""


def test_what_finds_counts_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        'f"{n} images; {len(x):,} test images of {h}×{w} pixels, {mean:.1f} epochs, {told} of {MOST} rows"', "utf-8"
    )
    assert list(counts(path)) == [(1, "n", "images"), (1, "len(x)", "test images"), (1, "MOST", "rows")]


def test_no_message_says_one_images() -> None:
    wrong = [
        f"{path}:{line}: write {{counted({expression}, …)}} in place of {{{expression}}} {words}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, expression, words in counts(path)
        if not expression.isupper() and (path.name, expression) not in NO_NUMBER_OR_NEVER_ONE
    ]
    assert not wrong, "\n".join(wrong)
