/**
 * Models that only who has the key can read: AES-256-GCM, a file by itself. 12 bytes of nonce, the ciphertext, 16 bytes of
 * tag; bound to the bundle and to the file's place in it. Source: NIST SP 800-38D.
 */
import { BundleError } from "./manifest.mjs";

const ALGORITHM = "AES-256-GCM";
const [KEY_BYTES, NONCE_BYTES] = [32, 12];

/**
 * What a sealed file holds, in memory.
 * @param {Uint8Array} bytes of the file.
 * @param {Uint8Array} key
 * @param {{algorithm: string, bundle_id: string}} how the manifest's `encrypted`.
 * @param {string} path of the file in the bundle.
 * @throws {BundleError} if the key is another one, or the file was changed or is of another place.
 */
export async function openSealed(bytes, key, { algorithm, bundle_id: bundle }, path) {
  if (algorithm !== ALGORITHM) throw new BundleError(`${path} is encrypted by ${algorithm}; this sample opens ${ALGORITHM}`);
  if (key.byteLength !== KEY_BYTES) throw new BundleError(`the key has ${key.byteLength} bytes; ${ALGORITHM} takes ${KEY_BYTES}`);
  const { subtle } = globalThis.crypto;
  const imported = await subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const bound = new TextEncoder().encode(`edgekit-bundle:${bundle}:${path}`);
  try {
    const how = { name: "AES-GCM", iv: bytes.slice(0, NONCE_BYTES), additionalData: bound };
    return new Uint8Array(await subtle.decrypt(how, imported, bytes.slice(NONCE_BYTES)));
  } catch {
    throw new BundleError(`${path} does not open with this key: it is another key, or the file is of another bundle or was changed`);
  }
}
