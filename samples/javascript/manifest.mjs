/** The manifest of a bundle, read strictly: it is a foreign file, and code that comes after may rely on its shape. */
export class BundleError extends Error {}

const SCHEMA_VERSION = 1;
const LONGEST_EDGE = 16384;
/** Session entries that change speed or memory alone: others name files, load code, or write what they see. */
const SESSION_ENTRIES = [
  ...["session.disable_prepacking", "session.dynamic_block_base", "session.force_spinning_stop"],
  ...["session.inter_op.allow_spinning", "session.intra_op.allow_spinning", "session.set_denormal_as_zero"],
  "session.use_device_allocator_for_initializers",
];
/** What moves a terminal's cursor, turns the direction of writing, or is half a character. */
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\p{Cs}]/u;

const text = kind("a text of one line", (value) => typeof value === "string" && !value.includes("\n"));
const number = kind("a number", Number.isFinite);
const distance = kind("a number, 0 or more", (value) => Number.isFinite(value) && value >= 0);
const share = kind("a number from 0 to below 1", (value) => Number.isFinite(value) && value >= 0 && value < 1);
const whole = kind("a whole number", (value) => Number.isSafeInteger(value) && value >= 0);
const edge = kind(`1 to ${LONGEST_EDGE}`, (value) => Number.isInteger(value) && value > 0 && value <= LONGEST_EDGE);
const channels = kind("1 or 3", (value) => value === 1 || value === 3);
const threads = kind("0 to 1024", (value) => Number.isInteger(value) && value >= 0 && value <= 1024);
const truth = kind("true or false", (value) => typeof value === "boolean");
const level = one("all", "layout", "extended", "basic", "disable");
const mode = one("sequential", "parallel");
const dim = kind("a size or a name", (value) => typeof value === "string" || (Number.isSafeInteger(value) && value >= 0));
const array = fields({ file: text, dtype: text, shape: list(whole) });
const image = fields({
  input: text,
  ...{ height: edge, width: edge, channels, scale: number, mean: list(number), std: list(number) },
  "resize?": list(edge),
  ...{ "resample?": text, "background?": kind("0 to 255", (value) => Number.isInteger(value) && value >= 0 && value <= 255) },
});
const variant = fields({
  ...{ name: text, file: text, providers: list(text) },
  ...{ "format?": text, "minimum_onnxruntime?": text, "cpu_features?": list(text) },
  "encrypted?": fields({ algorithm: text, bundle_id: text }),
  "session?": fields({
    ...{ "graph_optimization_level?": level, "intra_op_threads?": threads, "config?": config },
    ...{ "execution_mode?": mode, "inter_op_threads?": threads, "enable_mem_pattern?": truth, "enable_cpu_mem_arena?": truth },
  }),
});

const MANIFEST = fields({
  name: text,
  ...{ inputs: list(fields({ name: text })), outputs: list(fields({ name: text, shape: list(dim) })) },
  "classes?": list(text),
  "preprocessing?": preprocessing,
  "postprocessing?": fields({ "kind?": text, "output?": text }),
  variants: some(list(variant)),
  golden: fields({
    samples: some(list(fields({ inputs: named(array), "raw?": text }))),
    outputs: named(list(some(named(array)))),
    tolerance: named(fields({ absolute: distance, relative: share })),
  }),
  files: named(fields({ sha256: text, bytes: whole })),
});

/**
 * Read a manifest.json.
 * @param {Uint8Array} bytes
 * @throws {BundleError} if it is none that this code understands; the message names the field.
 */
export function parseManifest(bytes) {
  const manifest = parseJson(bytes);
  if (manifest?.schema_version !== SCHEMA_VERSION) {
    throw new BundleError(
      `manifest.json has schema_version ${manifest?.schema_version}; this sample reads ${SCHEMA_VERSION}: ` +
        "take the sample of the edgekit that packed the bundle",
    );
  }
  MANIFEST(manifest, "");
  return manifest;
}

function parseJson(bytes) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes), seen);
  } catch (error) {
    throw new BundleError(`manifest.json is no UTF-8 JSON (${error.message.replace(/\s+/g, " ")})`);
  }
}

function seen(key, value) {
  if (UNSEEN.test(key) || key.includes("\n") || (typeof value === "string" && UNSEEN.test(value))) throw new Error("a text holds a control character, or half a character");
  return value;
}

/** Each of these makes (value, place) => void, which throws where the value is something else. */
function kind(words, fits) {
  return (value, place) => fits(value) || wrong(place, words);
}

function one(...allowed) {
  return kind(`one of ${allowed.join(", ")}`, (value) => allowed.includes(value));
}

function list(check) {
  return (value, place) => (Array.isArray(value) ? value : wrong(place, "a list")).forEach((each, i) => check(each, `${place}[${i}]`));
}

function some(check) {
  return (value, place) => {
    check(value, place);
    if (!Object.keys(value).length) wrong(place, "one or more");
  };
}

function named(check) {
  return (value, place) => Object.entries(object(value, place)).forEach(([key, each]) => check(each, `${place}.${key}`));
}

/** A key with a ? may be missing or null. */
function fields(checks) {
  return (value, place) => {
    object(value, place);
    for (const [key, check] of Object.entries(checks)) {
      const name = key.replace(/\?$/, "");
      if (name === key || (value[name] ?? null) !== null) check(value[name], place ? `${place}.${name}` : name);
    }
  };
}

function object(value, place) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : wrong(place, "an object");
}

function preprocessing(value, place) {
  fields({ kind: text })(value, place);
  if (value.kind !== "image") return;
  image(value, place);
  if ([value.mean, value.std].some(({ length }) => length !== value.channels)) wrong(`${place}.mean`, "one number a channel, as is std");
  if (value.resize?.length > 2) wrong(`${place}.resize`, "at most 2 numbers");
}

function config(value, place) {
  const other = Object.keys(object(value, place)).find((key) => !SESSION_ENTRIES.includes(key));
  if (other !== undefined) wrong(`${place}.${other}`, `one of ${SESSION_ENTRIES.join(", ")}`);
  named(kind("digits", (word) => /^\d{1,9}$/.test(word)))(value, place);
}

function wrong(place, words) {
  throw new BundleError(`manifest.json: ${place || "its content"} must be ${words}; the bundle is damaged, or of another program`);
}
