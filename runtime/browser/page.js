// The page: it loads the model, draws, completes and scores, and tells what it does. No framework, no other server.

import { GpcnnError, hasSimd, loadInWorker } from "./gpcnn.js";
import { Easel } from "./easel.js";
import { fullScale, paintHeat, paintRows, readPicture, surprise } from "./pixels.js";
import { Tiles } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const say = (text) => ($("status").textContent = text);
const whole = new Intl.NumberFormat("en");
const nats = (value) => `${value.toFixed(2)} nats`;
const ALL = "all", MIXTURE = "";

let site, model, easel, running, tiles, chosen;

start().catch(trouble);

async function start() {
  if (!hasSimd()) throw new GpcnnError("This browser has no WebAssembly SIMD, which the network needs. Every browser since 2023 has it: please update yours.");
  const response = await fetch("site.json").catch(() => undefined);
  site = response?.ok ? await response.json() : { model: undefined };
  $("trouble").hidden = true;
  wire();
  if (site.model) await open(site.model, site.name, fillFromAddress);
  else $("model").textContent = "There is no model here yet. Open a model file (.gpcnn) with the button at the foot of this page.";
  goOffline();
}

/** Show what went wrong: a message of ours as it is, anything else with what it says. */
function trouble(error) {
  const ours = error instanceof GpcnnError;
  $("trouble-text").textContent = ours ? error.message : `Something is broken here: ${error?.message ?? error}`;
  $("trouble").hidden = false;
  if (!ours) console.error(error);
}

async function open(source, name, prepare = () => {}) {
  const next = await loadInWorker(source);
  if (next.spec.conditioning === "embedding") {
    next.close();
    throw new GpcnnError(`${name} draws from the code of a picture, which this page cannot make: open another model.`);
  }
  model?.close();
  model = next;
  const { height, width, levels, channels } = model.spec;
  $("model").textContent = `${name}: ${width}×${height} pixels, ${channels === 3 ? "colour, " : ""}${levels} levels, ${whole.format(model.metadata.parameters)} parameters`;
  $("engine").textContent = `Engine: ${model.instructions}.`;
  site.name = name;
  if (source instanceof Blob) site.engine = name;
  fillLabels();
  prepare();
  showTemperature();
  easel?.close();
  easel = new Easel($("canvas"), model.spec, brush, (text) => ($("cursor").textContent = text), () => ($("keep-value").textContent = "by brush"));
  $("keep").max = height;
  $("keep").value = Math.floor(height / 2);
  keepRows();
  $("shade").max = levels - 1;
  $("shade").value = levels - 1;
  $("shade-field").hidden = channels === 3 || levels === 2;
  $("colour-field").hidden = channels !== 3;
  for (const id of ["completed", "scored", "chosen", "trouble"]) $(id).hidden = true;
  $("main").hidden = false;
  await draw();
}

function fillLabels() {
  const labelled = model.spec.conditioning === "label";
  for (const field of document.querySelectorAll(".needs-label")) field.hidden = !labelled;
  $("count-hint").hidden = !labelled;
  const option = (value, text) => new Option(text, value);
  const names = labelled ? model.classNames.map((name, k) => option(String(k), name)) : [];
  $("label").replaceChildren(option(ALL, "all"), ...names);
  $("picture-label").replaceChildren(option(MIXTURE, "not known"), ...names.map((one) => one.cloneNode(true)));
  $("count").value = labelled ? 1 : 8;
}

/** What the address asks for: the pictures that someone else saw. */
function fillFromAddress() {
  const asked = new URLSearchParams(location.search);
  for (const id of ["label", "count", "seed", "temperature"]) {
    const value = asked.get(id);
    if (value !== null && (id !== "label" || [...$("label").options].some((one) => one.value === value))) $(id).value = value;
  }
}

function wire() {
  const on = (id, name, call) => $(id).addEventListener(name, call);
  on("draw-form", "submit", (event) => {
    event.preventDefault();
    draw();
  });
  on("stop", "click", () => running?.abort());
  on("new-seed", "click", () => {
    $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    draw();
  });
  on("temperature", "input", showTemperature);
  on("use", "click", () => {
    easel.show(chosen.levels);
    $("picture").focus();
    $("picture").scrollIntoView({ block: "start" });
    say("The picture is on the easel.");
  });
  on("save", "click", save);
  on("keep", "input", keepRows);
  on("clear", "click", () => easel.clear());
  on("invert", "click", () => easel.invert());
  on("complete", "click", () => guarded("picture-error", complete));
  on("score", "click", () => guarded("picture-error", score));
  for (const [button, input] of [["open-picture", "picture-file"], ["open-model", "model-file"]]) on(button, "click", () => $(input).click());
  on("picture-file", "change", (event) => take(event.target));
  on("model-file", "change", (event) => take(event.target));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.querySelector(".easel").classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) addEventListener(name, () => document.querySelector(".easel").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) receive(file);
  });
}

