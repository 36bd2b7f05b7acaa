// The upper half of the page: draws pictures, and shows the one that was chosen in full.

import { $, ALL, app, describe, guarded, nats, say, sums } from "./app.js";
import { GpcnnError } from "./gpcnn.js";
import { paintRows } from "./pixels.js";
import { Tiles } from "./tiles.js";

let tiles;

export function draw() {
  return guarded("draw-error", async (signal) => {
    const labelled = app.model.spec.conditioning === "label", all = $("label").value === ALL;
    const labels = !labelled ? undefined : all ? [...app.model.classNames.keys()] : [Number($("label").value)];
    const count = $("count").valueAsNumber;
    if (!(Number.isInteger(count) && count >= 1 && count <= 64)) throw new GpcnnError("Pictures: expected a whole number from 1 to 64.");
    const request = { labels, count, seed: $("seed").value, temperature: $("temperature").valueAsNumber, map: app.map?.values() };
    const images = count * (labels?.length ?? 1);
    if (!/^\s*\d+\s*$/.test(request.seed) || BigInt(request.seed) >= 2n ** 64n) throw new GpcnnError("Seed: expected a whole number from 0 to 2⁶⁴ - 1.");
    tiles?.stop();
    tiles = new Tiles($("pictures"), app.model.pictureSpec, images, choose);
    $("chosen").hidden = true;
    const slowly = $("slowly").checked && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const mine = tiles, byCodes = Boolean(app.model.metadata.vqvae); // whose rows are codes: its pictures come at once
    const drawn = await app.model.draw(request, { onRow: byCodes ? undefined : (row) => mine.row(row, slowly), signal });
    const hashes = await app.model.digests(drawn.levels);
    const likely = sums(drawn.logProb, images);
    const { names, details } = describe(drawn, hashes, likely);
    await mine.finish(drawn.pictures ?? drawn.levels, names, signal);
    performance.mark("gpcnn-drawn");
    remember(request, all);
    choose(0, mine, details, request, all);
    mine.details = (k) => choose(k, mine, details, request, all);
    say(`${images} picture${images === 1 ? "" : "s"} drawn in ${Math.round(drawn.milliseconds)} milliseconds.`);
  });
}

/** Show one of the pictures that were drawn in full. */
function choose(k, mine, details, request, all) {
  if (!details) return mine?.details?.(k);
  app.chosen = details[k];
  mine.press(k);
  $("chosen-name").textContent = `Picture ${k + 1}${app.chosen.label === undefined ? "" : `, label ${app.chosen.label}`}.`;
  $("chosen-nats").textContent = `-log p: ${nats(app.chosen.nats)}, ${(app.chosen.nats / app.chosen.levels.length / Math.LN2).toFixed(3)} bits/${app.model.metadata.vqvae ? "code" : "dim"}.`;
  $("hash").textContent = app.chosen.hash;
  const label = request.labels ? ` --label ${all ? "all" : request.labels[0]}` : "";
  const warm = request.temperature === 1 ? "" : ` --temperature ${request.temperature}`;
  const map = app.map ? " --map map.npy" : "";
  $("command").textContent = `gpcnn-sample --engine ${quoted(app.site.engine)}${label}${map} --count ${request.count} --seed ${BigInt(request.seed)}${warm} --json -`;
  $("chosen").hidden = false;
}

/** A word of a shell's command line. */
const quoted = (text) => (/^[\w./:+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** The address that brings these pictures back. */
function remember({ labels, count, seed, temperature }, all) {
  const asked = new URLSearchParams();
  if (labels) asked.set("label", all ? ALL : labels[0]);
  for (const [name, value] of Object.entries({ count, seed, temperature })) asked.set(name, value);
  history.replaceState(null, "", `?${asked}`);
}

export function save() {
  const canvas = document.createElement("canvas");
  const spec = app.model.pictureSpec;
  canvas.width = spec.width;
  canvas.height = spec.height;
  paintRows(canvas, app.chosen.pixels, 0, spec);
  canvas.toBlob((blob) => download(blob, `${app.chosen.hash.slice(0, 8)}.png`));
}

/** Have the browser save a file. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
