// Runs gpcnn.js in Node for the tests: a list of calls on standard input, their results on standard output.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { GpcnnError, hasRelaxedSimd, hasSimd, load } from "../../runtime/browser/gpcnn.js";
import { readNpy } from "../../runtime/browser/npy.js";
import { readPng } from "../../runtime/browser/png.js";
import { sha256 } from "../../runtime/browser/sha256.js";

const { calls } = JSON.parse(readFileSync(0, "utf8"));
const models = new Map();
const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const finite = (key, value) => plain(key, value === Infinity ? "Infinity" : value);

async function modelOf({ file, relaxed }) {
  const name = JSON.stringify([file, relaxed]);
  if (!models.has(name)) models.set(name, await load(file, relaxed === undefined ? {} : { relaxed }));
  return models.get(name);
}

/** Draws, and looks at the kernel's memory whenever a row is done: [row, first, levels of the row]. */
async function rows(model, { stopAt, ...request }) {
  const seen = [];
  const [, , height, width] = [0, 0, model.spec.height, model.spec.width];
  model.draw(request, ({ row, first, levels, shape }) => {
    const planes = shape[0] * shape[1];
    seen.push([row, first, Array.from({ length: planes }, (_, k) => Array.from(levels.subarray((k * height + row) * width, (k * height + row + 1) * width)))]);
    return row !== stopAt;
  });
  return seen;
}

async function time(model, { images, runs }) {
  const labels = new Array(images).fill(3), each = [];
  for (let k = 0; k < runs + 2; k++) each.push(model.draw({ labels, seed: k }).milliseconds / images);
  return each.slice(2).sort((a, b) => a - b)[runs >> 1];
}

async function answer({ method, given = {}, ...which }) {
  if (method === "sha256") return [sha256(Uint8Array.from(given)), createHash("sha256").update(Uint8Array.from(given)).digest("hex")];
  if (method === "npy" || method === "png") {
    const content = readFileSync(which.file), read = method === "npy" ? readNpy : readPng;
    return read(content.buffer.slice(content.byteOffset, content.byteOffset + content.length), "map");
  }
  if (method === "simd") return [hasSimd(), hasRelaxedSimd()];
  const model = await modelOf(which);
  if (method === "about") return { spec: model.spec, pictureSpec: model.pictureSpec, classNames: model.classNames, metadata: model.metadata, instructions: model.instructions };
  if (method === "noise") return model.noise(given.seed, given.first, given.count);
  if (method === "rows") return rows(model, given);
  if (method === "time") return time(model, given);
  if (method === "digests") return model.digests(Int32Array.from(given.levels));
  return model[method](given);
}

const results = [];
for (const call of calls) {
  try {
    results.push(await answer(call));
  } catch (error) {
    if (!(error instanceof GpcnnError)) throw error;
    results.push({ error: error.message, cancelled: Boolean(error.cancelled) });
  }
}
process.stdout.write(JSON.stringify(results, finite));
