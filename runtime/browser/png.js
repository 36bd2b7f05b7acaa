// The numbers of a PNG as they are stored, those of a palette among them. A canvas gives colours in their place.

import { GpcnnError } from "./gpcnn.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10];
const MOST = 1 << 20; // pixels
const GREY = 0, RGB = 2, PALETTE = 3;

/**
 * Read a PNG: grey, or of a palette, or 8-bit RGB.
 *
 * @param {ArrayBuffer} content of the file.
 * @param {string} name for messages.
 * @returns {Promise<{shape: number[], values: Float64Array}>} [h, w] or [h, w, 3]. As Pillow has it, grey of 2 and 4 bits is spread
 *   over 0 to 255, and other numbers are those of the file.
 * @throws {GpcnnError} another file, or another kind of picture.
 */
export async function readPng(content, name) {
  const bytes = new Uint8Array(content), view = new DataView(content);
  const broken = () => new GpcnnError(`${name} is damaged: save it anew`);
  if (bytes.length < 33 || !SIGNATURE.every((byte, k) => bytes[k] === byte)) throw new GpcnnError(`${name} is no PNG: expected a PNG or an .npy, whose numbers are categories`);
  const [width, height] = [view.getUint32(16), view.getUint32(20)], [depth, kind, , , interlaced] = bytes.subarray(24, 29);
  if (width * height > MOST || width * height === 0) throw new GpcnnError(`${name} has ${width}×${height} pixels: expected the size of a map`);
  const known = (kind === GREY || kind === PALETTE || (kind === RGB && depth === 8)) && [1, 2, 4, 8, 16].includes(depth);
  if (!known) throw new GpcnnError(`${name} is no PNG in grey, of a palette or in 8-bit RGB: expected one, whose numbers are categories`);
  if (interlaced) throw new GpcnnError(`${name} is interlaced: save it without that`);
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const planes = kind === RGB ? 3 : 1, stride = Math.ceil((width * planes * depth) / 8), lines = new Uint8Array(height * (stride + 1));
  let raw;
  try {
    raw = new Uint8Array(await new Response(new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
  } catch {
    throw broken();
  }
  if (raw.length !== lines.length) throw broken();
  const whole = unfilter(raw, height, stride, Math.max(1, (planes * depth) / 8));
  if (!whole) throw broken();
  const spread = kind === GREY && depth > 1 && depth < 8 ? 255 / (2 ** depth - 1) : 1, row = width * planes;
  const number = (line, k) => {
    const bit = k * depth, at = line * stride + (bit >> 3);
    if (depth === 16) return 256 * whole[at] + whole[at + 1];
    return ((whole[at] >> (8 - depth - (bit & 7))) & (2 ** depth - 1)) * spread;
  };
  return { shape: planes === 1 ? [height, width] : [height, width, planes], values: Float64Array.from({ length: height * row }, (_, k) => number(Math.floor(k / row), k % row)) };
}

/** Undo the filter of each line; undefined where a line names none that there is. */
function unfilter(raw, height, stride, step) {
  const out = new Uint8Array(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    if (filter > 4) return undefined;
    for (let x = 0; x < stride; x++) {
      const left = x < step ? 0 : out[y * stride + x - step], up = y ? out[(y - 1) * stride + x] : 0;
      const corner = x < step || !y ? 0 : out[(y - 1) * stride + x - step];
      const guess = [0, left, up, (left + up) >> 1, filter === 4 ? paeth(left, up, corner) : 0][filter];
      out[y * stride + x] = raw[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return out;
}

function paeth(left, up, corner) {
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(left + up - corner - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
