/** Which variants of a bundle a machine runs. */

/**
 * @typedef {object} Machine
 * @property {string} provider ONNX Runtime's name of what models run on, such as CPUExecutionProvider.
 * @property {string} onnxruntime its version.
 * @property {string} cpu what to call the CPU in messages.
 * @property {Set<string> | null} flags what that CPU has, in Linux's words; null where nobody knows.
 */

/** A CPU has a feature under any of these names. ARM's sums of int8 do not saturate, so they need no VNNI. */
const ALSO = {
  vnni: ["avx512_vnni", "avx_vnni", "amx_int8", "asimd"],
  avx512_vnni: ["avx_vnni"],
  neon: ["asimd"],
  neon_dotprod: ["asimddp"],
  neon_i8mm: ["i8mm"],
};

/**
 * Why a variant cannot run on a machine; "" if nothing speaks against a try.
 * @param {object} variant of the manifest.
 * @param {Machine} machine
 */
export function whyNot(variant, { provider, onnxruntime, cpu, flags }) {
  const { providers, minimum_onnxruntime: oldest, cpu_features: features } = variant;
  if (!providers.includes(provider)) return `it is for ${providers.join(", ")}, and this is ${provider}`;
  if (oldest && isOlder(onnxruntime, oldest)) return `it needs ONNX Runtime ${oldest} or newer, and ${onnxruntime} is installed`;
  const lacking = provider === "CPUExecutionProvider" && flags ? (features ?? []).filter((name) => !has(flags, name)) : [];
  return lacking.length ? `${cpu} has no ${lacking.join(", ")}` : "";
}

/** By the first two numbers: 1.9.0 is older than 1.17. */
function isOlder(version, wanted) {
  const [a, b] = [version, wanted].map((words) => (words.match(/\d+/g) ?? []).map(Number));
  return a[0] === b[0] ? (a[1] ?? 0) < (b[1] ?? 0) : a[0] < b[0];
}

function has(flags, feature) {
  const flag = feature.toLowerCase().replaceAll("-", "_");
  return [flag, ...(ALSO[flag] ?? [])].some((name) => flags.has(name));
}
