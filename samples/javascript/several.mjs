/** Whether a picture file holds several: of an animation nobody knows which frame is meant. */
import { BundleError } from "./manifest.mjs";

/**
 * Refuse an animated GIF, PNG, WebP or AVIF; what is none of them, or broken, is for the decoder to say.
 * @param {Uint8Array} bytes of the file.
 * @param {string} name for the message.
 * @throws {BundleError}
 */
export function refuseSeveral(bytes, name) {
  const file = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (!READERS.some((frames) => frames(file) > 1)) return;
  } catch (error) {
    if (error instanceof RangeError) return; // the file ends too early
    throw error;
  }
  throw new BundleError(`${name} holds several pictures (frames or pages), and the model takes one; save that as a file of its own`);
}

const READERS = [framesOfGif, framesOfPng, framesOfWebp, framesOfAvif];

function word(file, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => file.getUint8(at + i)));
}

/** GIF89a, sections 18 to 24: images and extensions are followed by blocks, and these by an empty one. */
function framesOfGif(file) {
  if (word(file, 0) !== "GIF8") return 0;
  const table = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let [frames, at] = [0, 13 + table(file.getUint8(10))];
  for (let kind = file.getUint8(at); kind === 0x2c || kind === 0x21; kind = file.getUint8(at)) {
    if (kind === 0x2c && ++frames > 1) return frames;
    at += kind === 0x2c ? 11 + table(file.getUint8(at + 9)) : 2;
    while (file.getUint8(at)) at += 1 + file.getUint8(at);
    at++;
  }
  return frames;
}

/** The chunk acTL stands before the pixels. Source: PNG 3rd edition, section 11.3.6.1. */
function framesOfPng(file) {
  if (file.getUint32(0) !== 0x89504e47) return 0;
  for (let at = 8; word(file, at + 4) !== "IDAT"; at += 12 + file.getUint32(at)) {
    if (word(file, at + 4) === "acTL") return file.getUint32(at + 8);
  }
  return 1;
}

/** A chunk ANMF a frame. Source: RFC 9649, section 2.7. */
function framesOfWebp(file) {
  if (word(file, 0) !== "RIFF" || word(file, 8) !== "WEBP") return 0;
  let frames = 0;
  for (let at = 12; at + 8 <= file.byteLength; ) {
    if (word(file, at) === "ANMF") frames++;
    const length = file.getUint32(at + 4, true);
    at += 8 + length + (length % 2);
  }
  return frames;
}

/** A sequence says so in its brand. Source: AV1 Image File Format 1.1, section 6.3. */
function framesOfAvif(file) {
  return word(file, 4) === "ftyp" && word(file, 8) === "avis" ? 2 : 0;
}
