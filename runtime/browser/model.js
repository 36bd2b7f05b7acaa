// A loaded model: what it draws, completes and scores, and what it refuses. gpcnn.d.ts says what comes in and goes out.
//
// Shapes, row-major: N images, C channels, H rows, W columns, K levels, M labels, E numbers of an embedding.

import { GpcnnError } from "./kernel.js";
import { sha256 } from "./sha256.js";

const MAX_SEED = 2n ** 64n - 1n;
const BATCH = 8; // images of one call: the kernel's GROUP_IMAGES, so that onRow is told of every row

/** A loaded model. */
export class Model {
  #kernel;

  constructor(kernel) {
    this.#kernel = kernel;
    this.spec = kernel.spec;
    this.metadata = kernel.metadata;
    this.classNames = Object.freeze([...kernel.metadata.class_names ?? []]);
    this.instructions = kernel.instructions;
    const { height, width, channels, levels } = kernel.metadata.vqvae ?? kernel.spec;
    this.pictureSpec = Object.freeze({ height, width, channels, levels: kernel.metadata.vqvae ? 256 : levels });
  }

  /** Uniforms of images first .. first+count-1 of a seed: Float32Array [count, C, H, W]. */
  noise(seed = 0, first = 0, count = 1) {
    return this.#kernel.noise(whole("seed", seed), whole("first", first), countOf(count));
  }

  /** Draw `count` images of each label; image p of the call has noise stream (seed, first + p). */
  draw(request, onRow) {
    return this.#withPictures(performance.now(), this.#draw(request, onRow));
  }

  /** With the pictures of a VQ-VAE's codes. */
  #withPictures(begin, drawn) {
    const [images] = drawn.shape, { vqvae } = this.metadata;
    if (!vqvae) return drawn;
    const grid = this.#size, { channels, height, width } = this.pictureSpec, size = channels * height * width;
    const pictures = new Uint8Array(images * size);
    for (let start = 0; start < images; start += BATCH) {
      const n = Math.min(BATCH, images - start);
      pictures.set(this.#kernel.decode(Int32Array.from(drawn.levels.subarray(start * grid, (start + n) * grid)), n), start * size);
    }
    return { ...drawn, pictures, milliseconds: performance.now() - begin };
  }

