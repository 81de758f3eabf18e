/** A bundle: its manifest, and files that are what the manifest says they are. */
import { whyNot } from "./machine.mjs";
import { BundleError, parseManifest } from "./manifest.mjs";
import { openSealed } from "./seal.mjs";

/** A manifest is a foreign file: it may not lead out of its bundle. */
const OUTSIDE = /^\/|^[a-z]+:|\\|(^|\/)\.\.(\/|$)/i;

/**
 * Open a bundle.
 * @param {(path: string) => Promise<Uint8Array>} read gives the bytes of a file, named as in the manifest.
 * @param {import("./machine.mjs").Machine} machine that it is to run on.
 * @param {Uint8Array} [key] of encrypted variants.
 * @returns {Promise<Bundle>}
 * @throws {BundleError} if the manifest is none that this code understands.
 */
export async function openBundle(read, machine, key) {
  return new Bundle(parseManifest(await read("manifest.json")), read, machine, key);
}

class Bundle {
  #read;
  #machine;
  #key;

  constructor(manifest, read, machine, key) {
    this.manifest = manifest;
    this.#read = read;
    this.#machine = machine;
    this.#key = key;
  }

  /**
   * The bytes of a file that the manifest lists.
   * @throws {BundleError} if it is not listed, or its size or sha256 differ.
   */
  async bytes(path) {
    if (OUTSIDE.test(path)) throw new BundleError(`manifest.json names ${path}, which is outside of the bundle`);
    if (!Object.hasOwn(this.manifest.files, path)) throw new BundleError(`manifest.json does not list ${path}`);
    const said = this.manifest.files[path];
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
  async model({ file, encrypted }) {
    const folder = file.slice(0, file.lastIndexOf("/") + 1);
    const beside = Object.keys(this.manifest.files).filter((path) => path.startsWith(folder) && !/\.(onnx|ort|enc)$/.test(path));
    const externalData = [];
    for (const path of beside) externalData.push({ path: path.slice(folder.length), data: await this.bytes(path) });
    const model = await this.bytes(file);
    return { model: encrypted ? await openSealed(model, this.#key, encrypted, file) : model, externalData };
  }

  /** Why a variant does not run here; "" if it does. */
  whyNot(variant) {
    if (variant.encrypted && !this.#key) return "it is encrypted, and there is no key";
    return whyNot(variant, this.#machine);
  }

  /** The variants that run here, in the manifest's order: the first is the one to take. */
  get variants() {
    return this.manifest.variants.filter((variant) => !this.whyNot(variant));
  }

  /**
   * A variant by name, or the first that runs here.
   * @throws {BundleError} if there is none; the message says why.
   */
  variant(name) {
    const { name: bundle, variants } = this.manifest;
    const asked = variants.filter((variant) => !name || variant.name === name);
    const found = asked.find((variant) => !this.whyNot(variant));
    if (found) return found;
    if (!asked.length) throw new BundleError(`bundle ${bundle} has no variant '${name}'; it has ${variants.map((each) => each.name).join(", ")}`);
    throw new BundleError(`bundle ${bundle} does not run here: ${asked.map((each) => `${each.name}: ${this.whyNot(each)}`).join("; ")}`);
  }
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new BundleError("hashes cannot be checked here: browsers give crypto.subtle to https and localhost only");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
