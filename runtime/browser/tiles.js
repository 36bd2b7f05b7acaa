// Pictures beside each other, which appear row by row. Each is a button that chooses it.

import { paintRows } from "./pixels.js";

const WATCH = 400; // milliseconds that pictures take at least to appear, so that one can watch them

export class Tiles {
  #spec;
  #canvases;
  #buttons;
  #rows = [];
  #shown = 0; // of #rows
  #lines = 0; // rows of single pictures
  #begin;
  #frame;
  #done;

  constructor(list, spec, count, choose) {
    this.#spec = spec;
    this.#canvases = Array.from({ length: count }, () => Object.assign(document.createElement("canvas"), { width: spec.width, height: spec.height }));
    this.#buttons = this.#canvases.map((canvas, k) => {
      const button = Object.assign(document.createElement("button"), { type: "button", disabled: true });
      button.append(canvas);
      button.addEventListener("click", () => choose(k, this));
      return button;
    });
    list.classList.toggle("few", count <= 4);
    list.classList.toggle("large", spec.width > 40);
    list.replaceChildren(...this.#buttons.map((button) => {
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  }

  /** A row of some images was drawn; `slowly` shows it when its turn has come. */
  row(row, slowly) {
    this.#rows.push(row);
    if (!slowly) return this.#show(Infinity);
    this.#begin ??= performance.now();
    this.#frame ??= requestAnimationFrame(() => this.#tick());
  }

  /** Wait until all rows are shown, paint whole images, and write what they are. */
  async finish(levels, names, signal) {
    await new Promise((resolve, reject) => {
      this.#done = resolve;
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      if (this.#shown >= this.#rows.length) resolve();
    }).finally(() => this.stop());
    const size = levels.length / this.#canvases.length;
    this.#canvases.forEach((canvas, k) => paintRows(canvas, levels.subarray(k * size, (k + 1) * size), 0, this.#spec));
    this.#buttons.forEach((button, k) => {
      const { title, mark, spoken } = names[k];
      button.append(title, Object.assign(document.createElement("span"), { className: "mark", textContent: mark }));
      button.setAttribute("aria-label", spoken);
      button.setAttribute("aria-pressed", "false");
      button.disabled = false;
    });
  }

  press(chosen) {
    this.#buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === chosen)));
  }

  stop() {
    cancelAnimationFrame(this.#frame);
  }

  #tick() {
    this.#show(((performance.now() - this.#begin) / WATCH) * this.#spec.height * this.#canvases.length);
    this.#frame = requestAnimationFrame(() => this.#tick());
  }

  /** Paint rows until so many lines are shown. */
  #show(until) {
    const { channels, width } = this.#spec;
    for (; this.#lines < until && this.#shown < this.#rows.length; this.#shown++) {
      const { row, levels, first, shape } = this.#rows[this.#shown], size = channels * width;
      this.#lines += shape[0];
      for (let k = 0; k < levels.length / size; k++) paintRows(this.#canvases[first + k], levels.subarray(k * size, (k + 1) * size), row, this.#spec);
    }
    if (this.#shown >= this.#rows.length) this.#done?.();
  }
}
