// The map that pictures are drawn under: painted by the visitor, or opened from a file. Only models of maps have one.
//
// Shapes: P planes, h rows, w columns. Painted are levels: categories, or 0 to 255 between the least value and the largest.

import { $, app, say } from "./app.js";
import { Easel } from "./easel.js";
import { GpcnnError } from "./gpcnn.js";
import { readNpy, writeNpy } from "./npy.js";
import { pixelOf, readPicture } from "./pixels.js";
import { readPng } from "./png.js";

const BYTE = Math.fround(1 / 255);

/** The map of the page's model. */
export class PaintedMap {
  #model;
  #range = [0, 1]; // of values
  #given; // what a file holds [P, h, w], and the levels that were shown of it
  #shown;

  constructor(model) {
    const { mapHeight: height, mapWidth: width, mapCategories: categories, conditioningSize: planes } = model.spec;
    this.#model = model;
    this.kind = model.metadata.spec.map_kind ?? "values";
    this.shape = [planes, height, width];
    const levels = categories || 256, channels = planes === 3 ? 3 : 1, bands = Math.min(levels, height);
    const words = (values) => (categories ? `category ${values[0]}` : values.join(", "));
    this.paintable = planes === 1 || (planes === 3 && !categories);
    const show = { height, width, channels, levels, words, colourOf: categories ? colourOf : undefined };
    const first = Float64Array.from({ length: planes * height * width }, (_, k) => {
      const band = Math.floor(((Math.floor(k / width) % height) * bands) / height); // something to see: bands from the top down
      return categories ? band : Math.round((band * 255) / Math.max(1, bands - 1));
    });
    if (this.paintable) {
      this.easel = new Easel($("map"), show, brush, (text) => ($("map-cursor").textContent = text), () => {});
      this.easel.show(first);
    } else this.#given = first.map((level) => this.#valueOf(level));
    $("map-easel").hidden = !this.paintable;
    $("category").max = categories - 1;
    $("category").value = Math.min(1, categories - 1);
    $("category-field").hidden = !this.paintable || !categories;
    $("map-shade-field").hidden = !this.paintable || Boolean(categories) || planes === 3;
    $("map-colour-field").hidden = !this.paintable || planes !== 3;
    $("fill-map").hidden = !this.paintable;
    this.#tell();
  }

  close() {
    this.easel?.close();
  }

