/** Arrays as they stand in a bundle: raw little-endian bytes, whose dtype and shape the manifest says. */
import { BundleError } from "./manifest.mjs";

const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/**
 * Read an array.
 * @param {{file: string, dtype: string, shape: number[]}} entry of the manifest.
 * @returns {Promise<{dtype: string, shape: number[], data: ArrayBufferView}>} float16 as its 16 bits.
 */
export async function readArray(bundle, { file, dtype, shape }) {
  const Type = TYPES[dtype];
  if (!Type) throw new BundleError(`${file} has dtype ${dtype}; this sample reads ${Object.keys(TYPES).join(", ")}`);
  const bytes = await bundle.bytes(file);
  const count = shape.reduce((a, b) => a * b, 1);
  if (bytes.byteLength !== count * Type.BYTES_PER_ELEMENT) {
    throw new BundleError(`${file} has ${bytes.byteLength} bytes, and [${shape}] of ${dtype} is something else`);
  }
  return { dtype, shape, data: new Type(bytes.slice().buffer) };
}

/** Any array's elements as plain numbers. */
export function numbers({ dtype, data }) {
  return Array.from(data, dtype === "float16" ? fromHalf : Number);
}

function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
