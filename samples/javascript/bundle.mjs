/** A bundle: its manifest, and files that are what the manifest says they are. */
export class BundleError extends Error {}

const SCHEMA_VERSION = 1;
/** A manifest is a foreign file: it may not lead out of its bundle. */
const OUTSIDE = /^\/|^[a-z]+:|\\|(^|\/)\.\.(\/|$)/i;
const REQUIRED = ["name", "inputs", "outputs", "variants", "golden", "files"];

/**
 * Open a bundle.
 * @param {(path: string) => Promise<Uint8Array>} read gives the bytes of a file, named as in the manifest.
 * @returns {Promise<Bundle>}
 * @throws {BundleError} if the manifest is none that this code understands.
 */
export async function openBundle(read) {
  return new Bundle(parseManifest(await read("manifest.json")), read);
}

/** @throws {BundleError} */
function parseManifest(bytes) {
  const manifest = parseJson(bytes);
  if (manifest?.schema_version !== SCHEMA_VERSION) {
    throw new BundleError(
      `manifest.json has schema_version ${manifest?.schema_version}; this sample reads ${SCHEMA_VERSION}: ` +
        "take the sample of the edgekit that packed the bundle",
    );
  }
  const missing = REQUIRED.filter((key) => !(key in manifest));
  if (missing.length) throw new BundleError(`manifest.json lacks ${missing.join(", ")}; pack the bundle again`);
  return manifest;
}

function parseJson(bytes) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new BundleError(`manifest.json is no UTF-8 JSON (${error.message})`);
  }
}

class Bundle {
  #read;

  constructor(manifest, read) {
    this.manifest = manifest;
    this.#read = read;
  }

  /**
   * The bytes of a file that the manifest lists.
   * @throws {BundleError} if it is not listed, or its size or sha256 differ.
   */
  async bytes(path) {
    if (OUTSIDE.test(path)) throw new BundleError(`manifest.json names ${path}, which is outside of the bundle`);
    const said = this.manifest.files[path];
    if (!said) throw new BundleError(`manifest.json does not list ${path}`);
    const bytes = await this.#read(path);
    if (bytes.byteLength !== said.bytes) {
      throw new BundleError(`${path} has ${bytes.byteLength} bytes; manifest.json says ${said.bytes}`);
    }
    if ((await sha256(bytes)) !== said.sha256) {
      throw new BundleError(`${path} is not the file that was packed: its sha256 differs from the manifest's`);
    }
    return bytes;
  }

  /**
   * A variant's model, and the weights that lie beside it.
   * @returns {Promise<{model: Uint8Array, externalData: {path: string, data: Uint8Array}[]}>}
   */
  async model({ file }) {
    const folder = file.slice(0, file.lastIndexOf("/") + 1);
    const beside = Object.keys(this.manifest.files).filter((path) => path.startsWith(folder) && !/\.(onnx|ort|enc)$/.test(path));
    const externalData = [];
    for (const path of beside) externalData.push({ path: path.slice(folder.length), data: await this.bytes(path) });
    return { model: await this.bytes(file), externalData };
  }

  /** The variants that ONNX Runtime can load from plain bytes with this provider. */
  variantsFor(provider) {
    return this.manifest.variants.filter((variant) => !variant.encrypted && variant.providers.includes(provider));
  }

  /**
   * A variant by name, or the first for a provider.
   * @throws {BundleError} if there is none.
   */
  variant(name, provider) {
    const usable = this.variantsFor(provider);
    const found = name ? usable.find((variant) => variant.name === name) : usable[0];
    if (found) return found;
    const names = usable.map((variant) => variant.name).join(", ") || "none";
    const wanted = name ? `variant '${name}'` : "variant";
    throw new BundleError(`the bundle has no ${wanted} for ${provider} that is not encrypted; there is: ${names}`);
  }
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new BundleError("hashes cannot be checked here: browsers give crypto.subtle to https and localhost only");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
