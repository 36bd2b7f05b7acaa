// The picture that a visitor paints: its levels, which pixels stay, and how mouse, pen, finger and keys change them.

import { levelOf, pixelOf } from "./pixels.js";

const SIDE = 448; // canvas pixels of the longer side, at least
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Easel {
  #canvas;
  #spec;
  #scale;
  #brush;
  #say;
  #cursor = [0, 0];
  #last;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} spec of the model; `colourOf` level and `words` of values tell what a level is, if it is no shade.
   * @param {() => {tool: string, shade: number, colour: string, size: number}} brush what is chosen now.
   * @param {(text: string) => void} say tells people who cannot see the canvas.
   * @param {() => void} changed called after a mark of what stays.
   */
  constructor(canvas, spec, brush, say, changed) {
    this.#canvas = canvas;
    this.#spec = spec;
    this.#brush = brush;
    this.#say = say;
    this.changed = changed;
    this.#scale = Math.max(1, Math.floor(SIDE / Math.max(spec.width, spec.height)));
    canvas.width = spec.width * this.#scale;
    canvas.height = spec.height * this.#scale;
    this.levels = new Uint16Array(spec.channels * spec.height * spec.width);
    this.kept = new Uint8Array(spec.height * spec.width).fill(1);
    this.listen = new AbortController();
    const on = (name, call) => canvas.addEventListener(name, call, { signal: this.listen.signal });
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#last && this.#stroke(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, () => (this.#last = undefined));
    on("keydown", (event) => this.#key(event));
    for (const name of ["focus", "blur"]) on(name, () => this.paint());
    this.paint();
  }

  /** Leave the canvas to another easel. */
  close() {
    this.listen.abort();
  }

  get empty() {
    return this.levels.every((level) => level === 0);
  }

  show(levels) {
    this.levels = Uint16Array.from(levels);
    this.paint();
  }

  clear() {
    this.show(new Uint16Array(this.levels.length));
  }

  invert() {
    this.show(this.levels.map((level) => this.#spec.levels - 1 - level));
  }

  keepRows(rows) {
    this.kept.fill(0).fill(1, 0, rows * this.#spec.width);
    this.paint();
  }

  paint() {
    const { width, height, channels, levels } = this.#spec, s = this.#scale, context = this.#canvas.getContext("2d");
    const tint = getComputedStyle(this.#canvas).getPropertyValue("--redraw").trim() || "28 79 107";
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const at = y * width + x;
        const [r, g, b] = [0, 1, 2].map((c) => pixelOf(this.levels[(channels === 1 ? 0 : c * height * width) + at], levels));
        context.fillStyle = this.#spec.colourOf?.(this.levels[at]) ?? `rgb(${r} ${g} ${b})`;
        context.fillRect(x * s, y * s, s, s);
        if (this.kept[at]) continue;
        context.fillStyle = `rgb(${tint} / 0.6)`;
        context.fillRect(x * s, y * s, s, s);
        context.fillStyle = "rgb(255 255 255 / 0.35)"; // marked by a dot, too, for those who do not see the colour
        context.fillRect((x + 0.4) * s, (y + 0.4) * s, s * 0.2, s * 0.2);
      }
    if (document.activeElement !== this.#canvas || !this.#canvas.matches(":focus-visible")) return;
    const [row, column] = this.#cursor;
    context.lineWidth = 3;
    for (const [colour, inset] of [["#000", 0], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.strokeRect(column * s + 1.5 + inset, row * s + 1.5 + inset, s - 3 - 2 * inset, s - 3 - 2 * inset);
    }
  }

  #down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.#canvas.focus({ preventScroll: true });
    this.#canvas.setPointerCapture(event.pointerId);
    this.#last = this.#place(event);
    this.#stroke(event);
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * this.#spec.height, ((event.clientX - box.left) / box.width) * this.#spec.width];
  }

  /** From the last place to this one, without gaps. */
  #stroke(event) {
    const [y0, x0] = this.#last, [y1, x1] = this.#place(event), { size } = this.#brush();
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(y1 - y0, x1 - x0)));
    for (let k = 0; k <= steps; k++) {
      const top = Math.round(y0 + ((y1 - y0) * k) / steps - size / 2), left = Math.round(x0 + ((x1 - x0) * k) / steps - size / 2);
      for (let dy = 0; dy < size; dy++) for (let dx = 0; dx < size; dx++) this.#touch(top + dy, left + dx);
    }
    this.#last = [y1, x1];
    this.paint();
  }

  #touch(row, column) {
    const { width, height, channels, levels } = this.#spec;
    if (row < 0 || column < 0 || row >= height || column >= width) return;
    const at = row * width + column, { tool, shade, colour } = this.#brush();
    if (tool === "redraw" || tool === "keep") {
      this.kept[at] = tool === "keep" ? 1 : 0;
      this.changed();
      return;
    }
    for (let c = 0; c < channels; c++) {
      const full = channels === 1 ? shade : levelOf(Number.parseInt(colour.slice(1 + 2 * c, 3 + 2 * c), 16), levels);
      this.levels[c * height * width + at] = tool === "erase" ? 0 : full;
    }
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [row, column] = this.#cursor, move = MOVES[event.key];
    if (move) {
      const limit = (value, size) => Math.min(Math.max(value, 0), size - 1);
      this.#cursor = [limit(row + move[0], this.#spec.height), limit(column + move[1], this.#spec.width)];
      if (event.shiftKey) this.#touch(...this.#cursor); // Shift paints along
    } else if (event.key === " " || event.key === "Enter") this.#touch(row, column);
    else return;
    event.preventDefault();
    this.paint();
    this.#say(this.#words());
  }

  /** `Row 3, column 5: black, stays`. */
  #words() {
    const { width, height, channels, levels } = this.#spec, [row, column] = this.#cursor, at = row * width + column;
    const values = Array.from({ length: channels }, (_, c) => this.levels[c * height * width + at]);
    if (this.#spec.words) return `Row ${row + 1}, column ${column + 1}: ${this.#spec.words(values)}`;
    const value = levels === 2 && channels === 1 ? (values[0] ? "white" : "black") : `level ${values.join(", ")}`;
    return `Row ${row + 1}, column ${column + 1}: ${value}, ${this.kept[at] ? "stays" : "will be redrawn"}`;
  }
}
