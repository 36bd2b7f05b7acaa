// .npy files, as NumPy writes them: one array of numbers. Nothing in a file is run.

import { GpcnnError } from "./gpcnn.js";

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const MOST = 1 << 28; // bytes
const TYPES = {
  b1: Uint8Array, u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, i4: Int32Array,
  u8: BigUint64Array, i8: BigInt64Array, f4: Float32Array, f8: Float64Array,
};

/**
 * Read an .npy file.
 *
 * @param {ArrayBuffer} content of the file.
 * @param {string} name for messages.
 * @returns {{shape: number[], values: Float64Array, type: string}} in C order; `type` is one of TYPES.
 * @throws {GpcnnError} another file, or numbers of another type.
 */
export function readNpy(content, name) {
  const bytes = new Uint8Array(content), view = new DataView(content);
  if (content.byteLength > MOST) throw new GpcnnError(`${name} has more than ${MOST} bytes: expected one map`);
  const broken = () => new GpcnnError(`${name} is no .npy file, or cut short: save it with numpy.save`);
  if (bytes.length < 12 || !MAGIC.every((byte, k) => bytes[k] === byte)) throw broken();
  const wide = bytes[6] > 1, begin = wide ? 12 : 10, end = begin + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (end > bytes.length) throw broken();
  const header = new TextDecoder("latin1").decode(bytes.subarray(begin, end));
  const [, order, type] = /'descr': '([<>|=]?)(\w+)'/.exec(header) ?? [];
  const fortran = /'fortran_order': (True|False)/.exec(header)?.[1], shape = /'shape': \(([\d, ]*)\)/.exec(header)?.[1];
  if (type === undefined || fortran === undefined || shape === undefined) throw broken();
  if (!(type in TYPES) || (order === ">" && type[1] !== "1")) throw new GpcnnError(`${name} holds numbers of type ${order}${type}: expected integers or floats of this machine, as int32 or float32`);
  const lengths = shape.split(",").map((part) => part.trim()).filter(Boolean).map(Number), count = lengths.reduce((a, b) => a * b, 1);
  const Numbers = TYPES[type];
  if (bytes.length - end !== count * Numbers.BYTES_PER_ELEMENT) throw broken();
  const stored = Float64Array.from(new Numbers(content.slice(end)), Number);
  return { shape: lengths, values: fortran === "True" ? toRows(stored, lengths) : stored, type };
}

/** From Fortran's order, in which the first axis is the fastest, to C's. */
function toRows(stored, shape) {
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((a, b) => a * b, 1));
  return Float64Array.from(stored, (_, at) => {
    let from = 0;
    for (let axis = shape.length - 1, rest = at; axis >= 0; axis--) {
      from += (rest % shape[axis]) * strides[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    return stored[from];
  });
}

/** The bytes of an .npy file of an Uint8Array, Int32Array or Float32Array. @returns {Blob} */
export function writeNpy(values, shape) {
  const type = { Uint8Array: "|u1", Int32Array: "<i4", Float32Array: "<f4" }[values.constructor.name];
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  return new Blob([Uint8Array.from([...MAGIC, 1, 0, padded.length & 255, padded.length >> 8]), padded, values]);
}