  /** As `draw`, without pictures. */
  #draw({ label, labels, count = 1, seed = 0, first = 0, temperature = 1, noise, known, mask, embedding, map, window = 0 } = {}, onRow) {
    const begin = performance.now(), size = this.#size, { channels, height, width } = this.spec;
    const each = this.#labels(labels ?? one(label));
    const images = countOf(count) * (each?.length ?? 1);
    if (!(temperature > 0 && temperature < Infinity)) throw new GpcnnError(`temperature is ${temperature}: expected above 0`);
    const stream = whole("first", first);
    whole("seed", seed);
    const all = { noise: noise && floats("noise", noise, images * size), label: each && Int32Array.from({ length: images }, (_, k) => each[Math.floor(k / count)]) };
    if (mask) Object.assign(all, { mask: this.#mask(mask, images), known: this.#known(known, images) });
    if (this.spec.conditioning === "embedding") all.embedding = this.#embedding(embedding, images);
    if (this.spec.conditioning === "map") all.map = this.#map(map, images);
    const Levels = this.spec.levels > 256 ? Uint16Array : Uint8Array;
    const out = { levels: new Levels(images * size), logProb: new Float32Array(images * size), evaluations: 0 };
    const parts = Math.ceil(images / BATCH);
    for (let part = 0, start = 0, n; part < parts; part++, start += n) {
      n = Math.floor((images - start) / (parts - part));
      const request = { images: n, window, temperature };
      for (const [name, values] of Object.entries(all)) request[name] = values?.subarray((values.length / images) * start, (values.length / images) * (start + n));
      request.noise ??= this.#kernel.noise(whole("seed", seed), stream + BigInt(start), n);
      const row = onRow && ((number, levels) => onRow({ row: number, first: start, levels, shape: [n, channels, height, width] }));
      const drawn = this.#kernel.draw(request, row);
      out.levels.set(drawn.levels, start * size);
      out.logProb.set(drawn.logProb, start * size);
      out.evaluations += drawn.evaluations;
    }
    return { ...out, shape: [images, channels, height, width], labels: all.label, milliseconds: performance.now() - begin };
  }

  /**
   * Keep the pixels of an image where `mask` is nonzero and draw the rest; the best completions come first. Choice of
   * the label, noise streams and order are those of gpcnn-sample --complete.
   */
  complete({ levels, mask, labels, label, map, count = 4, candidates = 1, seed = 0, temperature = 1, rankBy = "image" }, onRow) {
    const kept = this.#mask(mask, 1), known = this.#known(levels, 1);
    if (kept.every((x) => x)) throw new GpcnnError("the mask keeps every pixel: nothing is left to draw");
    if (!kept.some((x) => x)) throw new GpcnnError("the mask keeps no pixel: use draw");
    if (rankBy !== "image" && rankBy !== "known") throw new GpcnnError(`rankBy is '${rankBy}': expected image or known`);
    countOf(candidates, "candidates");
    countOf(count);
    const before = this.#keptFirst(kept);
    if (rankBy === "known" && before) throw new GpcnnError("all that is known comes before what is drawn, and is equally likely beside it: rank by image");
    let possible = this.#labels(labels ?? one(label) ?? (this.classNames.length ? [...this.classNames.keys()] : undefined));
    if (possible) possible = [...new Set(possible)];
    const nats = (drawn, k, mask) => {
      let sum = 0;
      for (let x = 0; x < this.#size; x++) if (!mask || mask[x]) sum += drawn.logProb[k * this.#size + x];
      return sum;
    };
    const begin = performance.now();
    const same = { known, mask: kept, seed, temperature, map };
    if (possible?.length > 1 && before) {
      const scored = this.#draw({ ...same, temperature: 1, labels: possible });
      possible = [possible[largest(possible.map((_, k) => nats(scored, k, kept)))]];
    }
    const options = possible?.length ?? 1, total = count * candidates;
    const repeated = possible && Array.from({ length: total }, () => possible).flat();
    const drawn = this.#draw({ ...same, labels: repeated, count: repeated ? 1 : total }, onRow);
    let best = Array.from({ length: total }, (_, k) => k * options + largest(Array.from({ length: options }, (_, j) => nats(drawn, k * options + j, kept))));
    const value = new Map(best.map((k) => [k, nats(drawn, k, rankBy === "known" ? kept : undefined)]));
    best = best.sort((a, b) => value.get(b) - value.get(a) || a - b).slice(0, count); // stable
    const take = (array, size) => array && array.constructor.from(best.flatMap((k) => Array.from(array.subarray(k * size, (k + 1) * size))));
    return this.#withPictures(begin, {
      ...drawn,
      levels: take(drawn.levels, this.#size),
      logProb: take(drawn.logProb, this.#size),
      labels: take(drawn.labels, 1),
      positions: best,
      shape: [best.length, ...drawn.shape.slice(1)],
      guided: before,
      drawn: total * options,
      milliseconds: performance.now() - begin,
    });
  }

  /**
   * How likely an image is, in nats (-log p; smaller is likelier). Without a label, the mixture of all labels, each as
   * likely before; `logProb` are then the terms of the mixture's own chain rule.
   */
  score({ levels, label, embedding, map }) {
    const begin = performance.now();
    const names = this.spec.conditioning === "label" && !one(label) ? [...this.classNames.keys()] : undefined;
    const images = names?.length ?? 1;
    const scored = this.#draw({
      labels: names ?? one(label),
      known: levels, mask: new Uint8Array(this.#size).fill(1), noise: new Float32Array(images * this.#size), embedding, map,
    });
    const each = Array.from({ length: images }, (_, k) => scored.logProb.subarray(k * this.#size, (k + 1) * this.#size));
    const totals = each.map((values) => values.reduce((a, b) => a + b, 0));
    const logProb = names ? this.#mixture(each) : scored.logProb;
    const nats = Math.log(images) - logSumExp(totals);
    return {
      nats,
      bitsPerDim: nats / (this.#size * Math.LN2),
      labelNats: names && totals.map((x) => -x),
      posterior: names && totals.map((x) => Math.exp(x - logSumExp(totals))),
      logProb,
      milliseconds: performance.now() - begin,
    };
  }

  /** SHA-256 of each image's levels, one byte a sub-pixel (two of more than 256 levels), in order [C, H, W]: as in gpcnn-sample --json. */
  digests(levels) {
    const Levels = this.spec.levels > 256 ? Uint16Array : Uint8Array;
    return Array.from({ length: levels.length / this.#size }, (_, k) => sha256(new Uint8Array(Levels.from(levels.subarray(k * this.#size, (k + 1) * this.#size)).buffer)));
  }

  get #size() {
    return this.#kernel.subpixels;
  }

  /** log Σ p(x_≤i | y) - log Σ p(x_<i | y), in raster order. */
  #mixture(each) {
    const { channels } = this.spec, pixels = this.#size / channels, out = new Float32Array(this.#size);
    const sums = new Float64Array(each.length);
    let before = Math.log(each.length);
    for (let i = 0; i < this.#size; i++) {
      const at = (i % channels) * pixels + Math.floor(i / channels);
      for (let y = 0; y < each.length; y++) sums[y] += each[y][at];
      const now = logSumExp(sums);
      out[at] = now - before;
      before = now;
    }
    return out;
  }

  /** Does every kept sub-pixel come before every drawn one, in raster and channel order? */
  #keptFirst(kept) {
    const { channels } = this.spec, pixels = this.#size / channels;
    let drawn = false;
    for (let i = 0; i < this.#size; i++) {
      const here = kept[(i % channels) * pixels + Math.floor(i / channels)];
      if (here && drawn) return false;
      drawn ||= !here;
    }
    return true;
  }

  #labels(given) {
    const { conditioning, conditioningSize } = this.spec;
    if (conditioning !== "label") {
      if (given === undefined) return undefined;
      throw new GpcnnError("this model takes no label: leave it out");
    }
    if (given === undefined) throw new GpcnnError(`this model draws by label: name one of ${this.classNames.join(", ")}`);
    return Array.from(given, (one) => {
      const number = typeof one === "number" ? one : this.classNames.indexOf(one);
      if (Number.isInteger(number) && number >= 0 && number < conditioningSize) return number;
      throw new GpcnnError(`unknown label '${one}': expected one of ${this.classNames.join(", ")}`);
    });
  }

  /** [H, W], [C, H, W] or [N, C, H, W] → Uint8Array [N, C, H, W] of 0 and 1. */
  #mask(mask, images) {
    const { channels } = this.spec, size = this.#size, pixels = size / channels;
    if (![pixels, size, images * size].includes(mask?.length)) throw new GpcnnError(`mask has ${mask?.length} numbers: expected ${pixels} or ${size}`);
    return Uint8Array.from({ length: images * size }, (_, x) => (mask[x % mask.length] ? 1 : 0));
  }

  /** [C, H, W] or [N, C, H, W] → Int32Array [N, C, H, W]. */
  #known(levels, images) {
    const size = this.#size;
    if (levels?.length !== size && levels?.length !== images * size) throw new GpcnnError(`levels has ${levels?.length} numbers: expected ${size}`);
    const most = this.spec.levels - 1;
    for (const level of levels) if (!(Number.isInteger(level) && level >= 0 && level <= most)) throw new GpcnnError(`levels holds ${level}: expected whole numbers from 0 to ${most}`);
    return Int32Array.from({ length: images * size }, (_, x) => levels[x % levels.length]);
  }

