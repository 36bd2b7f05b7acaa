// The sheet of codes of a VQ-VAE-2: all top codes in raster order fill its first fifth, the bottom codes the rest.
//
// So one stream of noise draws the top codes first, and then the bottom ones, whose map the top codes are. Shapes: N images,
// H rows and W columns of the sheet, h rows and W columns of bottom codes, h / 2 × W / 2 of top codes.

/** C · H · W of a model. */
export const subpixelsOf = ({ channels, height, width }) => channels * height * width;

/** What the spec of the whole says in place of that of its top codes, from the spec of its bottom codes. */
export const sheetOf = ({ height, width, mapFeatures }) => ({ height: height + height / 4, width, mapFeatures });

/**
 * Draw a batch of sheets with two models; request, rows and result are those of one model that draws sheets.
 *
 * @param {{spec: object, draw: Function}} top the model of the top codes.
 * @param {{spec: object, draw: Function}} bottom the model of the bottom codes.
 * @param {object} request as of Kernel.draw.
 * @param {(row: number, sheets: Int32Array) => (boolean|void)} [onRow] as of Kernel.draw.
 * @returns {{levels: Int32Array, logProb: Float32Array, evaluations: number}} codes and nats, [N, 1, H, W].
 */
export function drawSheet(top, bottom, { images, window = 0, temperature, noise, known, mask, label }, onRow) {
  const split = subpixelsOf(top.spec), size = split + subpixelsOf(bottom.spec), { width } = bottom.spec;
  const sheets = onRow && new Int32Array(images * size);
  const given = (begin, end) => {
    const part = (values) => values && cut(values, images, begin, end);
    return { images, temperature, noise: part(noise), known: part(known), mask: part(mask) };
  };
  // A row of the sheet is one of bottom codes, or two of top codes.
  const rows = (begin, { height, width: columns }) => onRow && ((row, levels) => {
    const at = row * columns, next = begin + at + columns;
    for (let k = 0; k < images; k++) sheets.set(levels.subarray(k * height * columns + at, k * height * columns + at + columns), k * size + begin + at);
    return next % width ? undefined : onRow(next / width - 1, sheets);
  });
  const upper = top.draw({ ...given(0, split), label, window: Math.min(window, top.spec.width) }, rows(0, top.spec));
  const lower = bottom.draw({ ...given(split, size), map: Float32Array.from(upper.levels), window }, rows(split, bottom.spec));
  const join = (name) => {
    const out = new upper[name].constructor(images * size), rest = size - split;
    for (let k = 0; k < images; k++) {
      out.set(upper[name].subarray(k * split, (k + 1) * split), k * size);
      out.set(lower[name].subarray(k * rest, (k + 1) * rest), k * size + split);
    }
    return out;
  };
  return { levels: join("levels"), logProb: join("logProb"), evaluations: upper.evaluations + lower.evaluations };
}

/** Numbers begin .. end-1 of each image. */
function cut(values, images, begin, end) {
  const size = values.length / images, length = end - begin, out = new values.constructor(images * length);
  for (let k = 0; k < images; k++) out.set(values.subarray(k * size + begin, k * size + end), k * length);
  return out;
}
