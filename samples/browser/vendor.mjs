/** Copy what the page loads out of node_modules into site/vendor, so that any static server can serve `site`. */
import { copyFileSync, mkdirSync, readdirSync, realpathSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ORT = [
  ...["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"], // a page on the CPU needs these
  ...["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"], // ?ep=webgpu
];

function copy(from, to, names) {
  mkdirSync(to, { recursive: true });
  for (const name of names) {
    const partial = join(to, `.${name}.${process.pid}`); // a server may be giving the old one out
    copyFileSync(join(from, name), partial);
    renameSync(partial, join(to, name));
  }
}

const bundle = realpathSync(join(HERE, "node_modules/edgekit-bundle"));
copy(join(HERE, "node_modules/onnxruntime-web/dist"), join(HERE, "site/vendor/ort"), ORT);
copy(bundle, join(HERE, "site/vendor/edgekit-bundle"), readdirSync(bundle).filter((name) => name.endsWith(".mjs")));