  #embedding(embedding, images) {
    const size = this.spec.conditioningSize;
    if (!embedding) throw new GpcnnError(`this model draws from an embedding of ${size} numbers: pass one`);
    const given = floats("embedding", embedding, embedding.length === size ? size : images * size);
    return Float32Array.from({ length: images * size }, (_, x) => given[x % given.length]);
  }

  /** [P, h, w] or [N, P, h, w] → Float32Array [N, P, h, w]. */
  #map(map, images) {
    const { conditioningSize, mapHeight, mapWidth, mapCategories } = this.spec, size = conditioningSize * mapHeight * mapWidth;
    if (!map) throw new GpcnnError(`this model draws from a map of ${conditioningSize} × ${mapHeight} × ${mapWidth} numbers: pass one`);
    const given = floats("map", map, map.length === size ? size : images * size);
    for (const x of given) {
      if (!Number.isFinite(x)) throw new GpcnnError(`map holds ${x}: expected finite numbers`);
      if (mapCategories && !(Number.isInteger(x) && x >= 0 && x < mapCategories)) throw new GpcnnError(`map holds ${x}: expected whole numbers from 0 to ${mapCategories - 1}`);
    }
    return Float32Array.from({ length: images * size }, (_, x) => given[x % given.length]);
  }
}

/** [label], or undefined where none is named. */
const one = (label) => (label === undefined || label === null ? undefined : [label]);

function whole(name, value) {
  let number;
  try {
    number = BigInt(typeof value === "string" ? value.trim() || "none" : value);
  } catch {
    number = -1n;
  }
  if (number < 0n || number > MAX_SEED) throw new GpcnnError(`${name} is ${value}: expected a whole number from 0 to 2**64 - 1`);
  return number;
}

function countOf(value, name = "count") {
  if (Number.isInteger(value) && value >= 1 && value < 2 ** 31) return value;
  throw new GpcnnError(`${name} is ${value}: expected a whole number, at least 1`);
}

function floats(name, values, length) {
  if (values.length === length) return values instanceof Float32Array ? values : Float32Array.from(values);
  throw new GpcnnError(`${name} has ${values.length} numbers: expected ${length}`);
}

function largest(values) {
  return values.reduce((best, value, k) => (value > values[best] ? k : best), 0);
}

function logSumExp(values) {
  const most = Math.max(...values);
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}
