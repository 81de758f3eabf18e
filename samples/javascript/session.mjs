/** What onnxruntime-node and onnxruntime-web have in common: options, and arrays in and out. */
import { BundleError } from "./manifest.mjs";

/**
 * A variant's session options, in JavaScript's words.
 * @param {{path: string, data: Uint8Array}[]} externalData weights that are not in the model's file.
 */
export function sessionOptions(variant, executionProviders, externalData = []) {
  const { graph_optimization_level: level = "all", intra_op_threads: threads, config = {} } = variant.session ?? {};
  const entries = variant.format === "ort" ? { ...config, "session.load_model_format": "ORT" } : config;
  return {
    executionProviders,
    graphOptimizationLevel: level === "disable" ? "disabled" : level,
    ...(threads ? { intraOpNumThreads: threads } : {}),
    ...(externalData.length ? { externalData } : {}),
    ...(Object.keys(entries).length ? { extra: nested(entries) } : {}),
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
