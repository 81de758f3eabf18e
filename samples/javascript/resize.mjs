/**
 * Pillow's resize of 8-bit pictures, to the bit: two passes of fixed-point weights.
 * What a model was trained and measured on was resized so; a canvas' drawImage gives other pixels.
 * Source: Pillow, src/libImaging/Resample.c and Geometry.c.
 */
import { BundleError } from "./manifest.mjs";

const PRECISION_BITS = 22;
const ONE = 2 ** PRECISION_BITS;

const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/**
 * Resize.
 * @param {{data: Uint8Array, width: number, height: number, channels: number}} picture rows of pixels of channels.
 * @param {string} resample nearest, box, bilinear, hamming, bicubic or lanczos.
 * @returns the same kind of object, of the size that is wanted.
 */
export function resize(picture, width, height, resample) {
  if (resample === "nearest") return nearest(picture, width, height);
  const filter = FILTERS[resample];
  if (!filter) throw new BundleError(`unknown resample '${resample}'; allowed: nearest, ${Object.keys(FILTERS).join(", ")}`);
  const rows = (from) => (from.width === width ? from : resizeRows(from, width, filter));
  const columns = (from) => (from.height === height ? from : transpose(resizeRows(transpose(from), height, filter)));
  return columnsFirst(picture, width, height) ? rows(columns(picture)) : columns(rows(picture));
}

/** Pillow 13 begins with the pass that shrinks more; the one before it began with the rows. Seen by experiment. */
function columnsFirst(picture, width, height) {
  return picture.height > height && picture.height - height > 2 * (picture.width - width);
}

function resizeRows({ data, width, height, channels }, wanted, filter) {
  const out = new Uint8Array(wanted * height * channels);
  weightsOf(width, wanted, filter).forEach(({ start, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = ONE / 2;
        for (let i = 0; i < weights.length; i++) {
          sum += data[(y * width + start + i) * channels + channel] * weights[i];
        }
        out[(y * wanted + x) * channels + channel] = Math.min(255, Math.max(0, Math.floor(sum / ONE)));
      }
    }
  });
  return { data: out, width: wanted, height, channels };
}

/** For each new pixel: the first old one that it is made of, and what each counts, in 1 / 2^22. */
function weightsOf(size, wanted, { support, weight }) {
  const scale = size / wanted;
  const stretch = Math.max(1, scale);
  return Array.from({ length: wanted }, (_, i) => {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support * stretch + 0.5));
    const end = Math.min(size, Math.trunc(center + support * stretch + 0.5));
    const raw = Array.from({ length: end - start }, (_, x) => weight((x + start - center + 0.5) * (1 / stretch)));
    const total = raw.reduce((a, b) => a + b, 0);
    return { start, weights: raw.map((w) => roundAway((total ? w / total : w) * ONE)) };
  });
}

function nearest({ data, width, height, channels }, wantedWidth, wantedHeight) {
  const columns = steps(width, wantedWidth);
  const out = new Uint8Array(wantedWidth * wantedHeight * channels);
  let next = 0;
  for (const y of steps(height, wantedHeight)) {
    for (const x of columns) {
      for (let channel = 0; channel < channels; channel++) out[next++] = data[(y * width + x) * channels + channel];
    }
  }
  return { data: out, width: wantedWidth, height: wantedHeight, channels };
}

/** The old pixel of each new one; added up step by step, as Pillow does, so that rounding is the same. */
function steps(size, wanted) {
  const scale = size / wanted;
  const found = [];
  for (let i = 0, at = scale * 0.5; i < wanted; i++, at += scale) found.push(Math.min(size - 1, Math.trunc(at)));
  return found;
}

function transpose({ data, width, height, channels }) {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) out[(x * height + y) * channels + c] = data[(y * width + x) * channels + c];
    }
  }
  return { data: out, width: height, height: width, channels };
}

function roundAway(value) {
  return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
}

function hamming(x) {
  const at = Math.abs(x) * Math.PI;
  if (at === 0) return 1;
  return at >= Math.PI ? 0 : (Math.sin(at) / at) * (0.54 + 0.46 * Math.cos(at));
}

function bicubic(x) {
  const [a, at] = [-0.5, Math.abs(x)];
  if (at < 1) return ((a + 2) * at - (a + 3)) * at * at + 1;
  return at < 2 ? (((at - 5) * at + 8) * at - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}
