// Draw, complete and score images with a model file: in a browser, a Web Worker, Node, Deno or Bun.
//
//     import { load } from "./gpcnn.js";
//     const model = await load("model.gpcnn");
//     const { levels, logProb } = model.draw({ label: 3, seed: 7, count: 4 });
//
// The same seed gives the very images of gpcnn-sample. `loadInWorker` has the same functions, and they return promises.
// Shapes, row-major: N images, C channels, H rows, W columns, K levels, M labels, E numbers of an embedding.

import { GpcnnError, Kernel, hasRelaxedSimd, hasSimd } from "./kernel.js";
import { Model } from "./model.js";

export { GpcnnError, Model, hasRelaxedSimd, hasSimd };

/** Load a model in this thread. See gpcnn.d.ts for arguments and errors. */
export async function load(source, { relaxed = hasRelaxedSimd(), wasm } = {}) {
  if (!hasSimd()) throw new GpcnnError("this browser has no WebAssembly SIMD, which the engine needs: use a newer one");
  const file = relaxed ? "./gpcnn-relaxed.wasm" : "./gpcnn.wasm";
  const module = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(await read(wasm ?? new URL(file, import.meta.url)));
  return new Model(new Kernel(module, await read(source)));
}

/** Load a model in a Web Worker, so that a page stays responsive. See gpcnn.d.ts. */
export async function loadInWorker(source, options = {}) {
  const remote = new RemoteModel(source, options);
  await remote.opened;
  return remote;
}

/** Bytes of a URL, a file path (in Node), a Blob, or of an array of bytes. */
async function read(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  const inNode = typeof process === "object" && process.versions?.node;
  if (inNode && !/^https?:/.test(source)) {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(source));
  }
  let response;
  try {
    response = await fetch(source);
  } catch {
    throw new GpcnnError(`${source} cannot be fetched: check the address and the connection`);
  }
  if (!response.ok) throw new GpcnnError(`${source} cannot be fetched: the server says ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A model in a Web Worker: the functions of `Model`, which return promises. A call that is aborted restarts the worker. */
class RemoteModel {
  #source;
  #options;
  #worker;
  #calls = new Map();
  #last = 0;

  constructor(source, options) {
    this.#source = source;
    this.#options = options;
    this.opened = this.#open();
  }

  noise(...given) { return this.#call("noise", given); }
  draw(request, { onRow, signal } = {}) { return this.#call("draw", [request], onRow, signal); }
  complete(request, { onRow, signal } = {}) { return this.#call("complete", [request], onRow, signal); }
  score(request, { signal } = {}) { return this.#call("score", [request], undefined, signal); }
  digests(levels) { return this.#call("digests", [levels]); }

  /** Stop the worker; calls that are under way are rejected. */
  close(reason = new GpcnnError("the model was closed")) {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const call of this.#calls.values()) call.reject(reason);
    this.#calls.clear();
  }

  async #open() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      const call = this.#calls.get(data.id);
      if (!call) return;
      if (data.row) return call.onRow?.(data.row);
      this.#calls.delete(data.id);
      if (data.error) call.reject(Object.assign(new (data.error.ours ? GpcnnError : Error)(data.error.message)));
      else call.resolve(data.result);
    };
    this.#worker.onerror = (event) => this.close(new Error(event.message || "the worker cannot start: is worker.js beside gpcnn.js?"));
    const source = typeof this.#source === "string" ? new URL(this.#source, globalThis.location?.href).href : this.#source;
    Object.assign(this, await this.#send("load", [source instanceof URL ? source.href : source, this.#options]));
  }

  async #call(method, given, onRow, signal) {
    signal?.throwIfAborted();
    await this.opened;
    const sent = this.#send(method, given, onRow);
    if (!signal) return sent;
    const stop = () => {
      this.close(signal.reason);
      this.opened = this.#open();
      this.opened.catch(() => {}); // the next call tells
    };
    signal.addEventListener("abort", stop, { once: true });
    return sent.finally(() => signal.removeEventListener("abort", stop));
  }

  #send(method, given, onRow) {
    if (!this.#worker) return Promise.reject(new GpcnnError("the model was closed: load it again"));
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onRow });
      this.#worker.postMessage({ id, method, given, rows: Boolean(onRow) });
    });
  }
}
