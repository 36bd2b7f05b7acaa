// The lower half of the page: has the picture on the easel completed, or scored.

import { $, MIXTURE, app, describe, nats, say, sums } from "./app.js";
import { GpcnnError } from "./gpcnn.js";
import { smallOf } from "./map.js";
import { fullScale, paintHeat, surprise } from "./pixels.js";
import { Tiles } from "./tiles.js";

export async function complete(signal) {
  const label = $("picture-label").value;
  if (app.easel.kept.every(Boolean)) throw new GpcnnError("All pixels stay: mark some to redraw, or move the slider.");
  if (!app.easel.kept.some(Boolean)) throw new GpcnnError("No pixel stays: mark some to keep, or move the slider.");
  const request = {
    levels: app.easel.levels, mask: app.easel.kept, label: label === MIXTURE ? undefined : Number(label), count: 8,
    seed: $("seed").value, temperature: $("temperature").valueAsNumber, map: app.map?.values(),
  };
  const drawn = await app.model.complete(request, { signal });
  const images = drawn.shape[0], hashes = await app.model.digests(drawn.levels);
  const { names, details } = describe(drawn, hashes, sums(drawn.logProb, images));
  const shown = new Tiles($("completions"), app.model.spec, images, (k) => {
    app.easel.show(details[k].levels);
    shown.press(k);
    say(`Completion ${k + 1} is on the easel.`);
  });
  await shown.finish(drawn.levels, names, signal);
  $("completed").hidden = false;
  say(`${images} completions in ${Math.round(drawn.milliseconds)} milliseconds, the likeliest first.${drawn.guided ? "" : " What stays below a gap cannot guide what is drawn into it."}`);
}

export async function score(signal) {
  const label = $("picture-label").value;
  // Where the map is the picture itself at a smaller size, it is that of this picture, as in gpcnn-score.
  const map = app.map?.kind === "picture" ? smallOf(app.easel.levels, app.model.spec) : app.map?.values();
  const scored = await app.model.score({ levels: app.easel.levels, label: label === MIXTURE ? undefined : Number(label), map }, { signal });
  const heat = $("heat"), each = surprise(scored.logProb, app.model.spec), { width, height } = app.model.spec;
  heat.width = width;
  heat.height = height;
  paintHeat(heat, each, app.model.spec);
  const worst = each.reduce((best, value, x) => (value > each[best] ? x : best), 0);
  heat.setAttribute("aria-label", `Heatmap of surprise. The largest, ${nats(each[worst])}, is at row ${Math.floor(worst / width) + 1}, column ${(worst % width) + 1}.`);
  $("heat-most").textContent = `${fullScale(app.model.spec).toFixed(1)} and more`;
  $("nats").textContent = `-log p: ${nats(scored.nats)}, ${scored.bitsPerDim.toFixed(3)} bits/dim. Smaller is likelier.`;
  $("posterior").hidden = !scored.posterior;
  if (scored.posterior) fillPosterior(scored);
  $("scored").hidden = false;
  const best = scored.posterior && app.model.classNames[scored.posterior.indexOf(Math.max(...scored.posterior))];
  say(`${nats(scored.nats)}.${best === undefined ? "" : ` The likeliest label is ${best}.`}`);
}

function fillPosterior({ posterior, labelNats }) {
  const best = Math.max(...posterior);
  $("posterior").tBodies[0].replaceChildren(...posterior.map((share, k) => {
    const row = document.createElement("tr");
    const name = Object.assign(document.createElement("th"), { scope: "row", textContent: app.model.classNames[k] });
    const bar = Object.assign(document.createElement("meter"), { value: share, ariaHidden: "true" });
    const cell = document.createElement("td");
    cell.append(bar, Object.assign(document.createElement("span"), { className: "share", textContent: `${(100 * share).toFixed(1)} %` }));
    row.append(name, cell, Object.assign(document.createElement("td"), { textContent: labelNats[k].toFixed(2) }));
    row.classList.toggle("likeliest", share === best);
    return row;
  }));
}
