/**
 * A bundle that is a zip, read in memory and never unpacked to a disk.
 *
 * What the manifest says of each file is compared by whoever reads it; here a zip is refused that no honest packer makes.
 * Source: APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
 */
import { BundleError } from "./manifest.mjs";

const MOST_FILES = 10_000;
const UNSUSPICIOUS_BYTES = 1 << 20;
const MOST_RATIO = 200; // of a larger file's bytes to its packed ones
const END = { magic: 0x06054b50, size: 22, mostComment: 0xffff };
const ENTRY = { magic: 0x02014b50, size: 46 };
const LOCAL = { magic: 0x04034b50, size: 30 };
const [STORED, DEFLATED] = [0, 8];

/**
 * Open a zip.
 * @param {Uint8Array} bytes of the file.
 * @param {string} name for messages.
 * @returns {(path: string) => Promise<Uint8Array>} what `openBundle` reads files with.
 * @throws {BundleError} if it is none, or one that no honest packer makes.
 */
export function openZip(bytes, name) {
  const zip = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = guarded(name, () => readEntries(zip, name));
  return async (path) => {
    const entry = entries.get(path);
    if (!entry) throw new BundleError(`${name} has no file ${path}`);
    return unpack(guarded(name, () => packedBytes(zip, entry)), entry, `${name}: ${path}`);
  };
}

/** Numbers that lead out of the file are a broken zip. */
function guarded(name, read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw new BundleError(`${name} is no whole zip file`);
    throw error;
  }
}

function readEntries(zip, name) {
  const end = findEnd(zip);
  const count = zip.getUint16(end + 10, true);
  if (count > MOST_FILES) throw new BundleError(`${name} has more than ${MOST_FILES} files`);
  const entries = new Map();
  let at = zip.getUint32(end + 16, true);
  for (let i = 0; i < count; i++) {
    const { path, next, ...entry } = readEntry(zip, at);
    if (entries.has(path)) throw new BundleError(`${name} has ${path} twice; do not use this bundle`);
    const reason = whyNot(entry);
    if (reason) throw new BundleError(`${name}: ${path} ${reason}; do not use this bundle`);
    entries.set(path, entry);
    at = next;
  }
  return entries;
}

/** The last record; behind it nothing but its comment. */
function findEnd(zip) {
  const last = zip.byteLength - END.size;
  for (let at = last; at >= Math.max(0, last - END.mostComment); at--) {
    if (zip.getUint32(at, true) === END.magic && at + END.size + zip.getUint16(at + 20, true) === zip.byteLength) return at;
  }
  throw new RangeError("no end");
}

function readEntry(zip, at) {
  if (zip.getUint32(at, true) !== ENTRY.magic) throw new RangeError("no entry");
  const [words, more, comment] = [28, 30, 32].map((place) => zip.getUint16(at + place, true));
  const path = new Uint8Array(zip.buffer, zip.byteOffset + at + ENTRY.size, words);
  return {
    path: new TextDecoder("utf-8", { fatal: true }).decode(path),
    encrypted: Boolean(zip.getUint16(at + 8, true) & 1),
    method: zip.getUint16(at + 10, true),
    packed: zip.getUint32(at + 20, true),
    size: zip.getUint32(at + 24, true),
    local: zip.getUint32(at + 42, true),
    next: at + ENTRY.size + words + more + comment,
  };
}

function whyNot({ encrypted, method, packed, size }) {
  if (encrypted) return "is encrypted by the zip; edgekit encrypts models itself";
  if (![STORED, DEFLATED].includes(method)) return "is packed by a method other than store and deflate";
  return size > Math.max(UNSUSPICIOUS_BYTES, MOST_RATIO * packed) ? `unpacks to more than ${MOST_RATIO} times its size` : "";
}

function packedBytes(zip, { local, packed }) {
  if (zip.getUint32(local, true) !== LOCAL.magic) throw new RangeError("no file");
  const start = local + LOCAL.size + zip.getUint16(local + 26, true) + zip.getUint16(local + 28, true);
  return new Uint8Array(zip.buffer, zip.byteOffset + start, packed);
}

async function unpack(packed, { method, size }, name) {
  const out = new Uint8Array(size);
  let length = 0;
  try {
    const stream = new Blob([packed]).stream();
    for await (const part of pieces(method === STORED ? stream : stream.pipeThrough(new DecompressionStream("deflate-raw")))) {
      out.set(part, length); // a RangeError where it is longer than the zip says
      length += part.length;
    }
  } catch (error) {
    throw new BundleError(`${name} cannot be unpacked (${error.message.replace(/\s+/g, " ")})`);
  }
  if (length !== size) throw new BundleError(`${name} has ${length} bytes, and the zip says ${size}`);
  return out;
}

/** Not every browser iterates over a stream itself. */
async function* pieces(stream) {
  const reader = stream.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}
