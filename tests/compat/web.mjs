// Runs engines in onnxruntime-web, as runtimes.py does in others: node web.mjs FOLDER…
import fs from "node:fs";
import path from "node:path";
import * as ort from "onnxruntime-web";

const ARRAYS = { "<f4": Float32Array, "<i4": Int32Array, "|b1": Uint8Array };
const TYPES = { "<f4": "float32", "<i4": "int32", "|b1": "bool" };

function read(file) {
  const bytes = fs.readFileSync(file);
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.toString("latin1", 10, start);
  const kind = /'descr': '([^']+)'/.exec(header)[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((text) => text.trim()).map(Number);
  const data = bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length);
  return new ort.Tensor(TYPES[kind], new ARRAYS[kind](data), shape);
}

function write(file, tensor) {
  const kind = tensor.type === "float32" ? "<f4" : "<i4";
  const header = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${tensor.dims.join(", ")},), }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = Buffer.alloc(10);
  start.write("\x93NUMPY\x01\x00", "latin1");
  start.writeUInt16LE(padded.length, 8);
  const { buffer, byteOffset, byteLength } = tensor.data;
  fs.writeFileSync(file, Buffer.concat([start, Buffer.from(padded, "latin1"), Buffer.from(buffer, byteOffset, byteLength)]));
}

async function draw(session, fed) {
  if (!session.inputNames.includes("image")) return session.run(fed);
  const { known, mask } = fed;
  let image = new ort.Tensor("int32", known.data.map((level, k) => (mask.data[k] ? level : 0)), known.dims);
  for (let steps = 0; steps <= image.data.length; steps++) {
    const result = await session.run({ image, ...fed });
    image = result.image_next;
    if (!result.changed.data.some(Boolean)) return { image, log_prob: result.log_prob };
  }
  throw new Error("still changing after as many steps as there are sub-pixels");
}

ort.env.wasm.numThreads = 1;
for (const folder of process.argv.slice(2)) {
  const session = await ort.InferenceSession.create(fs.readFileSync(path.join(folder, "engine.onnx")));
  const kinds = {};
  for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".npy"))) {
    const [kind, name] = file.split(".");
    (kinds[kind] ??= {})[name] = read(path.join(folder, file));
  }
  for (const [kind, fed] of Object.entries(kinds)) {
    const drawn = await draw(session, fed);
    for (const name of ["image", "log_prob"]) write(path.join(folder, `${kind}.${name}.npy`), drawn[name]);
  }
  const times = [];
  for (let k = Number(fs.readFileSync(path.join(folder, "repeats"), "utf8")); k > 0; k--) {
    const begin = performance.now();
    await draw(session, kinds.samples);
    times.push((performance.now() - begin) / kinds.samples.noise.dims[0]);
  }
  times.sort((a, b) => a - b);
  fs.writeFileSync(path.join(folder, "ms"), String(times[times.length >> 1] ?? 0));
}
