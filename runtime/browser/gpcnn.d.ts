// Types of gpcnn.js. Shapes, row-major: N images, C channels, H rows, W columns, K levels, M labels, E numbers of an embedding.

/** What a user can mend; `message` is one line: what is wrong, and what was expected. */
export class GpcnnError extends Error {
  /** Set if a call was called off by its `onRow`. */
  cancelled?: boolean;
}

/** A URL, a path (in Node), a File or Blob, or the bytes themselves. */
export type Source = string | URL | Blob | ArrayBuffer | Uint8Array;

export interface LoadOptions {
  /** The kernel of relaxed SIMD, which is faster. Default: whether it is here and fuses multiply and add. */
  relaxed?: boolean;
  /** The kernel itself. Default: gpcnn.wasm or gpcnn-relaxed.wasm beside gpcnn.js. */
  wasm?: Source | WebAssembly.Module;
}

export interface ModelSpec {
  readonly height: number;
  readonly width: number;
  /** 1 for grey, 3 for colour. */
  readonly channels: number;
  /** K: a level is 0 .. K-1. */
  readonly levels: number;
  readonly features: number;
  readonly layers: number;
  readonly firstKernelSize: number;
  readonly kernelSize: number;
  readonly headFeatures: number;
  readonly conditioning: "none" | "label" | "embedding" | "map";
  /** M labels, E numbers, or P planes of a map; 0 without conditioning. */
  readonly conditioningSize: number;
  /** Numbers of a vector that stands for a level, where levels are categories; 0 where they are values. */
  readonly inputSize: number;
  /** What a sub-pixel is drawn from: a probability for every level, or a mixture of logistics. */
  readonly head: "categorical" | "mixture";
  /** Logistics of a mixture; 0 where there is none. */
  readonly mixtures: number;
  /** Rows and columns of a map, and feature maps of its network; 0 without one. */
  readonly mapHeight: number;
  readonly mapWidth: number;
  readonly mapFeatures: number;
  /** Categories that a number of the map stands for; 0 where they are values. */
  readonly mapCategories: number;
  /** Levels of codes: 2 of a VQ-VAE-2, 1 of all other models. Of two, an image is a sheet: the top codes in raster order fill its first fifth, the bottom codes the rest. */
  readonly codeLevels: 1 | 2;
}

/** Of the pictures that are shown: those of `ModelSpec`, or of a VQ-VAE's decoder. */
export interface PictureSpec {
  readonly height: number;
  readonly width: number;
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: number;
  /** Values of a sub-pixel: those of the model, or 256 of a VQ-VAE. */
  readonly levels: number;
}

/** A label by its number or by its class name. */
export type Label = number | string;

/** 0 to 2**64 - 1. Numbers hold 53 bits exactly; take a bigint or a text for more. */
export type Seed = number | bigint | string;

export interface DrawRequest {
  /** One label, or several; needed by a model with labels. */
  label?: Label;
  labels?: readonly Label[];
  /** Images of each label. Default: 1. */
  count?: number;
  /** Of the noise. Default: 0. */
  seed?: Seed;
  /** Noise stream of the first image; image p of the call has stream first + p. Default: 0. */
  first?: Seed;
  /** Divides the logits before drawing; of a mixture, the log-weights, and multiplies the scales. Default: 1. */
  temperature?: number;
  /** [N, C, H, W] in [0, 1), instead of that of the seed. */
  noise?: ArrayLike<number>;
  /** Levels [C, H, W] or [N, C, H, W] to keep where `mask` is nonzero. */
  known?: ArrayLike<number>;
  /** [H, W], [C, H, W] or [N, C, H, W]. */
  mask?: ArrayLike<number | boolean>;
  /** [E] or [N, E], for a model that draws from an embedding. */
  embedding?: ArrayLike<number>;
  /** [P, h, w] or [N, P, h, w], for a model that draws from a map: values, or numbers of categories. */
  map?: ArrayLike<number>;
  /** Columns guessed at a time; 0 leaves the choice to the kernel. All draw the same images. */
  window?: number;
}

export interface Drawn {
  /** Levels [N, C, H, W]; of a VQ-VAE, its codes [N, 1, h, w], of a VQ-VAE-2 in sheets. */
  levels: Uint8Array | Uint16Array;
  /** Of a VQ-VAE: its pictures [N, C, H, W] of `pictureSpec`, 0 to 255 a sub-pixel; undefined for other models. */
  pictures?: Uint8Array;
  /** Nats [N, C, H, W] of each sub-pixel given those before it, at temperature 1. */
  logProb: Float32Array;
  /** [N, C, H, W]. */
  shape: [number, number, number, number];
  /** [N]; undefined for a model without labels. */
  labels?: Int32Array;
  /** Evaluations of the network's horizontal stack. */
  evaluations: number;
  /** Wall-clock time. */
  milliseconds: number;
}

