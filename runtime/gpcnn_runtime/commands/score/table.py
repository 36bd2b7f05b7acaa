"""What `gpcnn-score` shows people: a table of few pictures, the most surprising of many, and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from gpcnn_deploy.commands import console
from gpcnn_deploy.text import counted
from gpcnn_deploy.units import units_of
from gpcnn_runtime.commands.score.rows import Head, Row, Summary
from gpcnn_runtime.commands.score.tally import Tally

_MOST_LABELS = 12  # that fit side by side


def shown(tally: Tally, summary: Summary, head: Head) -> Iterator[Table | str]:
    """What there is to see: all pictures if they are few, else the most surprising, and the summary."""
    rows = tally.first if tally.few() else tally.most_surprising()
    if tally.pictures:
        title = f"{head.engine.path} on {head.engine.provider}" if tally.few() else "the most surprising"
        yield table(rows, head, title)
        if tally.few() and (labels := label_table(rows, head)) is not None:
            yield labels
    yield from lines(summary, head)


def table(rows: Sequence[Row], head: Head, title: str) -> Table:
    """One line for each picture that has a score."""
    result = console.table(title)
    result.add_column("picture", overflow="fold")
    headings = ["nats", f"bits/{units_of(head.of_codes).dim}", *(["PSNR, dB"] if head.of_codes else [])]
    has_labels = bool(head.class_names) and head.label is None
    if has_labels:
        headings += ["label", "posterior"]
    if head.method is not None:
        headings.append(head.method if head.method != "likelihood" else "score")
    if head.threshold is not None:
        headings.append("")
    for heading in headings:
        result.add_column(heading, justify="right")
    for row in rows:
        if row.nats is None:
            continue
        cells = [f"{row.nats:.2f}", f"{row.bits_per_dim:.4f}", *([f"{row.psnr:.2f}"] if head.of_codes else [])]
        if has_labels:
            cells += [row.class_name or "", f"{row.posterior:.4f}"]
        if head.method is not None:
            cells.append(f"{row.anomaly_score:.2f}")
        if head.threshold is not None:
            cells.append("ANOMALOUS" if row.anomalous else "usual")
        result.add_row(Text(row.picture), *map(Text, cells), style="bold" if row.anomalous else None)
    return result


def label_table(rows: Sequence[Row], head: Head) -> Table | None:
    """Nats of each picture under every label; None where there are none, or too many to see."""
    if head.label is not None or not 0 < len(head.class_names) <= _MOST_LABELS:
        return None
    result = console.table("nats under each label")
    result.add_column("picture", overflow="fold")
    for name in head.class_names:
        result.add_column(Text(name), justify="right")
    for row in rows:
        if row.label_nats is not None:
            least = min(row.label_nats)
            cells = [Text(f"{nats:.1f}", style="bold" if nats == least else "") for nats in row.label_nats]
            result.add_row(Text(row.picture), *cells)
    return result


def lines(summary: Summary, head: Head) -> Iterator[str]:
    """The summary in words."""
    took = f"{summary.seconds:.1f} s"
    if summary.mean_nats is None:
        yield f"No picture was scored; {counted(summary.errors, 'input')} could not be read."
        return
    spread = f" ± {summary.std_nats:.2f}" if summary.pictures > 1 else ""
    yield (
        f"{counted(summary.pictures, 'picture')} in {took}: {summary.mean_nats:.2f}{spread} nats,"
        f" {summary.mean_bits_per_dim:.4f} bits/{units_of(head.of_codes).dim}."
    )
    if head.of_codes:
        yield "Nats are those of the pictures' codes. PSNR says how well a picture comes back from them."
    if summary.prepared:
        yield f"{counted(summary.prepared, 'picture')} did not fit; prepared as in training: {head.preparation}."
    if head.own_code:
        yield "Each picture was scored under its own code: p(x | h(x)) of the autoencoder, not p(x)."
    if head.own_map:
        yield "Each picture was scored given itself made small: p(x | small x), not p(x)."
    if summary.label_accuracy is not None:
        yield f"The most likely label is the given one for {summary.label_accuracy:.2%} of the pictures with a label."
    if summary.anomalies is not None:
        yield (
            f"{counted(summary.anomalies, 'anomaly', 'anomalies')} ({summary.anomalies / summary.pictures:.2%}):"
            f" {head.method} above {head.threshold:.2f} nats."
        )
    if summary.errors:
        yield f"{counted(summary.errors, 'input')} could not be read."
