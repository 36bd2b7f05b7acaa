// The native engine's kernel in WebAssembly: its memory, its structs, its errors. What is called here: gpcnn.h.
//
// Shapes, row-major: N images, C channels, H rows, W columns, E numbers of an embedding.

import { drawSheet, sheetOf, subpixelsOf } from "./sheet.js";
import { PICTURE_FIELDS, splitVqvae } from "./vqvae.js";

/** What a user can mend; `message` is one line: what is wrong, and what was expected. */
export class GpcnnError extends Error {
  name = "GpcnnError";
}

const ABI = 4;
const PAGE = 65536;
const STATUS = { 1: "damaged", 2: "damaged", 3: "argument", 4: "memory", 5: "cancelled", 6: "newer" };
const CANCELLED = 5;
const CONDITIONING = ["none", "label", "embedding", "map"];
const HEAD = ["categorical", "mixture"];
// Offsets in bytes on a machine with 32-bit pointers.
const INFO = { bytes: 96, modelBytes: 72, metadataOffset: 80, metadataBytes: 88 };
const REQUEST = {
  bytes: 60, images: 0, window: 4, temperature: 8, noise: 12, known: 16, mask: 20, label: 24, embedding: 28, cancel: 32,
  onRow: 36, image: 44, logProb: 48, evaluations: 52, map: 56,
};

// (module (func (export "f") (param f32x4…)): the smallest modules with an instruction of SIMD128 and of relaxed SIMD.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
// f(a, b, c) = lane 0 of f32x4.relaxed_madd(splat a, splat b, splat c)
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 125, 125, 125, 1, 125, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 22, 1, 20, 0,
  32, 0, 253, 19, 32, 1, 253, 19, 32, 2, 253, 19, 253, 133, 2, 253, 31, 0, 11,
];
// (module (import "e" "f" (func (param i32 i32))) (export "f" (func 0))): makes a JavaScript function one of a table.
const TRAMPOLINE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 2, 127, 127, 0, 2, 7, 1, 1, 101, 1, 102, 0, 0, 7, 5, 1, 1, 102, 0, 0];

const counted = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;
const instantiate = (bytes, imports) => new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes)), imports);

/** @returns {boolean} whether WebAssembly with 128-bit SIMD, which the kernel needs, is here. */
export function hasSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from(SIMD));
}

/** @returns {boolean} whether relaxed SIMD is here, and multiplies and adds with one rounding, as the fused kernel must. */
export function hasRelaxedSimd() {
  if (!hasSimd() || !WebAssembly.validate(Uint8Array.from(RELAXED))) return false;
  const a = 1 + 2 ** -12; // a² needs 25 bits: a product that is rounded loses the last one
  return instantiate(RELAXED).exports.f(a, a, -(1 + 2 ** -11)) === 2 ** -24;
}

/**
 * A model in WebAssembly's memory: [stack, data | model | a VQ-VAE's decoder | one call's arrays and workspace].
 *
 * A VQ-VAE-2 has two models behind each other, of the top codes and of the bottom ones. Its image is a sheet of both.
 */
