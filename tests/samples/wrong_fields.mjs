/**
 * node wrong_fields.mjs samples/javascript BUNDLE: every field of the manifest is replaced by something else, in turn.
 * What follows may be well or a BundleError, and never any other error. Prints how many were tried and how many refused.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [samples, directory] = process.argv.slice(2);
const { BundleError, checkGolden, openBundle, sessionOptions } = await import(pathToFileURL(join(samples, "index.mjs")));
const WRONG = [null, undefined, true, -1, 0.5, 1e300, "", "x", [], [[]], {}, { x: { x: 1 } }, "__proto__"];
const machine = { provider: "CPUExecutionProvider", onnxruntime: "1.30.0", cpu: "this CPU", flags: null };
const picture = { data: new Uint8Array(4), width: 1, height: 1 };
const text = await readFile(join(directory, "manifest.json"), "utf8");

/** Where every value stands, as the keys that lead to it. */
function* places(value, before = []) {
  if (typeof value !== "object" || value === null) return;
  for (const key of Object.keys(value)) {
    yield [...before, key];
    yield* places(value[key], [...before, key]);
  }
}

function changed(keys, wrong) {
  const manifest = JSON.parse(text);
  const last = keys.at(-1);
  keys.slice(0, -1).reduce((place, key) => place[key], manifest)[last] = wrong;
  return manifest;
}

async function use(manifest) {
  const read = async (path) => (path === "manifest.json" ? Buffer.from(JSON.stringify(manifest)) : readFile(join(directory, path)));
  const bundle = await openBundle(read, machine);
  const variant = bundle.variant();
  sessionOptions(variant, ["cpu"], (await bundle.model(variant)).externalData);
  await checkGolden(bundle, variant, async () => ({}), { decode: async () => picture });
}

sessionOptions({ session: { config: { "__proto__.polluted": "1", "constructor.prototype.polluted": "1" } } }, []);

let [tried, refused] = [0, 0];
for (const keys of places(JSON.parse(text))) {
  for (const wrong of WRONG) {
    tried++;
    try {
      await use(changed(keys, wrong));
    } catch (error) {
      refused++;
      const known = error instanceof BundleError || typeof error.code === "string"; // the latter: of the file system
      if (!known || error.message.includes("\n")) throw new Error(`${keys.join(".")} = ${JSON.stringify(wrong)}`, { cause: error });
    }
  }
}
if ({}.polluted !== undefined || Object.keys(Object.prototype).length) throw new Error("a manifest changed Object.prototype");
console.log(tried, refused);
