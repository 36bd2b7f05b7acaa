// The model file of a VQ-VAE, split: its priors, model files as the kernel reads them, and the weights of its decoder.
//
// The same split as priors_alone and NativeDecoder make in Python. A VQ-VAE-2 has two priors: of the top codes, and of the
// bottom codes. Shapes: K codes of D numbers, F feature maps, C channels.

const OPENING = '{"__metadata__":{"gpcnn":';
const PICTURES = "pictures.";

/** What a VQ-VAE's decoder is made of, in the order of struct gpcnn_pictures. */
export const PICTURE_FIELDS = ["height", "width", "channels", "codes", "downsample", "code_size", "features", "blocks", "code_levels"];

/**
 * Split a model file.
 *
 * @param {Uint8Array} file a model file.
 * @returns {{metadata: object, vqvae: object, priors: Uint8Array[], weights: Float32Array, sound: boolean}|undefined}
 *   undefined for every other file, which the kernel judges: `metadata` is all that the file says of itself, `vqvae` has
 *   PICTURE_FIELDS, and `weights` are those of the decoder, as gpcnn_decoder_load takes them. `priors` come in the order
 *   in which they draw. `sound` is false, and no more is there, if the pictures' tensors are not those that the metadata
 *   asks for, or the codes of two levels are not.
 */
export function splitVqvae(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const headerBytes = file.length < 8 ? 0 : Number(view.getBigUint64(0, true));
  if (!headerBytes || headerBytes % 8 || headerBytes > file.length - 8) return undefined;
  let header, metadata;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(file.subarray(8, 8 + headerBytes)));
    metadata = JSON.parse(header.__metadata__.gpcnn);
  } catch {
    return undefined;
  }
  if (metadata?.vqvae === undefined || metadata.vqvae === null) return undefined;
  const vqvae = { code_levels: 1, ...metadata.vqvae }, spec = { code_levels: 1, ...metadata.spec };
  const names = Object.keys(header).filter((name) => name !== "__metadata__");
  const own = names.filter((name) => !name.startsWith(PICTURES));
  const shapes = spec.code_levels === vqvae.code_levels ? pictureShapes(vqvae) : undefined, sorted = shapes && [...shapes.keys()].sort();
  let end = Number(header[own.at(-1)]?.data_offsets?.[1]);
  const order = sorted && [...own, ...sorted.map((name) => PICTURES + name)];
  let sound = Boolean(order) && order.length === names.length && order.every((name, k) => name === names[k]);
  const places = new Map();
  for (const name of sound ? sorted : []) {
    const shape = shapes.get(name), begin = end;
    end += 4 * product(shape);
    const expected = { dtype: "F32", shape, data_offsets: [begin, end] };
    sound &&= JSON.stringify(header[PICTURES + name]) === JSON.stringify(expected);
    places.set(name, begin);
  }
  const at = 8 + headerBytes;
  if (!sound || at + end !== file.length) return { metadata, sound: false };
  const priorEnd = at + Number(header[own.at(-1)].data_offsets[1]);
  const all = new Float32Array(file.slice(priorEnd).buffer), first = priorEnd - at;
  if (!all.every(Number.isFinite)) return { metadata, sound: false };
  const taken = [...shapes].filter(([name]) => !name.startsWith("encoder."));
  const weights = new Float32Array(taken.reduce((sum, [, shape]) => sum + product(shape), 0));
  let filled = 0;
  for (const [name, shape] of taken) {
    const begin = (places.get(name) - first) / 4, size = product(shape);
    weights.set(all.subarray(begin, begin + size), filled);
    filled += size;
  }
  const data = file.subarray(at, priorEnd);
  const priors = spec.code_levels === 1 ? [priorFile(metadata, header, own, data)] : priorsOfTwo(metadata, header, own, data);
  return priors ? { metadata, vqvae, priors, weights, sound: true } : { metadata, sound: false };
}