function take(input) {
  const [file] = input.files;
  input.value = "";
  if (file) receive(file);
}

/** A file that was opened or dropped: a model, or a picture. */
function receive(file) {
  if (file.name.endsWith(".gpcnn")) {
    say("Loading the model.");
    return open(file, file.name).catch(trouble);
  }
  return guarded("picture-error", async () => {
    if (!easel) throw new GpcnnError("Open a model file first.");
    easel.show(await readPicture(file, model.spec));
    say(`${file.name} is on the easel.`);
  });
}

/** Run one job at a time; its error goes beside its button. */
async function guarded(place, job) {
  $(place).textContent = "";
  running?.abort();
  const control = (running = new AbortController());
  const busy = [...document.querySelectorAll("#draw-button, #complete, #score")];
  $("stop").disabled = false;
  for (const button of busy) button.setAttribute("aria-busy", "true");
  try {
    await job(control.signal);
  } catch (error) {
    if (control.signal.aborted) {
      if (running === control) say("Stopped.");
    } else if (error instanceof GpcnnError) $(place).textContent = error.message;
    else trouble(error);
  } finally {
    if (running === control) {
      running = undefined;
      $("stop").disabled = true;
      for (const button of busy) button.removeAttribute("aria-busy");
    }
  }
}

function draw() {
  return guarded("draw-error", async (signal) => {
    const labelled = model.spec.conditioning === "label", all = $("label").value === ALL;
    const labels = !labelled ? undefined : all ? [...model.classNames.keys()] : [Number($("label").value)];
    const count = $("count").valueAsNumber;
    if (!(Number.isInteger(count) && count >= 1 && count <= 64)) throw new GpcnnError("Pictures: expected a whole number from 1 to 64.");
    const request = { labels, count, seed: $("seed").value, temperature: $("temperature").valueAsNumber };
    const images = count * (labels?.length ?? 1);
    if (!/^\s*\d+\s*$/.test(request.seed) || BigInt(request.seed) >= 2n ** 64n) throw new GpcnnError("Seed: expected a whole number from 0 to 2⁶⁴ - 1.");
    tiles?.stop();
    tiles = new Tiles($("pictures"), model.spec, images, choose);
    $("chosen").hidden = true;
    const slowly = $("slowly").checked && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const mine = tiles;
    const drawn = await model.draw(request, { onRow: (row) => mine.row(row, slowly), signal });
    const hashes = await model.digests(drawn.levels);
    const likely = sums(drawn.logProb, images);
    const { names, details } = describe(drawn, hashes, likely);
    await mine.finish(drawn.levels, names, signal);
    performance.mark("gpcnn-drawn");
    remember(request, all);
    choose(0, mine, details, request, all);
    mine.details = (k) => choose(k, mine, details, request, all);
    say(`${images} picture${images === 1 ? "" : "s"} drawn in ${Math.round(drawn.milliseconds)} milliseconds.`);
  });
}

function sums(logProb, images) {
  const size = logProb.length / images;
  return Array.from({ length: images }, (_, k) => -logProb.subarray(k * size, (k + 1) * size).reduce((a, b) => a + b, 0));
}

function describe(drawn, hashes, likely) {
  const size = drawn.levels.length / hashes.length;
  const details = hashes.map((hash, k) => ({
    hash, nats: likely[k], position: k, levels: drawn.levels.subarray(k * size, (k + 1) * size),
    label: drawn.labels ? model.classNames[drawn.labels[k]] : undefined,
  }));
  const names = details.map(({ hash, nats: value, label }, k) => ({
    title: label ?? `${k + 1}`, mark: hash.slice(0, 8), spoken: `Picture ${k + 1}${label === undefined ? "" : `, label ${label}`}, ${nats(value)}, hash ${hash.slice(0, 8)}`,
  }));
  return { names, details };
}

/** Show one of the pictures that were drawn in full. */
function choose(k, mine, details, request, all) {
  if (!details) return mine?.details?.(k);
  chosen = details[k];
  mine.press(k);
  $("chosen-name").textContent = `Picture ${k + 1}${chosen.label === undefined ? "" : `, label ${chosen.label}`}.`;
  $("chosen-nats").textContent = `-log p: ${nats(chosen.nats)}, ${(chosen.nats / chosen.levels.length / Math.LN2).toFixed(3)} bits/dim.`;
  $("hash").textContent = chosen.hash;
  const label = request.labels ? ` --label ${all ? "all" : request.labels[0]}` : "";
  const warm = request.temperature === 1 ? "" : ` --temperature ${request.temperature}`;
  $("command").textContent = `gpcnn-sample --engine ${site.engine}${label} --count ${request.count} --seed ${BigInt(request.seed)}${warm} --json -`;
  $("chosen").hidden = false;
}

