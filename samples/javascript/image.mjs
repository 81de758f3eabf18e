/** From a picture to the model's input, as `preprocessing` of the manifest says: the same numbers as in Python. */
import { resize } from "./resize.mjs";

/**
 * Prepare a picture.
 * @param {{data: Uint8Array | Uint8ClampedArray, width: number, height: number}} picture RGBA, as a canvas gives it.
 * @param {object} preprocessing the manifest's, of kind "image".
 * @returns {Float32Array} (1, channels, height, width).
 */
export function prepareImage(picture, preprocessing) {
  const pixels = withChannels(picture, preprocessing.channels, preprocessing.background ?? 255);
  const [width, height] = targetSize(pixels, preprocessing);
  const resized = resize(pixels, width, height, preprocessing.resample ?? "bilinear");
  return normalised(middle(resized, preprocessing.width, preprocessing.height), preprocessing);
}

/** Grey by Pillow's weights (ITU-R 601-2, in 1 / 65536), or red, green and blue; what is transparent is laid on grey. */
function withChannels({ data, width, height }, channels, background) {
  const out = new Uint8Array(width * height * channels);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const alpha = data[4 * pixel + 3];
    const over = (value) => (alpha === 255 ? value : laid(value, alpha, background));
    const [red, green, blue] = [over(data[4 * pixel]), over(data[4 * pixel + 1]), over(data[4 * pixel + 2])];
    if (channels === 1) out[pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else out.set([red, green, blue], 3 * pixel);
  }
  return { data: out, width, height, channels };
}

/** A level over the background's, rounded as Pillow does. */
function laid(value, alpha, background) {
  const sum = value * alpha + background * (255 - alpha) + 128;
  return (sum + (sum >> 8)) >> 8;
}

/** One number in `resize` is the shorter edge, two are (height, width), none stretches to the input's size. */
function targetSize({ width, height }, preprocessing) {
  const wanted = preprocessing.resize?.length ? preprocessing.resize : [preprocessing.height, preprocessing.width];
  if (wanted.length === 2) return [wanted[1], wanted[0]];
  const long = Math.trunc((wanted[0] * Math.max(height, width)) / Math.min(height, width));
  return width <= height ? [wanted[0], long] : [long, wanted[0]];
}

/** The middle of a picture; borders that it does not reach are 0. */
function middle(picture, width, height) {
  const [left, top] = [offset(picture.width, width), offset(picture.height, height)];
  const out = new Uint8Array(width * height * picture.channels);
  for (let y = Math.max(0, -top); y < Math.min(height, picture.height - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(width, picture.width - left); x++) {
      for (let channel = 0; channel < picture.channels; channel++) {
        out[(y * width + x) * picture.channels + channel] =
          picture.data[((y + top) * picture.width + x + left) * picture.channels + channel];
      }
    }
  }
  return { data: out, width, height, channels: picture.channels };
}

function offset(size, wanted) {
  return size >= wanted ? Math.floor((size - wanted) / 2) : -Math.ceil((wanted - size) / 2);
}

/** (pixel * scale - mean) / std in float32, channels first. */
function normalised({ data, width, height, channels }, { scale, mean, std }) {
  const out = new Float32Array(channels * height * width);
  for (let channel = 0; channel < channels; channel++) {
    const [m, s] = [Math.fround(mean[channel]), Math.fround(std[channel])];
    for (let pixel = 0; pixel < height * width; pixel++) {
      const scaled = Math.fround(data[pixel * channels + channel] * Math.fround(scale));
      out[channel * height * width + pixel] = Math.fround(scaled - m) / s;
    }
  }
  return out;
}
