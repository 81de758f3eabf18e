/** node predict.mjs BUNDLE PICTURE... | --golden   (see README.md) */
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { BundleError, checkGolden, openBundle, prepareImage, refuseSeveral, runSession, sessionOptions, topClasses } from "edgekit-bundle";
import { filesOf, readArguments, readKey, runProgram, tellRows } from "edgekit-bundle/program";
import * as ort from "onnxruntime-node";
import { PNG } from "pngjs";

const USAGE =
  "usage: node predict.mjs BUNDLE (PICTURE.png ... | --golden) [--variant NAME] [--top N] [--json] [--key-file F | --key-env NAME]";
const KEYS = { "key-file": { type: "string" }, "key-env": { type: "string" } };
const MOST_PIXELS = 64_000_000;

async function main() {
  const asked = readArguments(USAGE, KEYS);
  const machine = { provider: "CPUExecutionProvider", onnxruntime: ort.env.versions.node, cpu: "this CPU", flags: cpuFlags() };
  const bundle = await openBundle(await filesOf(asked.place), machine, await readKey(asked["key-file"], asked["key-env"]));
  return asked.golden ? checkAll(bundle, asked) : predictAll(bundle, asked);
}

/** Linux tells what the CPU has; elsewhere nobody knows. */
function cpuFlags() {
  const told = existsSync("/proc/cpuinfo") && readFileSync("/proc/cpuinfo", "utf8").match(/^(?:flags|Features)\s*:(.*)$/m);
  return told ? new Set(told[1].trim().split(/\s+/)) : null;
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

async function predictAll(bundle, { inputs: pictures, variant, top, json }) {
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
  return tellRows(rows, plain, json);
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

await runProgram(main);