/** The address that brings these pictures back. */
function remember({ labels, count, seed, temperature }, all) {
  const asked = new URLSearchParams();
  if (labels) asked.set("label", all ? ALL : labels[0]);
  for (const [name, value] of Object.entries({ count, seed, temperature })) asked.set(name, value);
  history.replaceState(null, "", `?${asked}`);
}

function save() {
  const canvas = document.createElement("canvas");
  canvas.width = model.spec.width;
  canvas.height = model.spec.height;
  paintRows(canvas, chosen.levels, 0, model.spec);
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${chosen.hash.slice(0, 8)}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

async function complete(signal) {
  const label = $("picture-label").value;
  if (easel.kept.every(Boolean)) throw new GpcnnError("All pixels stay: mark some to redraw, or move the slider.");
  const request = { levels: easel.levels, mask: easel.kept, label: label === MIXTURE ? undefined : Number(label), count: 8, seed: $("seed").value, temperature: $("temperature").valueAsNumber };
  let drawn;
  if (easel.kept.some(Boolean)) drawn = await model.complete(request, { signal });
  else throw new GpcnnError("No pixel stays: mark some to keep, or move the slider.");
  const images = drawn.shape[0], hashes = await model.digests(drawn.levels);
  const { names, details } = describe(drawn, hashes, sums(drawn.logProb, images));
  const shown = new Tiles($("completions"), model.spec, images, (k) => {
    easel.show(details[k].levels);
    shown.press(k);
    say(`Completion ${k + 1} is on the easel.`);
  });
  await shown.finish(drawn.levels, names, signal);
  $("completed").hidden = false;
  say(`${images} completions in ${Math.round(drawn.milliseconds)} milliseconds, the likeliest first.${drawn.guided ? "" : " What stays below a gap cannot guide what is drawn into it."}`);
}

async function score(signal) {
  const label = $("picture-label").value;
  const scored = await model.score({ levels: easel.levels, label: label === MIXTURE ? undefined : Number(label) }, { signal });
  const heat = $("heat"), each = surprise(scored.logProb, model.spec), { width, height } = model.spec;
  heat.width = width;
  heat.height = height;
  paintHeat(heat, each, model.spec);
  const worst = each.reduce((best, value, x) => (value > each[best] ? x : best), 0);
  heat.setAttribute("aria-label", `Heatmap of surprise. The largest, ${nats(each[worst])}, is at row ${Math.floor(worst / width) + 1}, column ${(worst % width) + 1}.`);
  $("heat-most").textContent = `${fullScale(model.spec).toFixed(1)} and more`;
  $("nats").textContent = `-log p: ${nats(scored.nats)}, ${scored.bitsPerDim.toFixed(3)} bits/dim. Smaller is likelier.`;
  $("posterior").hidden = !scored.posterior;
  if (scored.posterior) fillPosterior(scored);
  $("scored").hidden = false;
  const best = scored.posterior && model.classNames[scored.posterior.indexOf(Math.max(...scored.posterior))];
  say(`${nats(scored.nats)}.${best === undefined ? "" : ` The likeliest label is ${best}.`}`);
}

function fillPosterior({ posterior, labelNats }) {
  const best = Math.max(...posterior);
  $("posterior").tBodies[0].replaceChildren(...posterior.map((share, k) => {
    const row = document.createElement("tr");
    const name = Object.assign(document.createElement("th"), { scope: "row", textContent: model.classNames[k] });
    const bar = Object.assign(document.createElement("meter"), { value: share, ariaHidden: "true" });
    const cell = document.createElement("td");
    cell.append(bar, Object.assign(document.createElement("span"), { className: "share", textContent: `${(100 * share).toFixed(1)} %` }));
    row.append(name, cell, Object.assign(document.createElement("td"), { textContent: labelNats[k].toFixed(2) }));
    row.classList.toggle("likeliest", share === best);
    return row;
  }));
}

const brush = () => ({
  tool: document.querySelector("input[name=tool]:checked").value,
  shade: $("shade").valueAsNumber,
  colour: $("colour").value,
  size: Math.max(model.spec.width, model.spec.height) < 16 ? 1 : 2,
});

function keepRows() {
  $("keep-value").textContent = `${$("keep").value} of ${model.spec.height}`;
  easel.keepRows($("keep").valueAsNumber);
}

function showTemperature() {
  $("temperature-value").textContent = $("temperature").valueAsNumber.toFixed(2);
}

/** Keep the page's files for times without a connection. Browsers allow it over HTTPS and on this machine alone. */
async function goOffline() {
  if (!("serviceWorker" in navigator) || !site.files) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    $("offline").textContent = "This page works offline from now on.";
  } catch (error) {
    console.info(`This page does not work offline: ${error.message}`);
  }
}