/** A row of some images of the call: `first` is the first of them, and `shape` is theirs. */
export interface Row {
  row: number;
  first: number;
  shape: [number, number, number, number];
  /** Model: memory that the next call overwrites, levels [N, C, H, W] so far, to be read at once. Worker: a copy of the row, [N, C, W]. */
  levels: Int32Array | Uint8Array | Uint16Array;
}

export interface CompleteRequest {
  /** The image, [C, H, W]. */
  levels: ArrayLike<number>;
  /** [H, W] or [C, H, W]: nonzero keeps the image's pixel. */
  mask: ArrayLike<number | boolean>;
  /** Labels that are possible. Default: all of them. */
  label?: Label;
  labels?: readonly Label[];
  /** Completions returned. Default: 4. */
  count?: number;
  /** Completions drawn for each one returned. Default: 1. */
  candidates?: number;
  seed?: Seed;
  temperature?: number;
  /** What the best are: the likeliest images, or those beside which the known pixels are likeliest. Default: image. */
  rankBy?: "image" | "known";
}

export interface Completed extends Drawn {
  /** Noise stream of each completion. */
  positions: number[];
  /** Does all that is known come before all that is drawn, and so guide it? */
  guided: boolean;
  /** Images drawn in all. */
  drawn: number;
}

export interface ScoreRequest {
  /** The image, [C, H, W]. */
  levels: ArrayLike<number>;
  /** Default: the mixture of all labels, each as likely before. */
  label?: Label;
  /** [E], for a model that draws from an embedding. */
  embedding?: ArrayLike<number>;
}

export interface Scored {
  /** -log p of the image: smaller is likelier. */
  nats: number;
  /** The same as bits a sub-pixel. */
  bitsPerDim: number;
  /** -log p under each label, [M]; undefined without labels or with one given. */
  labelNats?: number[];
  /** p(label | image), [M]. */
  posterior?: number[];
  /** Nats [C, H, W]: what each sub-pixel adds to log p. */
  logProb: Float32Array;
  milliseconds: number;
}

interface About {
  /** What is drawn, completed and scored; of a VQ-VAE, grids of its codes. */
  readonly spec: ModelSpec;
  /** The pictures that are shown. */
  readonly pictureSpec: PictureSpec;
  /** One name per label. */
  readonly classNames: readonly string[];
  /** All that the model file says of itself. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** What the kernel computes with. */
  readonly instructions: string;
}

/** A model in this thread: each call returns when it is done. `onRow` may return false to call the call off. */
export interface Model extends About {
  noise(seed?: Seed, first?: Seed, count?: number): Float32Array;
  draw(request?: DrawRequest, onRow?: (row: Row) => boolean | void): Drawn;
  complete(request: CompleteRequest, onRow?: (row: Row) => boolean | void): Completed;
  score(request: ScoreRequest): Scored;
  /** SHA-256 of each image of [N, C, H, W], one byte a level (two of more than 256 levels): as `levels_sha256` of gpcnn-sample --json. */
  digests(levels: Uint8Array | Uint16Array): string[];
}

export interface CallOptions {
  onRow?: (row: Row) => void;
  /** Calls the call off. The worker starts anew, which rejects other calls that are under way. */
  signal?: AbortSignal;
}

/** A model in a Web Worker: the same functions, which return promises. */
export interface RemoteModel extends About {
  noise(seed?: Seed, first?: Seed, count?: number): Promise<Float32Array>;
  draw(request?: DrawRequest, options?: CallOptions): Promise<Drawn>;
  complete(request: CompleteRequest, options?: CallOptions): Promise<Completed>;
  score(request: ScoreRequest, options?: { signal?: AbortSignal }): Promise<Scored>;
  digests(levels: Uint8Array | Uint16Array): Promise<string[]>;
  close(): void;
}

/** Is WebAssembly with 128-bit SIMD, which the engine needs, here? */
export function hasSimd(): boolean;
/** Is relaxed SIMD here, and does it multiply and add with one rounding? */
export function hasRelaxedSimd(): boolean;

/**
 * Load a model in this thread.
 * @throws GpcnnError the file is missing, damaged or newer, there is no memory for it, or no SIMD here.
 */
export function load(source: Source, options?: LoadOptions): Promise<Model>;

/** Load a model in a Web Worker, so that a page stays responsive; it needs worker.js beside gpcnn.js. Errors: as `load`. */
export function loadInWorker(source: Source, options?: LoadOptions): Promise<RemoteModel>;
