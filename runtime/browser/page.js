// The page: it loads the model, listens to the visitor, and works offline. No framework, and no other server.

import { $, ALL, MIXTURE, app, guarded, say, trouble } from "./app.js";
import { download, draw, save } from "./drawing.js";
import { Easel } from "./easel.js";
import { GpcnnError, hasSimd, loadInWorker } from "./gpcnn.js";
import { PaintedMap, showCategory } from "./map.js";
import { complete, score } from "./picture.js";
import { readPicture } from "./pixels.js";

const whole = new Intl.NumberFormat("en");

start().catch(trouble);

async function start() {
  if (!hasSimd()) throw new GpcnnError("This browser has no WebAssembly SIMD, which the network needs. Every browser since 2023 has it: please update yours.");
  const response = await fetch("site.json").catch(() => undefined);
  app.site = response?.ok ? await response.json() : { model: undefined };
  $("trouble").hidden = true;
  wire();
  if (app.site.model) await open(app.site.model, app.site.name, fillFromAddress);
  else $("model").textContent = "There is no model here yet. Open a model file (.gpcnn) with the button at the foot of this page.";
  goOffline();
}

async function open(source, name, prepare = () => {}) {
  const next = await loadInWorker(source);
  if (next.spec.conditioning === "embedding") {
    next.close();
    throw new GpcnnError(`${name} draws from the code of a picture, which this page cannot make: open another model.`);
  }
  app.model?.close();
  app.model = next;
  const { height, width, levels, channels } = app.model.pictureSpec, byCodes = drawsCodes();
  const of = byCodes ? `${grids(app.model)} codes of ${app.model.spec.levels}` : `${levels} levels`;
  $("model").textContent = `${name}: ${width}×${height} pixels, ${channels === 3 ? "colour, " : ""}${of}, ${whole.format(app.model.metadata.parameters)} parameters`;
  $("engine").textContent = `Engine: ${app.model.instructions}.`;
  app.site.name = name;
  if (source instanceof Blob) app.site.engine = name;
  fillLabels();
  setUpMap();
  prepare();
  showTemperature();
  app.easel?.close();
  app.easel = undefined;
  for (const id of ["picture", "use", "slowly-field"]) $(id).hidden = byCodes;
  $("draws-alone").hidden = !byCodes;
  $("by").textContent = byCodes ? "code by code" : "pixel by pixel";
  $("hashed").textContent = byCodes ? "codes, which gpcnn-sample calls levels" : "levels";
  if (!byCodes) setUpEasel();
  for (const id of ["completed", "scored", "chosen", "trouble"]) $(id).hidden = true;
  $("main").hidden = false;
  await draw();
}

/** A VQ-VAE draws here, and no more. */
const drawsCodes = () => Boolean(app.model.metadata.vqvae);

/** Columns × rows of a VQ-VAE's codes, of each level. */
function grids({ spec: { width, height, codeLevels } }) {
  const rows = codeLevels === 2 ? (height / 5) * 4 : height;
  return `${codeLevels === 2 ? `${width / 2}×${rows / 2} and ` : ""}${width}×${rows}`;
}

function setUpMap() {
  app.map?.close();
  app.map = undefined;
  const mapped = app.model.spec.conditioning === "map";
  for (const field of document.querySelectorAll(".needs-map")) field.hidden = !mapped;
  if (mapped) app.map = new PaintedMap(app.model);
  showCategory();
}

function setUpEasel() {
  const { height, levels, channels } = app.model.spec;
  app.easel = new Easel($("canvas"), app.model.spec, brush, (text) => ($("cursor").textContent = text), () => ($("keep-value").textContent = "by brush"));
  $("keep").max = height;
  $("keep").value = Math.floor(height / 2);
  keepRows();
  $("shade").max = levels - 1;
  $("shade").value = levels - 1;
  $("shade-field").hidden = channels === 3 || levels === 2;
  $("colour-field").hidden = channels !== 3;
}

