/** node predict.mjs BUNDLE TEXT_OR_PICTURE... | --golden   (see README.md) */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { AutoModel, AutoTokenizer, Tensor, env, pipeline } from "@huggingface/transformers";
import { BundleError, checkGolden, openBundle } from "edgekit-bundle";
import { readArguments, runProgram, tellRows } from "edgekit-bundle/program";
import * as ort from "onnxruntime-node";

const USAGE = "usage: node predict.mjs BUNDLE (TEXT_OR_PICTURE ... | --golden) [--variant NAME] [--top N] [--json]";
/** How a file's name ends -> what transformers.js calls that precision. */
const DTYPES = { "": "fp32", _fp16: "fp16", _quantized: "q8", _int8: "int8", _uint8: "uint8", _q4: "q4", _q4f16: "q4f16" };
const TASKS = { classification: "text-classification", "masked-language-modelling": "fill-mask", "language-modelling": "text-generation" };

async function main() {
  const asked = readArguments(USAGE);
  const bundle = await open(asked.place);
  const place = resolve(asked.place);
  env.allowRemoteModels = false;
  env.localModelPath = dirname(place);
  return asked.golden ? checkAll(bundle, basename(place), asked) : predictAll(bundle, basename(place), asked);
}

/** transformers.js checks no file itself: each that the manifest lists is compared with its sha256 first. */
async function open(directory) {
  if ((await stat(directory)).isFile()) throw new BundleError(`${directory} is a file, and this sample reads a directory: unzip it first`);
  const machine = { provider: "CPUExecutionProvider", onnxruntime: ort.env.versions.node, cpu: "this CPU", flags: null };
  const bundle = await openBundle((path) => readFile(join(directory, path)), machine);
  for (const path of Object.keys(bundle.manifest.files)) await bundle.bytes(path);
  return bundle;
}

function taskOf({ preprocessing, task }) {
  const found = preprocessing?.kind === "image" && task === "classification" ? "image-classification" : TASKS[task];
  if (!found) throw new BundleError(`this sample runs ${Object.keys(TASKS).join(", ")}, and the bundle is for ${task}`);
  return found;
}

function dtypeOf({ name, file }) {
  const suffix = file.match(/^onnx\/model(_\w+)?\.onnx$/)?.[1] ?? (file === "onnx/model.onnx" ? "" : null);
  if (!(suffix in DTYPES)) throw new BundleError(`variant ${name} lies in ${file}; pack the bundle with --layout transformers.js`);
  return DTYPES[suffix];
}

async function predictAll(bundle, name, { inputs, variant, top, json }) {
  const [task, dtype] = [taskOf(bundle.manifest), dtypeOf(bundle.variant(variant))];
  const missing = task === "image-classification" ? await firstMissing(inputs) : undefined;
  if (missing) throw new BundleError(`${missing} is not there; this bundle wants pictures`);
  const answer = await pipeline(task, name, { dtype });
  const answers = [];
  for (const input of inputs) answers.push({ input, answer: await answer(input, task === "text-generation" ? {} : { top_k: Number(top) }) });
  console.log(json ? JSON.stringify(answers) : answers.map(asLine).join("\n"));
  return 0;
}

async function firstMissing(paths) {
  const there = await Promise.all(paths.map((path) => stat(path).catch(() => null)));
  return paths.find((path, index) => !there[index]?.isFile());
}

function asLine({ input, answer }) {
  const words = answer.map(({ label, token_str: token, score, generated_text: written }) => written ?? `${label ?? token} ${(100 * score).toFixed(1)} %`);
  return `${input}: ${words.join(", ")}`;
}

/** Stored inputs, and texts through the other tokeniser; pictures not, which sharp resizes otherwise than Pillow. */
async function checkAll(bundle, name, { variant, json }) {
  const chosen = (variant ? [bundle.variant(variant)] : bundle.variants).map((each) => [each, dtypeOf(each)]);
  const prepare = bundle.manifest.preprocessing?.kind === "image" ? {} : await texts(name);
  const rows = [];
  for (const [each, dtype] of chosen) {
    const model = await AutoModel.from_pretrained(name, { dtype });
    const run = async (inputs) => asArrays(await model(asTensors(inputs)));
    rows.push(...(await checkGolden(bundle, each, run, prepare)));
    await model.dispose();
  }
  return tellRows(rows, ({ outputs, ...row }) => row, json);
}

async function texts(name) {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  return { tokenize: (text) => asArrays(tokenizer(text)) };
}

function asTensors(arrays) {
  return Object.fromEntries(Object.entries(arrays).map(([key, { dtype, data, shape }]) => [key, new Tensor(dtype, data, shape)]));
}

function asArrays(tensors) {
  return Object.fromEntries(Object.entries(tensors).map(([key, { type, data, dims }]) => [key, { dtype: type, data, shape: dims }]));
}

await runProgram(main);
