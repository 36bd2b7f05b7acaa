/** Draws with an ONNX engine (`gpcnn-export --format onnx`) in JavaScript: docs/engines.md, as a program and a module.
 *
 *     npm install onnxruntime-node
 *     node draw.mjs MODEL.onnx PICTURE [SEED [LABEL [POSITION]]]
 *
 * PICTURE becomes a PGM (grey) or PPM (colour) file. The same seed, label and position in the batch give the image that
 * gpcnn-sample draws. In a browser, import `noise`, `readSpec` and `draw`, and pass the module onnxruntime-web as `ort`.
 */

/** Four 64-bit words of Philox-4x64-10 (Salmon et al. 2011) for a block; all are BigInt. */
function philox(block, seed, image) {
  const mask = (1n << 64n) - 1n;
  let x = [block, 0n, 0n, 0n], [k0, k1] = [seed, image];
  for (let round = 0; round < 10; round++) {
    const a = 0xd2e7470ee14c6c93n * x[0], b = 0xca5a826395121157n * x[2];
    x = [(b >> 64n) ^ x[1] ^ k0, b & mask, (a >> 64n) ^ x[3] ^ k1, a & mask];
    k0 = (k0 + 0x9e3779b97f4a7c15n) & mask;
    k1 = (k1 + 0xbb67ae8584caa73bn) & mask;
  }
  return x;
}

/** Uniforms [C, H, W] of one image of a seed, as a Float32Array. Seed and position are BigInt, 0 to 2^64 - 1. */
export function noise(spec, seed, position) {
  const { channels, height, width } = spec, pixels = height * width;
  const out = new Float32Array(channels * pixels);
  let words = [];
  for (let i = 0; i < out.length; i++) {
    if (i % 8 === 0) words = philox(BigInt(i / 8 + 1), seed, position); // NumPy counts blocks from 1
    const half = (words[(i % 8) >> 1] >> (i % 2 ? 32n : 0n)) & 0xffffffffn; // the lower half of a word comes first
    out[(i % channels) * pixels + Math.floor(i / channels)] = (Number(half) >>> 8) * 2 ** -24;
  }
  return out;
}

/** The metadata of an engine's bytes. The runtime does not show it: it is field 14 of the protobuf message ModelProto. */
export function readMetadata(bytes) {
  for (const [field, entry] of fields(bytes)) {
    if (field !== 14) continue;
    const pair = new Map(fields(entry)), text = new TextDecoder();
    if (text.decode(pair.get(1)) === "gpcnn") return JSON.parse(text.decode(pair.get(2)));
  }
  throw new Error("no engine of gpcnn-export: it has no metadata of that name");
}

/** [number, bytes] of each field of a protobuf message that has a length; the others are passed over. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  };
  while (at < bytes.length) {
    const tag = varint(), kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("no ONNX file");
  }
}

/** One call of a sampler. Arrays are flat, [N, C, H, W]; `known` and `mask` keep pixels, and may be left out.
 *
 * @returns {Promise<{image: Int32Array, logProb: Float32Array}>} levels, and nats at temperature 1
 */
export async function draw(ort, session, spec, request) {
  const { channels, height, width } = spec, size = channels * height * width;
  const count = request.noise.length / size, dims = [count, channels, height, width];
  const feeds = {
    noise: new ort.Tensor("float32", request.noise, dims),
    known: new ort.Tensor("int32", request.known ?? new Int32Array(count * size), dims),
    mask: new ort.Tensor("bool", request.mask ?? new Uint8Array(count * size), dims),
    temperature: new ort.Tensor("float32", new Float32Array([request.temperature ?? 1]), []),
  };
  if (spec.conditioning === "label") feeds.label = new ort.Tensor("int32", request.label, [count]);
  if (spec.conditioning === "embedding")
    feeds.embedding = new ort.Tensor("float32", request.embedding, [count, spec.conditioning_size]);
  const { image, log_prob } = await session.run(feeds);
  return { image: image.data, logProb: log_prob.data };
}

/** A PGM or PPM file of one image of levels [C, H, W]. */
function picture(spec, levels) {
  const { channels, height, width } = spec, pixels = height * width, top = spec.levels - 1;
  const head = new TextEncoder().encode(`P${channels === 1 ? 5 : 6}\n${width} ${height}\n255\n`);
  const file = new Uint8Array(head.length + levels.length);
  file.set(head);
  for (let i = 0; i < levels.length; i++) {
    const level = levels[(i % channels) * pixels + Math.floor(i / channels)];
    const whole = Math.floor((level * 255) / top), rest = (level * 255) % top;
    file[head.length + i] = whole + Number(2 * rest > top || (2 * rest === top && whole % 2 === 1)); // halves to even
  }
  return file;
}

async function main([model, out, seed = "0", label = "0", position = "0"]) {
  const { readFile, writeFile } = await import("node:fs/promises");
  if (out === undefined) throw new Error("usage: node draw.mjs MODEL.onnx PICTURE [SEED [LABEL [POSITION]]]");
  for (const text of [seed, label, position])
    if (!/^\d+$/.test(text) || BigInt(text) >> 64n) throw new Error(`${text}: expected a number, 0 or more`);
  const ort = await import("onnxruntime-node").catch(() => import("onnxruntime-web"));
  const bytes = new Uint8Array(await readFile(model)), { role, spec } = readMetadata(bytes);
  if (role !== "sampler") throw new Error(`${model} is a ${role}: expected a sampler`);
  if (spec.conditioning === "embedding") throw new Error(`${model} needs an embedding: import draw() and pass one`);
  if (Number(label) >= Math.max(1, spec.conditioning_size)) throw new Error(`label ${label}: the model has none such`);
  const session = await (ort.InferenceSession ?? ort.default.InferenceSession).create(bytes);
  const request = { noise: noise(spec, BigInt(seed), BigInt(position)), label: new Int32Array([Number(label)]) };
  const { image } = await draw(ort.Tensor ? ort : ort.default, session, spec, request);
  await writeFile(out, picture(spec, image));
}

if (typeof process !== "undefined" && import.meta.url.endsWith("/draw.mjs") && process.argv[1]?.endsWith("draw.mjs"))
  main(process.argv.slice(2)).catch((error) => {
    console.error(`draw: ${error.message}`);
    process.exitCode = 1;
  });
