"""`gpcnn-inspect`: what a file is, read without running any of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import Command, json_option, write_json
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.text import counted, spanned

if TYPE_CHECKING:
    from gpcnn_deploy.metadata import PictureParity
    from gpcnn_runtime.inspection import Inspection

SHOWN_CLASSES = 20


@click.command(cls=Command)
@click.argument("engine", type=PATH)
@json_option
def main(engine: Path, json_path: Path | None) -> None:
    """Show what ENGINE is: a .gpcnn, .onnx or .plan engine, a checkpoint, or a run folder. Nothing in it is run.

    \b
    gpcnn-inspect model.gpcnn
    gpcnn-inspect model.plan --json -
    gpcnn-inspect zoo:mnist-conditional
    """
    from gpcnn_deploy.commands import console
    from gpcnn_deploy.errors import EngineError
    from gpcnn_runtime.commands.inspect.codes import codes_facts, inspect_codes
    from gpcnn_runtime.engines.plan_file import metadata_path, read_decoder, read_plan_metadata
    from gpcnn_runtime.inspection import inspect_engine

    if (codes := inspect_codes(engine)) is not None:
        write_json(json_path, codes)
        console.show([console.facts(codes.path, codes_facts(codes))], stderr=console.taken(json_path))
        return
    found = inspect_engine(engine)
    write_json(json_path, found)
    console.show([console.facts(found.path, facts(found))], stderr=console.taken(json_path))
    if found.plan is not None and not found.plan.digest_matches:
        raise EngineError(
            f"{engine}: is not the plan that {metadata_path(engine).name} was written for: it was changed or "
            "exchanged, and a plan is code; build it anew"
        )
    if found.plan is not None and found.plan.decoder_matches is False:
        read_decoder(engine, read_plan_metadata(engine))  # says what is wrong


def facts(found: Inspection) -> Iterator[tuple[str, str]]:
    """What people want to know, line by line."""
    from gpcnn_deploy.spec import grids_in_words, layers_in_words, levels_in_words, map_in_words

    spec = found.spec
    if found.checkpoint is not None:
        vqvae = "VQ-VAE-2" if spec.code_levels == 2 else "VQ-VAE"
        kind = vqvae if found.vqvae else "autoencoder" if found.checkpoint.autoencoder else "model"
        yield "kind", f"checkpoint of a trained {kind}; gpcnn-export {found.path} makes an engine of it"
    else:
        window = "" if found.window is None else f", {Schedule(found.window, found.batch_window, found.batch_from)}"
        file = {"native": "model file", "onnx": "ONNX engine", "plan": "TensorRT plan"}[found.kind]
        yield "kind", f"{file}: {found.role}{window}, {found.precision}"
    pictures = found.vqvae or spec
    colour = "grey" if pictures.channels == 1 else "RGB"
    if found.vqvae is None:
        yield "images", f"{spec.height}×{spec.width} {colour}, {levels_in_words(spec)}"
    else:
        coder = found.vqvae
        yield "pictures", f"{coder.height}×{coder.width} {colour}, of {grids_in_words(spec)} codes"
        each = " in each of two codebooks" if coder.code_levels == 2 else ""
        vectors = f"{coder.codes:,} vectors of {counted(coder.code_size, 'number')}{each}"
        yield "codes", f"{vectors}, which the prior reads as {spec.input_size}"
        yield (
            "decoder",
            f"{counted(coder.features, 'feature')}, {counted(coder.blocks, 'residual block')}; the encoder has as many",
        )
    if found.preparation is not None:
        yield "pictures", f"that do not fit are {found.preparation}, as in training"
    kernels = f"kernels {spec.first_kernel_size} and {spec.kernel_size}"
    yield (
        "prior" if found.vqvae else "model",
        f"{layers_in_words(spec)}, {kernels}, head of {spec.head_features}",
    )
    if spec.conditioning == "label":
        names = found.class_names[:SHOWN_CLASSES]
        more = f", … {len(found.class_names) - len(names)} more" if len(found.class_names) > len(names) else ""
        yield "classes", f"{spec.conditioning_size}: {', '.join(names)}{more}"
    elif spec.conditioning == "embedding":
        verb = "gives" if found.role == "encoder" else "is conditioned on"
        yield "embedding", f"{verb} {counted(spec.conditioning_size, 'number')}"
    elif spec.conditioning == "map":
        yield "map", f"is conditioned on {map_in_words(spec)}, through {counted(spec.map_features, 'feature')}"
    else:
        yield "conditioning", "none"
    yield "parameters", f"{found.parameters:,}"
    if found.role == "decoder" and found.vqvae is not None:
        yield "multiply-adds", f"{found.vqvae.multiply_adds() / 1e6:,.1f} M a picture"
    if found.multiply_adds is not None:
        decoder = f", and {found.vqvae.multiply_adds() / 1e6:,.1f} M for the decoder" if found.vqvae else ""
        yield "multiply-adds", f"{found.multiply_adds / 1e6:,.1f} M an image{decoder}"
    yield "file", f"{found.bytes / 1e6:,.2f} MB, SHA-256 {found.digest}"
    if found.batch is not None:
        yield "batch", f"{found.batch} in every call: all shapes are fixed, and commands fill up the last call"
    yield from _plan(found)
    if found.card is not None:
        from gpcnn_runtime.zoo.card import card_facts

        yield from card_facts(found.card)
    yield from _origin(found)


def _plan(found: Inspection) -> Iterator[tuple[str, str]]:
    plan = found.plan
    if plan is None:
        return
    yield "built by", f"{plan.flavor} {plan.tensorrt_version} on {plan.platform}; no other version runs it"
    yield "runs on", f"GPUs of compute capability {', '.join(plan.compute_capabilities)}"
    yield "batch", f"{spanned(1, plan.max_batch)}, tuned for {plan.opt_batch}"
    yield "digest", "as its metadata says" if plan.digest_matches else "NOT THAT OF ITS METADATA: changed or exchanged"
    if found.role != "decoder":
        instead = f"{plan.portable} runs instead" if plan.portable else "nothing: there is no .gpcnn or .onnx beside it"
        yield "elsewhere", instead


def _origin(found: Inspection) -> Iterator[tuple[str, str]]:
    from gpcnn_deploy.metadata import decoder_path, encoder_path

    checkpoint, parity = found.checkpoint, found.parity
    if checkpoint is not None:
        length = f"{checkpoint.epoch:.2f} epochs, {counted(checkpoint.step, 'step')}"
        yield "trained", f"on {checkpoint.data} ({checkpoint.quantization}): {length}"
        if checkpoint.test_nll is not None:
            what = "an image" if checkpoint.psnr is None else "a picture's codes"
            yield "test NLL", f"{checkpoint.test_nll:.2f} nats {what}, on {counted(checkpoint.test_images, 'image')}"
        if checkpoint.psnr is not None:
            which = "test pictures" if checkpoint.test_images else "pictures held out from training"
            yield "PSNR", f"{checkpoint.psnr:.2f} dB of {which}, back from their codes"
    else:
        yield "made from", f"checkpoint {found.checkpoint_digest}" if found.checkpoint_digest else "no checkpoint"
    if found.encoder_digest is not None:
        yield "encoder", f"{encoder_path(Path(found.path)).name} beside it, SHA-256 {found.encoder_digest}"
    if found.decoder_digest is not None:
        yield "decoder", f"{decoder_path(Path(found.path)).name} beside it, SHA-256 {found.decoder_digest}"
    if found.tools:
        yield "made by", ", ".join(f"{name} {version}" for name, version in sorted(found.tools.items()))
    if parity is not None:
        ties = f", {parity.near_ties} by proven near-ties not" if parity.near_ties else ""
        yield (
            "parity",
            f"with eager PyTorch at export: {parity.identical} of {counted(parity.images, 'image')} identical{ties}; "
            f"log-probabilities within {parity.log_prob_error:.1e} nats (limit {parity.log_prob_tolerance:.0e})",
        )
        if found.picture_parity is not None:
            yield "pictures", _pictures(found.picture_parity)
    elif found.role == "decoder" and found.picture_parity is not None:
        yield "parity", f"with eager PyTorch at export, {_pictures(found.picture_parity)}"
    elif (codes := found.codes_parity) is not None:
        yield (
            "parity",
            f"with eager PyTorch at export: {codes.codes - codes.near_ties:,} of {codes.codes:,} codes equal, the "
            f"others as near within {codes.distance_error:.1e} (limit {codes.distance_tolerance:.0e})",
        )
    elif found.encoder_parity is not None:
        encoder = found.encoder_parity
        yield (
            "parity",
            f"with eager PyTorch at export: embeddings of {counted(encoder.images, 'image')} within "
            f"{encoder.embedding_error:.1e} (limit {encoder.embedding_tolerance:.0e})",
        )
    elif checkpoint is None:
        yield "parity", "not shown by its export: gpcnn-verify shows it"


def _pictures(shown: PictureParity) -> str:
    return (
        f"of the same codes: {1 - shown.differing_share:.3%} of all pixels identical, the others within "
        f"{shown.pixel_error} of 255 (limit {shown.pixel_tolerance})"
    )


if __name__ == "__main__":
    main()
