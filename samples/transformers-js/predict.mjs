/** node predict.mjs BUNDLE TEXT... | --golden   (see README.md) */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { AutoModel, AutoTokenizer, Tensor, env, pipeline } from "@huggingface/transformers";
import { BundleError, checkGolden, openBundle } from "edgekit-bundle";
import * as ort from "onnxruntime-node";

const USAGE = "usage: node predict.mjs BUNDLE (TEXT ... | --golden) [--variant NAME] [--top N] [--json]";
const VERDICT_NO = 3;
/** How a file's name ends -> what transformers.js calls that precision. */
const DTYPES = { "": "fp32", _fp16: "fp16", _quantized: "q8", _int8: "int8", _uint8: "uint8", _q4: "q4", _q4f16: "q4f16" };
const TASKS = { classification: "text-classification", "masked-language-modelling": "fill-mask", "language-modelling": "text-generation" };

async function main() {
  const { values, positionals } = parseArgs({
    options: {
      golden: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      variant: { type: "string" },
      top: { type: "string", default: "3" },
    },
    allowPositionals: true,
  });
  const [directory, ...texts] = positionals;
  if (!directory || values.golden === texts.length > 0) return fail(USAGE, 2);
  const bundle = await open(directory);
  const place = resolve(directory);
  env.allowRemoteModels = false;
  env.localModelPath = dirname(place);
  return values.golden ? checkAll(bundle, basename(place), values) : predictAll(bundle, basename(place), texts, values);
}

/** transformers.js checks no file itself: each that the manifest lists is compared with its sha256 first. */
async function open(directory) {
  if ((await stat(directory)).isFile()) throw new BundleError(`${directory} is a file, and this sample reads a directory: unzip it first`);
  const machine = { provider: "CPUExecutionProvider", onnxruntime: ort.env.versions.node, cpu: "this CPU", flags: null };
  const bundle = await openBundle((path) => readFile(join(directory, path)), machine);
  for (const path of Object.keys(bundle.manifest.files)) await bundle.bytes(path);
  return bundle;
}

function dtypeOf({ name, file }) {
  const suffix = file.match(/^onnx\/model(_\w+)?\.onnx$/)?.[1] ?? (file === "onnx/model.onnx" ? "" : null);
  if (!(suffix in DTYPES)) throw new BundleError(`variant ${name} lies in ${file}; pack the bundle with --layout transformers.js`);
  return DTYPES[suffix];
}

async function predictAll(bundle, name, texts, { variant, top, json }) {
  const task = TASKS[bundle.manifest.task];
  if (!task) throw new BundleError(`this sample runs ${Object.keys(TASKS).join(", ")}, and the bundle is for ${bundle.manifest.task}`);
  const answer = await pipeline(task, name, { dtype: dtypeOf(bundle.variant(variant)) });
  const answers = [];
  for (const text of texts) answers.push({ text, answer: await answer(text, task === "text-generation" ? {} : { top_k: Number(top) }) });
  console.log(json ? JSON.stringify(answers) : answers.map(asLine).join("\n"));
  return 0;
}

function asLine({ text, answer }) {
  const words = answer.map(({ label, token_str: token, score, generated_text: written }) => written ?? `${label ?? token} ${(100 * score).toFixed(1)} %`);
  return `${text}: ${words.join(", ")}`;
}

async function checkAll(bundle, name, { variant, json }) {
  const chosen = (variant ? [bundle.variant(variant)] : bundle.variants).map((each) => [each, dtypeOf(each)]);
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const tokenize = (text) => asArrays(tokenizer(text));
  const rows = [];
  for (const [each, dtype] of chosen) {
    const model = await AutoModel.from_pretrained(name, { dtype });
    const run = async (inputs) => asArrays(await model(asTensors(inputs)));
    rows.push(...(await checkGolden(bundle, each, run, { tokenize })));
    await model.dispose();
  }
  if (json) console.log(JSON.stringify(rows.map(({ outputs, ...row }) => row)));
  else for (const { ok, name: row, detail } of rows) console.log(`${ok ? "ok  " : "FAIL"} ${row}: ${detail}`);
  return rows.every(({ ok }) => ok) ? 0 : VERDICT_NO;
}

function asTensors(arrays) {
  return Object.fromEntries(Object.entries(arrays).map(([key, { dtype, data, shape }]) => [key, new Tensor(dtype, data, shape)]));
}

function asArrays(tensors) {
  return Object.fromEntries(Object.entries(tensors).map(([key, { type, data, dims }]) => [key, { dtype: type, data, shape: dims }]));
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