/** The model files of the two priors of a VQ-VAE-2; undefined if its tensors are not those of two networks. */
function priorsOfTwo(metadata, header, own, data) {
  const { code_levels, map_features, ...both } = metadata.spec, rows = (both.height / 5) * 4, columns = both.width;
  const first = own.findIndex((name) => name.startsWith("top.")), names = { bottom: own.slice(0, first), top: own.slice(first) };
  const named = first > 0 && Object.entries(names).every(([level, all]) => all.every((name) => name.startsWith(`${level}.`)));
  if (!named || !Number.isInteger(both.height / 5) || !Number.isInteger(columns / 2)) return undefined;
  const end = Number(header[own[first - 1]]?.data_offsets?.[1]);
  if (!(end >= 0 && end <= data.length)) return undefined;
  const under = {
    height: rows, width: columns, conditioning: "map", conditioning_size: 1,
    map_height: rows / 2, map_width: columns / 2, map_features, map_kind: "categories", map_categories: both.levels,
  };
  const part = (level, spec, begin, bytes) => {
    const alone = names[level].map((name) => {
      const { data_offsets: place, ...rest } = header[name] ?? {};
      return [name.slice(level.length + 1), { ...rest, data_offsets: [0, 1].map((k) => place?.[k] - begin) }];
    });
    return priorFile({ ...metadata, spec }, Object.fromEntries(alone), alone.map(([name]) => name), bytes);
  };
  return [
    part("top", { ...both, height: rows / 2, width: columns / 2 }, end, data.subarray(end)),
    part("bottom", { ...both, ...under }, 0, data.subarray(0, end)),
  ];
}

/** The model file of one prior alone. */
function priorFile(metadata, header, names, data) {
  const { vqvae, picture_parity, ...rest } = metadata;
  const entries = names.map((name) => `,${JSON.stringify(name)}:${JSON.stringify(header[name])}`).join("");
  const text = `${OPENING}${JSON.stringify(JSON.stringify({ ...rest, preparation: null }))}}${entries}}`;
  const bytes = new TextEncoder().encode(text), length = Math.ceil(bytes.length / 8) * 8;
  const out = new Uint8Array(8 + length + data.length).fill(32, 8, 8 + length);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(bytes, 8);
  out.set(data, 8 + length);
  return out;
}

/** Name → shape of the tensors of encoder, codebook and decoder, in the order that pictures take; undefined out of bounds. */
function pictureShapes(vqvae) {
  const whole = (name, low, high) => Number.isInteger(vqvae[name]) && low <= vqvae[name] && vqvae[name] <= high;
  const sound = whole("height", 1, 2 ** 20) && whole("width", 1, 2 ** 20) && [1, 3].includes(vqvae.channels) &&
    whole("codes", 2, 4096) && [2, 4, 8, 16].includes(vqvae.downsample) && whole("code_size", 1, 4096) &&
    whole("features", 1, 4096) && whole("blocks", 0, 512) && whole("code_levels", 1, 2);
  if (!sound) return undefined;
  const { features: f, code_size: d, channels: c, codes, blocks, downsample, code_levels: levels } = vqvae, halvings = Math.log2(downsample);
  const shapes = new Map();
  const affine = (name, shape, outputs = shape[0]) => shapes.set(`${name}.weight`, shape).set(`${name}.bias`, [outputs]);
  const residuals = (name) => {
    for (let k = 0; k < blocks; k++) {
      affine(`${name}.${k}.wide`, [f, f, 3, 3]);
      affine(`${name}.${k}.out`, [f, f, 1, 1]);
    }
  };
  for (let k = 0; k < halvings; k++) affine(`encoder.down.${k}`, [f, k ? f : c, 4, 4]);
  affine("encoder.first", [f, f, 3, 3]);
  residuals("encoder.blocks");
  if (levels === 2) {
    affine("encoder.top.down", [f, f, 4, 4]);
    residuals("encoder.top.blocks");
    affine("encoder.top.out", [d, f, 1, 1]);
  }
  affine("encoder.out", [d, levels === 2 ? f + d : f, 1, 1]);
  shapes.set("codebook", [codes, d]);
  if (levels === 2) {
    shapes.set("top_codebook", [codes, d]);
    affine("decoder.top_up", [d, d, 4, 4]);
  }
  affine("decoder.first", [f, d * levels, 3, 3]);
  residuals("decoder.blocks");
  for (let k = 0; k < halvings; k++) {
    const outputs = k + 1 < halvings ? f : c;
    affine(`decoder.up.${k}`, [f, outputs, 4, 4], outputs);
  }
  return shapes;
}

const product = (shape) => shape.reduce((a, b) => a * b, 1);
