// Holds draw.mjs to tests/contract: `node contract.mjs CONTRACT-FOLDER ENGINE-FOLDER`; prints what was compared.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as module from "onnxruntime-node";
import { draw, noise, readMetadata } from "./draw.mjs";

const [contract, engines] = process.argv.slice(2), ort = module.default ?? module;
const json = async (name) => JSON.parse(await readFile(join(contract, name), "utf8"));
const compared = { noise: 0, samples: 0 };

function same(found, expected, tolerance, what) {
  if (found.length !== expected.length) throw new Error(`${what}: ${found.length} numbers, expected ${expected.length}`);
  expected.forEach((value, i) => {
    if (!(Math.abs(found[i] - value) <= tolerance)) throw new Error(`${what}: number ${i} is ${found[i]}, not ${value}`);
  });
}

for (const vector of (await json("noise.json")).vectors) {
  const [channels, height, width] = vector.shape;
  const found = noise({ channels, height, width }, BigInt(vector.seed), BigInt(vector.image));
  same(found, vector.noise.map((n) => n / 2 ** 24), 0, `noise of seed ${vector.seed}`);
  compared.noise++;
}
const samples = await json("samples.json");
for (const model of samples.models) {
  const bytes = new Uint8Array(await readFile(join(engines, model.checkpoint.replace(".safetensors", ".onnx"))));
  const { spec } = readMetadata(bytes), session = await ort.InferenceSession.create(bytes);
  for (const one of model.cases) {
    const { image, logProb } = await draw(ort, session, spec, {
      noise: Float32Array.from(one.noise, (n) => n / 2 ** 24),
      known: one.known && Int32Array.from(one.known),
      mask: one.mask && Uint8Array.from(one.mask),
      label: one.label && Int32Array.from(one.label),
      embedding: one.embedding && Float32Array.from(one.embedding),
      temperature: one.temperature,
    });
    same(image, one.image, 0, `image of ${model.checkpoint}, ${one.name}`);
    same(logProb, one.log_prob, samples.log_prob_tolerance, `log_prob of ${model.checkpoint}, ${one.name}`);
    compared.samples++;
  }
}
console.log(JSON.stringify(compared));
