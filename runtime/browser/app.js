// What the parts of the page share: the model, the site, one job at a time, and how people are told.

import { GpcnnError } from "./gpcnn.js";

export const $ = (id) => document.getElementById(id);
export const say = (text) => ($("status").textContent = text);
export const nats = (value) => `${value.toFixed(2)} nats`;
export const ALL = "all", MIXTURE = ""; // values of the two choices of a label

/** The site.json, the model in its worker, its map, the picture that is painted, the drawn one that is chosen, the job that runs. */
export const app = { site: undefined, model: undefined, map: undefined, easel: undefined, chosen: undefined, running: undefined };

/** Show what went wrong: a message of ours as it is, anything else with what it says. */
export function trouble(error) {
  const ours = error instanceof GpcnnError;
  $("trouble-text").textContent = ours ? error.message : `Something is broken here: ${error?.message ?? error}`;
  $("trouble").hidden = false;
  if (!ours) console.error(error);
}

/** Run one job at a time; its error goes beside its button. */
export async function guarded(place, job) {
  $(place).textContent = "";
  app.running?.abort();
  const control = (app.running = new AbortController());
  const busy = [...document.querySelectorAll("#draw-button, #complete, #score")];
  $("stop").disabled = false;
  for (const button of busy) button.setAttribute("aria-busy", "true");
  try {
    await job(control.signal);
  } catch (error) {
    if (control.signal.aborted) {
      if (app.running === control) say("Stopped.");
    } else if (error instanceof GpcnnError) $(place).textContent = error.message;
    else trouble(error);
  } finally {
    if (app.running === control) {
      app.running = undefined;
      $("stop").disabled = true;
      for (const button of busy) button.removeAttribute("aria-busy");
    }
  }
}

/** -log p of each image, in nats. */
export function sums(logProb, images) {
  const size = logProb.length / images;
  return Array.from({ length: images }, (_, k) => -logProb.subarray(k * size, (k + 1) * size).reduce((a, b) => a + b, 0));
}

/** What is known of each image, and what its tile says. */
export function describe(drawn, hashes, likely) {
  const one = (values, k) => values.subarray((k * values.length) / hashes.length, ((k + 1) * values.length) / hashes.length);
  const details = hashes.map((hash, k) => ({
    hash, nats: likely[k], position: k, levels: one(drawn.levels, k), pixels: one(drawn.pictures ?? drawn.levels, k),
    label: drawn.labels ? app.model.classNames[drawn.labels[k]] : undefined,
  }));
  const names = details.map(({ hash, nats: value, label }, k) => ({
    title: label ?? `${k + 1}`, mark: hash.slice(0, 8), spoken: `Picture ${k + 1}${label === undefined ? "" : `, label ${label}`}, ${nats(value)}, hash ${hash.slice(0, 8)}`,
  }));
  return { names, details };
}