export class Kernel {
  /**
   * @param {WebAssembly.Module} module gpcnn.wasm or gpcnn-relaxed.wasm.
   * @param {Uint8Array} whole a model file.
   * @throws {GpcnnError} the file is damaged, newer than the kernel, or too large for memory.
   */
  constructor(module, whole) {
    const vqvae = splitVqvae(whole);
    if (vqvae?.sound === false) throw new GpcnnError("the model file is damaged: its pictures' tensors are not those of its spec: export it anew with gpcnn-export");
    const instance = new WebAssembly.Instance(module, {});
    this.c = instance.exports;
    if (this.c.gpcnn_abi() !== ABI) throw new GpcnnError("gpcnn.wasm and gpcnn.js are of different versions: take both from one export");
    this.free = align(this.c.__heap_base.value);
    this.#models = (vqvae?.priors ?? [whole]).map((file) => this.#loadModel(file));
    const [first] = this.#models, last = this.#models.at(-1);
    this.spec = Object.freeze({ ...first.spec, codeLevels: this.#models.length, ...(last === first ? {} : sheetOf(last.spec)) });
    this.metadata = vqvae?.metadata ?? first.metadata;
    if (vqvae) this.#loadDecoder(vqvae.vqvae, vqvae.weights);
    this.instructions = this.#text(this.c.gpcnn_model_instructions(first.at));
    this.#onRow = this.#tableEntry((_, row) => this.rowDone(row));
  }

  /** Check a model file and pack its weights. @returns {{at: number, spec: object, metadata: object}} */
  #loadModel(file) {
    const info = this.free;
    let at = align(info + INFO.bytes);
    this.#reserve(at + file.length, "the model file");
    new Uint8Array(this.c.memory.buffer).set(file, at);
    this.#check(this.c.gpcnn_inspect(at, file.length, info));
    const view = new DataView(this.c.memory.buffer);
    const number = (offset) => Number(view.getBigUint64(info + offset, true));
    const modelBytes = number(INFO.modelBytes);
    const word = (index) => view.getUint32(info + 4 * index, true);
    const spec = {
      height: word(0), width: word(1), channels: word(2), levels: word(3), features: word(4), layers: word(5),
      firstKernelSize: word(6), kernelSize: word(7), headFeatures: word(8),
      conditioning: CONDITIONING[word(9)], conditioningSize: word(10), inputSize: word(11),
      head: HEAD[word(12)], mixtures: word(13),
      mapHeight: word(14), mapWidth: word(15), mapFeatures: word(16), mapCategories: word(17),
    };
    const metadata = readMetadata(file.subarray(number(INFO.metadataOffset), number(INFO.metadataOffset) + number(INFO.metadataBytes)));
    const memory = at;
    at = align(memory + modelBytes);
    this.#reserve(at + file.length + 8, "the model");
    new Uint8Array(this.c.memory.buffer).set(file, at);
    const out = align(at + file.length);
    this.#reserve(out + 8, "the model");
    this.#check(this.c.gpcnn_load(at, file.length, memory, modelBytes, out));
    this.free = at;
    return { at: new DataView(this.c.memory.buffer).getUint32(out, true), spec, metadata };
  }

  #models;
  #onRow;
  #decoder;
  rowDone = () => {};

  /** Uniforms of images first .. first+count-1 of a seed. @returns {Float32Array} [count, C, H, W] in [0, 1). */
  noise(seed, first, count) {
    const size = count * this.subpixels, spec = this.free, to = align(spec + INFO.modelBytes);
    this.#reserve(to + 4 * size, `the noise of ${counted(count, "image")}`);
    const shape = new Uint32Array(this.c.memory.buffer, spec, INFO.modelBytes / 4).fill(0); // all that a struct gpcnn_spec needs here
    shape.set([this.spec.height, this.spec.width, this.spec.channels]);
    this.#check(this.c.gpcnn_noise(spec, BigInt.asIntN(64, seed), BigInt.asIntN(64, first), count, to));
    return new Float32Array(this.c.memory.buffer, to, size).slice();
  }

  /** C · H · W. */
  get subpixels() {
    return subpixelsOf(this.spec);
  }

  /**
   * Draw one batch in one call. Arrays are as gpcnn_request has them; those that are absent are undefined.
   *
   * @param {{images: number, window?: number, temperature?: number, noise?: Float32Array, known?: Int32Array,
   *   mask?: Uint8Array, label?: Int32Array, embedding?: Float32Array, map?: Float32Array}} request
   * @param {(row: number, image: Int32Array) => (boolean|void)} [onRow] called when a row of all images is drawn, with
   *   memory that the next call overwrites; false calls the batch off.
   * @returns {{levels: Int32Array, logProb: Float32Array, evaluations: number}} levels and nats, [N, C, H, W].
   */
  draw(request, onRow) {
    const [first, bottom] = this.#models, drawWith = (model) => (asked, told) => this.#drawWith(model, asked, told);
    if (!bottom) return this.#drawWith(first, request, onRow);
    return drawSheet({ spec: first.spec, draw: drawWith(first) }, { spec: bottom.spec, draw: drawWith(bottom) }, request, onRow);
  }

  /** `draw` of one model. */
  #drawWith(model, request, onRow) {
    const n = request.images, size = n * subpixelsOf(model.spec);
    const workspaceBytes = this.c.gpcnn_workspace_bytes(model.at, n) >>> 0;
    if (!workspaceBytes) throw outOfMemory(`${counted(n, "image")} at a time`);
    let at = this.free;
    const take = (bytes) => {
      const start = at;
      at = align(at + bytes);
      return start;
    };
    const base = take(REQUEST.bytes), cancel = take(4), evaluations = take(8);
    const image = take(4 * size), logProb = take(4 * size), workspace = take(workspaceBytes);
    const inputs = ["noise", "known", "mask", "label", "embedding", "map"].filter((name) => request[name]);
    const places = inputs.map((name) => take(request[name].byteLength));
    this.#reserve(at, `${counted(n, "image")} at a time`);
    const { buffer } = this.c.memory;
    inputs.forEach((name, k) => new request[name].constructor(buffer, places[k], request[name].length).set(request[name]));
    const view = new DataView(buffer);
    new Uint8Array(buffer, base, REQUEST.bytes).fill(0);
    const put = (offset, value) => view.setUint32(base + offset, value, true);
    put(REQUEST.images, n);
    put(REQUEST.window, request.window ?? 0);
    view.setFloat32(base + REQUEST.temperature, request.temperature ?? 1, true);
    inputs.forEach((name, k) => put(REQUEST[name], places[k]));
    view.setInt32(cancel, 0, true);
    put(REQUEST.cancel, cancel);
    put(REQUEST.image, image);
    put(REQUEST.logProb, logProb);
    put(REQUEST.evaluations, evaluations);
    const levels = new Int32Array(buffer, image, size);
    if (onRow) put(REQUEST.onRow, this.#onRow);
    this.rowDone = (row) => onRow(row, levels) === false && view.setInt32(cancel, 1, true);
    const status = this.c.gpcnn_draw(model.at, base, workspace, workspaceBytes);
    this.#check(status || (view.getInt32(cancel, true) ? CANCELLED : 0)); // after its last row, too: others may follow
    return {
      levels: levels.slice(),
      logProb: new Float32Array(buffer, logProb, size).slice(),
      evaluations: Number(view.getBigUint64(evaluations, true)),
    };
  }

  /**
   * Pictures of a VQ-VAE's codes.
   *
   * @param {Int32Array} codes [N, h, w], each below K; of two levels, sheets.
   * @param {number} images N.
   * @returns {Uint8Array} [N, C, H, W] of `metadata.vqvae`.
   */
  decode(codes, images) {
    const { channels, height, width } = this.metadata.vqvae, size = images * channels * height * width;
    const workspaceBytes = this.c.gpcnn_decoder_workspace_bytes(this.#decoder) >>> 0;
    const from = this.free, to = align(from + codes.byteLength), workspace = align(to + size);
    if (!workspaceBytes) throw outOfMemory(`${counted(images, "picture")} at a time`);
    this.#reserve(workspace + workspaceBytes, `${counted(images, "picture")} at a time`);
    new Int32Array(this.c.memory.buffer, from, codes.length).set(codes);
    this.#check(this.c.gpcnn_decode(this.#decoder, images, from, to, workspace, workspaceBytes));
    return new Uint8Array(this.c.memory.buffer, to, size).slice();
  }

  /** Pack a decoder's weights behind the models, for what the last of them computes with. */
  #loadDecoder(vqvae, weights) {
    const spec = this.free, out = spec + 4 * PICTURE_FIELDS.length, memory = align(out + 4);
    this.#reserve(memory, "the decoder");
    new Uint32Array(this.c.memory.buffer, spec, PICTURE_FIELDS.length).set(PICTURE_FIELDS.map((name) => vqvae[name]));
    const { at: prior } = this.#models.at(-1), bytes = Number(BigInt.asUintN(64, this.c.gpcnn_decoder_bytes(prior, spec)));
    const from = align(memory + bytes);
    this.#reserve(from + weights.byteLength, "the decoder");
    new Float32Array(this.c.memory.buffer, from, weights.length).set(weights);
    this.#check(this.c.gpcnn_decoder_load(prior, spec, from, BigInt(weights.length), memory, BigInt(bytes), out));
    this.#decoder = new DataView(this.c.memory.buffer).getUint32(out, true);
    this.free = from;
  }

  /** Memory up to an address. */
  #reserve(end, what) {
    const missing = end - this.c.memory.buffer.byteLength;
    if (missing <= 0) return;
    try {
      this.c.memory.grow(Math.ceil(missing / PAGE));
    } catch {
      throw outOfMemory(what);
    }
  }

  /** Number of a JavaScript function (user, row) in the kernel's table of functions. */
  #tableEntry(call) {
    const table = this.c.__indirect_function_table;
    const index = table.grow(1);
    table.set(index, instantiate(TRAMPOLINE, { e: { f: call } }).exports.f);
    return index;
  }

  #text(address) {
    const bytes = new Uint8Array(this.c.memory.buffer, address);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  #check(status) {
    if (status === 0) return;
    const text = this.#text(this.c.gpcnn_status_text(status));
    if (STATUS[status] === "damaged") throw new GpcnnError(`${text}: export it anew with gpcnn-export`);
    if (STATUS[status] === "newer") throw new GpcnnError(`${text}: export the page anew with a newer gpcnn-deploy`);
    throw Object.assign(new GpcnnError(text), { cancelled: STATUS[status] === "cancelled" });
  }
}

const align = (address) => Math.ceil(address / 64) * 64; // not by bits: an address may have 32 of them

const outOfMemory = (what) => new GpcnnError(`not enough memory for ${what}: draw fewer, or close other pages`);

/** The metadata in a model file's header: JSON inside a JSON string. */
function readMetadata(bytes) {
  return JSON.parse(JSON.parse(`"${new TextDecoder().decode(bytes)}"`));
}
