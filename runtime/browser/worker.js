// A Web Worker with one model: answers {id, method, given} with {id, result} or {id, error}, and rows with {id, row}.

import { GpcnnError, load } from "./gpcnn.js";

let model;

async function answer(method, given, onRow) {
  if (method !== "load") return model[method](...given, onRow);
  model = await load(...given);
  const { spec, pictureSpec, metadata, classNames, instructions } = model;
  return { spec, pictureSpec, metadata, classNames, instructions };
}

self.onmessage = async ({ data: { id, method, given, rows } }) => {
  // The levels are the kernel's own memory: only what was drawn so far is copied.
  const onRow = ({ row, first, levels, shape }) => self.postMessage({ id, row: { row, first, shape, levels: rowOf(levels, row, shape) } });
  try {
    self.postMessage({ id, result: await answer(method, given, rows ? onRow : undefined) });
  } catch (error) {
    self.postMessage({ id, error: { message: error.message, ours: error instanceof GpcnnError } });
  }
};

/** One row of all images: [N, C, W]. */
function rowOf(levels, row, [images, channels, height, width]) {
  const out = new levels.constructor(images * channels * width);
  for (let plane = 0; plane < images * channels; plane++)
    out.set(levels.subarray((plane * height + row) * width, (plane * height + row + 1) * width), plane * width);
  return out;
}
