// Levels ↔ pixels ↔ canvas, and the colours of surprise. A level is 0 .. K-1; a pixel is 0 .. 255.

import { GpcnnError } from "./gpcnn.js";

/** Number rounded as Python and NumPy do it: halves go to the even neighbour. */
function rint(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

/** Levels spread evenly over 0 .. 255. */
export const pixelOf = (level, levels) => rint(level * (255 / (levels - 1)));

/** Nearest level of a pixel. */
export const levelOf = (pixel, levels) => rint(pixel * ((levels - 1) / 255));

/** Put rows of an image onto a canvas. `image`: levels [C, rows, W], which begin at row `top` of it. */
export function paintRows(canvas, image, top, spec) {
  const { channels, width, levels } = spec, rows = image.length / channels / width;
  const data = new ImageData(width, rows);
  for (let x = 0; x < rows * width; x++) {
    for (let c = 0; c < 3; c++) data.data[4 * x + c] = pixelOf(image[(channels === 1 ? 0 : c) * rows * width + x], levels);
    data.data[4 * x + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, top);
}

/** Nats of a pixel that is drawn white: a hundred times less likely than a uniform guess. As gpcnn-score --heatmap. */
export const fullScale = ({ channels, levels }) => channels * Math.log(levels) + Math.log(100);

/** Surprise [H, W] of each pixel over its channels, in nats, from log-probabilities [C, H, W]. */
export function surprise(logProb, { channels, height, width }) {
  const pixels = height * width;
  return Float64Array.from({ length: pixels }, (_, x) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum -= logProb[c * pixels + x];
    return sum;
  });
}

/** Black (0 nats) by red and yellow to white. */
export function paintHeat(canvas, nats, spec) {
  const data = new ImageData(spec.width, spec.height), most = fullScale(spec);
  nats.forEach((value, x) => {
    const share = Math.min(Math.max(value / most, 0), 1);
    for (let c = 0; c < 3; c++) data.data[4 * x + c] = rint(Math.min(Math.max(3 * share - c, 0), 1) * 255);
    data.data[4 * x + 3] = 255;
  });
  canvas.getContext("2d").putImageData(data, 0, 0);
}

/** Levels [C, H, W] of a picture file, fitted to the model: each pixel is the mean of what it covers. */
export async function readPicture(file, spec) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new GpcnnError(`${file.name || "This file"} is no picture that the browser can read: use a PNG or a JPEG`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const planes = spec.channels === 1 ? [grey(data)] : [0, 1, 2].map((c) => Float64Array.from({ length: data.length / 4 }, (_, x) => data[4 * x + c]));
  const out = new Uint8Array(spec.channels * spec.height * spec.width);
  planes.forEach((plane, c) => {
    const pixels = shrink(plane, bitmap.width, bitmap.height, spec.width, spec.height);
    pixels.forEach((pixel, x) => (out[c * pixels.length + x] = levelOf(rint(pixel), spec.levels)));
  });
  return out;
}

/** Luma of ITU-R 601, in whole numbers as Pillow has it. */
function grey(data) {
  return Float64Array.from({ length: data.length / 4 }, (_, x) => (data[4 * x] * 19595 + data[4 * x + 1] * 38470 + data[4 * x + 2] * 7471 + 32768) >> 16);
}

/** Means over areas: first along the columns, then along the rows. */
function shrink(plane, width, height, newWidth, newHeight) {
  const rows = resample(plane, height, width, newWidth, (line, x) => line * width + x);
  return transpose(resample(transpose(rows, height, newWidth), newWidth, height, newHeight, (line, x) => line * height + x), newWidth, newHeight);
}

function resample(plane, lines, length, newLength, at) {
  const out = new Float64Array(lines * newLength), step = length / newLength;
  for (let k = 0; k < newLength; k++) {
    const begin = k * step, end = begin + step;
    for (let x = Math.floor(begin); x < Math.ceil(end - 1e-9); x++) {
      const share = (Math.min(x + 1, end) - Math.max(x, begin)) / step;
      for (let line = 0; line < lines; line++) out[line * newLength + k] += share * plane[at(line, x)];
    }
  }
  return out;
}

function transpose(plane, rows, columns) {
  return Float64Array.from({ length: plane.length }, (_, x) => plane[(x % rows) * columns + Math.floor(x / rows)]);
}
