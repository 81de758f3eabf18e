/** The proof that a bundle gives on this machine what it gave where it was packed. */
import { numbers, readArray } from "./arrays.mjs";
import { prepareImage } from "./image.mjs";
import { BundleError } from "./manifest.mjs";

/**
 * Run a variant's golden samples: the stored inputs, and the raw pictures and texts through preprocessing.
 * @param {object} bundle
 * @param {object} variant of the manifest.
 * @param {(inputs: object) => Promise<object>} run arrays in, arrays out.
 * @param {{decode?: (bytes: Uint8Array) => Promise<object>, tokenize?: (text: string) => object}} prepare a picture
 *   file's bytes -> RGBA, and a text -> arrays by the name of the input; what is not given is not run.
 * @returns {Promise<{name: string, ok: boolean, error: number, detail: string, outputs: object}[]>} one a sample and start.
 */
export async function checkGolden(bundle, variant, run, { decode, tokenize }) {
  const { samples, outputs, tolerance } = bundle.manifest.golden;
  const { name } = variant;
  if (outputs[name]?.length !== samples.length || !tolerance[name]) {
    throw new BundleError(`manifest.json: golden has no output, or no tolerance, for each sample of variant ${name}`);
  }
  const rows = [];
  for (const [index, sample] of samples.entries()) {
    const inputs = await readAll(bundle, sample.inputs);
    const wanted = await readAll(bundle, outputs[name][index]);
    const starts = [["input", inputs]];
    if (decode && isPicture(bundle.manifest, sample)) starts.push(["picture", await fromPicture(bundle, sample, inputs, decode)]);
    if (tokenize && sample.raw?.endsWith(".txt")) {
      const text = new TextDecoder().decode(await bundle.bytes(sample.raw));
      starts.push(["text", { ...inputs, ...(await tokenize(text)) }]);
    }
    for (const [start, feeds] of starts) {
      const got = await run(feeds);
      rows.push({ name: `${name} ${start} ${index}`, outputs: got, ...compareAll(got, wanted, tolerance[name]) });
    }
  }
  return rows;
}

async function readAll(bundle, entries) {
  const found = {};
  for (const [name, entry] of Object.entries(entries)) found[name] = await readArray(bundle, entry);
  return found;
}

function isPicture(manifest, sample) {
  return manifest.preprocessing?.kind === "image" && Boolean(sample.raw?.endsWith(".png"));
}

async function fromPicture(bundle, sample, inputs, decode) {
  const { preprocessing } = bundle.manifest;
  const data = prepareImage(await decode(await bundle.bytes(sample.raw)), preprocessing);
  return { ...inputs, [preprocessing.input]: { ...inputs[preprocessing.input], data } };
}

function compareAll(got, wanted, tolerance) {
  const found = Object.entries(wanted).map(([name, array]) => compare(name, got[name], array, tolerance));
  const worst = found.find((row) => !row.ok) ?? found.sort((a, b) => b.error - a.error)[0];
  return { ok: worst.ok, error: worst.error, detail: worst.detail };
}

/** |got - wanted| <= absolute + relative * |wanted| everywhere, and the same best class where the bundle asks for it. */
function compare(name, got, wanted, { absolute, relative, same_top1: sameTop1 }) {
  const [a, b] = [got ? numbers(got) : [], numbers(wanted)];
  if (a.length !== b.length) return { ok: false, error: Infinity, detail: `${name} has ${a.length} numbers, not ${b.length}` };
  const errors = a.map((value, i) => (Object.is(value, b[i]) ? 0 : Math.abs(value - b[i])));
  const error = errors.reduce((x, y) => (Number.isNaN(y) ? Infinity : Math.max(x, y)), 0);
  const near = errors.every((each, i) => each <= absolute + relative * Math.abs(b[i]));
  const best = !sameTop1 || sameBest(a, b, wanted.shape.at(-1));
  const detail = `${name} is off by ${error.toExponential(1)}` + (best ? "" : ", and its best class is another");
  return { ok: near && best, error, detail };
}

function sameBest(a, b, width) {
  for (let start = 0; start < a.length; start += width) {
    if (best(a.slice(start, start + width)) !== best(b.slice(start, start + width))) return false;
  }
  return true;
}

function best(values) {
  return values.indexOf(Math.max(...values));
}