function fillLabels() {
  const labelled = app.model.spec.conditioning === "label";
  for (const field of document.querySelectorAll(".needs-label")) field.hidden = !labelled;
  $("count-hint").hidden = !labelled;
  const option = (value, text) => new Option(text, value);
  const names = labelled ? app.model.classNames.map((name, k) => option(String(k), name)) : [];
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
  on("stop", "click", () => app.running?.abort());
  on("new-seed", "click", () => {
    $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    draw();
  });
  on("temperature", "input", showTemperature);
  on("use", "click", () => {
    app.easel.show(app.chosen.levels);
    $("picture").focus();
    $("picture").scrollIntoView({ block: "start" });
    say("The picture is on the easel.");
  });
  on("save", "click", save);
  on("category", "input", showCategory);
  on("fill-map", "click", () => app.map.fill());
  on("save-map", "click", () => download(app.map.save(), "map.npy"));
  on("keep", "input", keepRows);
  on("clear", "click", () => app.easel.clear());
  on("invert", "click", () => app.easel.invert());
  on("complete", "click", () => guarded("picture-error", complete));
  on("score", "click", () => guarded("picture-error", score));
  for (const [button, input] of [["open-picture", "picture-file"], ["open-map", "map-file"], ["open-model", "model-file"]]) on(button, "click", () => $(input).click());
  on("picture-file", "change", (event) => take(event.target));
  on("map-file", "change", (event) => take(event.target, openMap));
  on("model-file", "change", (event) => take(event.target));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    easelOf(event).classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) addEventListener(name, () => document.querySelectorAll(".easel").forEach((easel) => easel.classList.remove("over")));
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) (app.map && easelOf(event).id === "map-easel" ? openMap : receive)(file);
  });
}

/** The easel that a file is dragged over: the map's, or else the picture's. */
const easelOf = ({ target }) => target?.closest?.("#map-easel") ?? document.querySelector("#picture .easel");

function take(input, receiver = receive) {
  const [file] = input.files;
  input.value = "";
  if (file) receiver(file);
}

/** A file that holds a map: draw under it at once. */
async function openMap(file) {
  let opened = false;
  await guarded("draw-error", async () => {
    await app.map.open(file);
    opened = true;
  });
  if (opened) await draw();
}

/** A file that was opened or dropped: a model, or a picture. */
function receive(file) {
  if (file.name.endsWith(".gpcnn")) {
    say("Loading the model.");
    return open(file, file.name).catch(trouble);
  }
  if (app.map && /\.npy$/i.test(file.name)) return openMap(file);
  return guarded(app.model && drawsCodes() ? "draw-error" : "picture-error", async () => {
    if (app.model && drawsCodes()) throw new GpcnnError("This page only draws with this model: complete pictures with gpcnn-sample, and score them with gpcnn-score.");
    if (!app.easel) throw new GpcnnError("Open a model file first.");
    app.easel.show(await readPicture(file, app.model.spec, app.model.metadata.preparation?.background ?? "#ffffff"));
    say(`${file.name} is on the easel.`);
  });
}

const brush = () => ({
  tool: document.querySelector("input[name=tool]:checked").value,
  shade: $("shade").valueAsNumber,
  colour: $("colour").value,
  size: Math.max(app.model.spec.width, app.model.spec.height) < 16 ? 1 : 2,
});

function keepRows() {
  $("keep-value").textContent = `${$("keep").value} of ${app.model.spec.height}`;
  app.easel.keepRows($("keep").valueAsNumber);
}

function showTemperature() {
  $("temperature-value").textContent = $("temperature").valueAsNumber.toFixed(2);
}

/** Keep the page's files for times without a connection. Browsers allow it over HTTPS and on this machine alone. */
async function goOffline() {
  if (!("serviceWorker" in navigator) || !app.site.files) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    $("offline").textContent = "This page works offline from now on.";
  } catch (error) {
    console.info(`This page does not work offline: ${error.message}`);
  }
}