  /** What the model takes: Float32Array [P, h, w]. */
  values() {
    if (!this.easel) return Float32Array.from(this.#given);
    return Float32Array.from(this.easel.levels, (level, k) => (this.#given && level === this.#shown[k] ? this.#given[k] : this.#valueOf(level)));
  }

  fill() {
    const { levels } = this.easel, { shade, colour } = brush(), pixels = levels.length / (this.shape[0] === 3 ? 3 : 1);
    this.easel.show(levels.map((_, k) => (this.shape[0] === 3 ? channelOf(colour, Math.floor(k / pixels)) : shade)));
  }

  /** Take a map from a file: a picture, or an .npy of one map or more, of which the first is taken. */
  async open(file) {
    const name = file.name || "This file";
    if (this.kind !== "categories" && !/\.npy$/i.test(name)) return this.#openPicture(file, name);
    const found = /\.npy$/i.test(name) ? readNpy(await file.arrayBuffer(), name) : await readPng(await file.arrayBuffer(), name);
    const numbers = this.#fitting(found, name);
    this.#check(numbers, found.type, name);
    this.#range = [0, 1];
    if (this.kind === "values") {
      const low = numbers.reduce((a, b) => Math.min(a, b)), high = numbers.reduce((a, b) => Math.max(a, b));
      if (low < 0 || high > 1) this.#range = [low, Math.max(high, low + 1)];
    }
    const level = { categories: (x) => x, picture: (x) => x, values: (x) => Math.round(((x - this.#range[0]) / (this.#range[1] - this.#range[0])) * 255) }[this.kind];
    this.#given = this.kind === "picture" ? numbers.map((x) => this.#valueOf(x)) : numbers;
    this.#shown = Uint16Array.from(numbers, level);
    this.easel?.show(this.#shown);
    this.#tell(name);
  }

  /** The map as an .npy, which `gpcnn-sample --map` reads. */
  save() {
    const [planes, height, width] = this.shape, pixels = height * width, values = this.values();
    const last = Float32Array.from(values, (_, k) => values[(k % planes) * pixels + Math.floor(k / planes)]); // [h, w, P]
    const Numbers = { categories: Int32Array, picture: Uint8Array, values: Float32Array }[this.kind];
    const stored = Numbers.from(last, this.kind === "picture" ? (x) => Math.round((x * 255 + 255) / 2) : (x) => x);
    return writeNpy(stored, planes === 1 ? [height, width] : [height, width, planes]);
  }

  async #openPicture(file, name) {
    const [planes, height, width] = this.shape;
    if (planes !== 1 && planes !== 3) throw new GpcnnError(`${name}: the model's maps have ${planes} planes: expected an .npy of [${height}, ${width}, ${planes}]`);
    const levels = await readPicture(file, { height, width, channels: planes, levels: 256 }, this.#model.metadata.preparation?.background ?? "#ffffff");
    this.#range = [0, 1];
    this.#given = undefined;
    this.easel.show(levels);
    this.#tell(name);
  }

  /** The first map of an array: Float64Array [P, h, w]. */
  #fitting({ shape, values }, name) {
    const [planes, height, width] = this.shape, one = planes === 1 ? [[height, width], [height, width, 1]] : [[height, width, planes]];
    const same = (a, b) => a.length === b.length && a.every((x, k) => x === b[k]);
    const several = !one.some((known) => same(known, shape));
    if (several && !(shape[0] > 0 && one.some((known) => same(known, shape.slice(1))))) {
      throw new GpcnnError(`${name} has the shape [${shape.join(", ")}]: expected [${one[0].join(", ")}], or several of these`);
    }
    const pixels = height * width;
    return Float64Array.from({ length: planes * pixels }, (_, k) => values[(k % pixels) * planes + Math.floor(k / pixels)]);
  }

  #check(numbers, type, name) {
    const most = { categories: this.#model.spec.mapCategories - 1, picture: 255 }[this.kind], what = this.kind === "categories" ? "categories" : "pixels";
    if (most === undefined) {
      if (!numbers.every((x) => Number.isFinite(Math.fround(x)))) throw new GpcnnError(`${name} holds nan or infinite numbers: expected finite ones`);
      return;
    }
    if (type?.[0] === "f") throw new GpcnnError(`${name} holds floats: expected integers, ${what} 0 to ${most}`);
    const wrong = numbers.find((x) => x < 0 || x > most);
    if (wrong !== undefined) throw new GpcnnError(`${name} holds ${wrong}: expected ${what} 0 to ${most}`);
  }

  /** The value that a painted level stands for. */
  #valueOf(level) {
    if (this.kind === "categories") return level;
    if (this.kind === "picture") return Math.fround((2 * level - 255) * BYTE);
    const [low, high] = this.#range;
    return low === 0 && high === 1 ? Math.fround(level * BYTE) : low + ((high - low) * level) / 255;
  }

  #tell(name) {
    const [planes, height, width] = this.shape, { mapCategories: categories } = this.#model.spec;
    const range = this.#range.map((x) => Number(x.toPrecision(4))).join(" to ");
    const what = { categories: `categories 0 to ${categories - 1}`, picture: "the picture at a smaller size", values: `values from ${range}` }[this.kind];
    $("map-about").textContent = `${width}×${height}${planes > 1 && this.kind !== "picture" ? `, ${planes} planes` : ""}: ${what}.${name ? ` From ${name}.` : ""}`;
    if (name) say(`${name} is the map.`);
  }
}

/** The map that is a picture made small: each pixel the mean of those that it covers, halves rounded up. */
export function smallOf(levels, spec) {
  const { height, width, channels, mapHeight, mapWidth } = spec, [down, across] = [height / mapHeight, width / mapWidth], count = down * across;
  return Float32Array.from({ length: channels * mapHeight * mapWidth }, (_, k) => {
    const column = k % mapWidth, row = Math.floor(k / mapWidth) % mapHeight, c = Math.floor(k / mapWidth / mapHeight);
    let total = 0;
    for (let y = 0; y < down; y++) for (let x = 0; x < across; x++) total += pixelOf(levels[(c * height + row * down + y) * width + column * across + x], spec.levels);
    return Math.fround((2 * Math.floor((2 * total + count) / (2 * count)) - 255) * BYTE);
  });
}

/** Colours that are told apart: of each category another hue. */
export const colourOf = (category) => `hsl(${(category * 137.5) % 360} 65% ${category % 2 ? 62 : 45}%)`;

const channelOf = (colour, c) => Number.parseInt(colour.slice(1 + 2 * c, 3 + 2 * c), 16);

function brush() {
  const shade = $("category-field").hidden ? $("map-shade").valueAsNumber : category();
  return { tool: "paint", shade, colour: $("map-colour").value, size: Math.max(...app.map.shape.slice(1)) < 16 ? 1 : 2 };
}

function category() {
  const chosen = $("category").valueAsNumber, most = Number($("category").max);
  return Number.isInteger(chosen) ? Math.min(Math.max(chosen, 0), most) : 0;
}

/** Show the colour of the category that is chosen. */
export const showCategory = () => ($("category-colour").style.background = colourOf(category()));
