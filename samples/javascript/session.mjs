/** What onnxruntime-node and onnxruntime-web have in common: options, and arrays in and out. */
import { BundleError } from "./manifest.mjs";

/** Weights come from what the manifest lists, in memory: ONNX Runtime would look for others in the working directory. */
const NO_OTHER_FILES = { "session.model_external_initializers_file_folder_path": "/dev/null/none" };

/**
 * A variant's session options, in JavaScript's words.
 * @param {{path: string, data: Uint8Array}[]} externalData weights that are not in the model's file.
 */
export function sessionOptions(variant, executionProviders, externalData = []) {
  const session = variant.session ?? {};
  const level = session.graph_optimization_level ?? "all";
  const entries = { ...session.config, ...NO_OTHER_FILES, ...(variant.format === "ort" ? { "session.load_model_format": "ORT" } : {}) };
  const said = {
    intraOpNumThreads: session.intra_op_threads || null,
    interOpNumThreads: session.inter_op_threads || null,
    executionMode: session.execution_mode,
    enableMemPattern: session.enable_mem_pattern,
    enableCpuMemArena: session.enable_cpu_mem_arena,
    externalData: externalData.length ? externalData : null,
  };
  return {
    executionProviders,
    graphOptimizationLevel: level === "disable" ? "disabled" : level,
    ...Object.fromEntries(Object.entries(said).filter(([, value]) => (value ?? null) !== null)),
    extra: nested(entries),
  };
}

/** {"session.use_x": "1"} -> {session: {use_x: "1"}}, as both packages want it; without prototypes, which a key could name. */
function nested(config) {
  const out = Object.create(null);
  for (const [key, value] of Object.entries(config)) {
    const parts = key.split(".");
    const last = parts.pop();
    parts.reduce((place, part) => (place[part] ??= Object.create(null)), out)[last] = value;
  }
  return out;
}

/**
 * Run a model.
 * @param {object} ort the package: onnxruntime-node or onnxruntime-web.
 * @param {Record<string, {dtype: string, shape: number[], data: ArrayBufferView}>} inputs by name.
 * @returns {Promise<Record<string, {dtype: string, shape: number[], data: ArrayBufferView}>>} outputs by name.
 * @throws {BundleError} if the model does not take them, or fails.
 */
export async function runSession(ort, session, inputs) {
  const outputs = {};
  try {
    const feeds = {};
    for (const [name, { dtype, shape, data }] of Object.entries(inputs)) feeds[name] = new ort.Tensor(dtype, data, shape);
    for (const [name, tensor] of Object.entries(await session.run(feeds))) {
      outputs[name] = { dtype: tensor.type, shape: [...tensor.dims], data: await tensor.getData() };
    }
  } catch (error) {
    throw new BundleError(`the model failed: ${error.message.replace(/\s+/g, " ")}`);
  }
  return outputs;
}
