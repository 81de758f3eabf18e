/** node predict.mjs BUNDLE PICTURE... | --golden   (see README.md) */
import { webcrypto } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BundleError, checkGolden, openBundle, prepareImage, refuseSeveral, runSession, sessionOptions, topClasses } from "edgekit-bundle";
import * as ort from "onnxruntime-node";
import { PNG } from "pngjs";

globalThis.crypto ??= webcrypto; // Node 18 has it by this name only

const USAGE = "usage: node predict.mjs BUNDLE (PICTURE.png ... | --golden) [--variant NAME] [--top N] [--json]";
const VERDICT_NO = 3;
const MOST_PIXELS = 64_000_000;

async function main() {
  const { values, positionals } = readArguments();
  const [directory, ...pictures] = positionals;
  if (!directory || values.golden === pictures.length > 0) return fail(USAGE, 2);
  const bundle = await open(directory);
  return values.golden ? checkAll(bundle, values) : predictAll(bundle, pictures, values);
}

async function open(directory) {
  if ((await stat(directory)).isFile()) throw new BundleError(`${directory} is a file, and this sample reads a directory: unzip it first`);
  const machine = { provider: "CPUExecutionProvider", onnxruntime: ort.env.versions.node, cpu: "this CPU", flags: cpuFlags() };
  return openBundle((path) => readFile(join(directory, path)), machine);
}

/** Linux tells what the CPU has; elsewhere nobody knows. */
function cpuFlags() {
  const told = existsSync("/proc/cpuinfo") && readFileSync("/proc/cpuinfo", "utf8").match(/^(?:flags|Features)\s*:(.*)$/m);
  return told ? new Set(told[1].trim().split(/\s+/)) : null;
}

function readArguments() {
  const options = {
    golden: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    variant: { type: "string" },
    top: { type: "string", default: "3" },
  };
  return parseArgs({ options, allowPositionals: true });
}

async function load(bundle, variant) {
  const { model, externalData } = await bundle.model(variant);
  try {
    const session = await ort.InferenceSession.create(model, sessionOptions(variant, ["cpu"], externalData));
    return (inputs) => runSession(ort, session, inputs);
  } catch (error) {
    throw new BundleError(`ONNX Runtime ${ort.env.versions.node} does not load ${variant.file}: ${error.message.replace(/\s+/g, " ")}`);
  }
}

async function predictAll(bundle, pictures, { variant, top, json }) {
  const { preprocessing, postprocessing, outputs } = bundle.manifest;
  if (preprocessing?.kind !== "image") throw new BundleError(`this bundle wants ${preprocessing?.kind ?? "arrays"}, no pictures`);
  const run = await load(bundle, bundle.variant(variant));
  const answers = [];
  for (const picture of pictures) {
    const data = prepareImage(decodePng(await readFile(picture), picture), preprocessing);
    const shape = [1, preprocessing.channels, preprocessing.height, preprocessing.width];
    const found = await run({ [preprocessing.input]: { dtype: "float32", shape, data } });
    const values = found[postprocessing?.output ?? outputs[0].name].data;
    answers.push({ picture, top: topClasses(values, bundle.manifest, Number(top)) });
  }
  console.log(json ? JSON.stringify(answers) : answers.map(asLine).join("\n"));
  return 0;
}

function asLine({ picture, top }) {
  return `${picture}: ${top.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)} %`).join(", ")}`;
}

async function checkAll(bundle, { variant, json }) {
  const first = bundle.variant(variant);
  const chosen = variant ? [first] : bundle.manifest.variants;
  const rows = [];
  for (const each of chosen) {
    const reason = bundle.whyNot(each);
    if (reason) console.error(`left out ${each.name}: ${reason}`);
    else rows.push(...(await checkGolden(bundle, each, await load(bundle, each), { decode: decodePng })));
  }
  if (json) console.log(JSON.stringify(rows.map(plain)));
  else for (const { ok, name, detail } of rows) console.log(`${ok ? "ok  " : "FAIL"} ${name}: ${detail}`);
  return rows.every(({ ok }) => ok) ? 0 : VERDICT_NO;
}

function plain({ outputs, ...row }) {
  const values = Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data, Number)]);
  return { ...row, outputs: Object.fromEntries(values) };
}

function decodePng(bytes, name = "the picture") {
  const head = Buffer.from(bytes.subarray(0, 24)); // a small file can claim a huge picture
  const pixels = head.length === 24 ? head.readUInt32BE(16) * head.readUInt32BE(20) : 0;
  if (pixels > MOST_PIXELS) throw new BundleError(`${name} has more than ${MOST_PIXELS} pixels`);
  let picture;
  try {
    picture = PNG.sync.read(Buffer.from(bytes));
  } catch (error) {
    throw new BundleError(`${name} is no PNG (${error.message}); this sample reads PNG only`);
  }
  refuseSeveral(bytes, name);
  if (picture.depth > 8) throw new BundleError(`${name} has ${picture.depth} bits a channel; save it with 8`);
  return picture;
}

function fail(message, code) {
  console.error(code === 2 ? message : `error: ${message}`);
  return code;
}

try {
  process.exitCode = await main();
} catch (error) {
  const known = error instanceof BundleError || typeof error.code === "string";
  if (!known) throw error;
  process.exitCode = fail(error.message, error.code?.startsWith("ERR_PARSE_ARGS") ? 2 : 1);
}
