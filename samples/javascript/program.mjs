/** What the samples in Node have in common: their arguments, a bundle's files, and how they end. */
import { webcrypto } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BundleError, openZip } from "./index.mjs";

globalThis.crypto ??= webcrypto; // Node 18 has it by this name only

const [FAILED, USAGE, VERDICT_NO] = [1, 2, 3];
const HEX = /^[0-9a-f]{64}$/i;

class UsageError extends Error {}

/**
 * Read `BUNDLE INPUT ... | --golden` and what all samples take.
 * @param {string} usage said where they are no such.
 * @param {object} more options of this sample, as `parseArgs` takes them.
 */
export function readArguments(usage, more = {}) {
  const options = {
    golden: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    variant: { type: "string" },
    top: { type: "string", default: "3" },
    ...more,
  };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [place, ...inputs] = positionals;
  if (!place || values.golden === inputs.length > 0) throw new UsageError(usage);
  return { ...values, place, inputs };
}

/**
 * How the files of a bundle are read: out of a directory or a .zip.
 * @returns {Promise<(path: string) => Promise<Uint8Array>>}
 */
export async function filesOf(place) {
  const isFile = (await stat(place)).isFile();
  return isFile ? openZip(await readFile(place), place) : (path) => readFile(join(place, path));
}

/**
 * The key of encrypted models: 32 bytes, or 64 hexadecimal digits; undefined where none is named.
 * @throws {BundleError} if it is none; the message never holds it.
 */
export async function readKey(file, variable) {
  if (file) return asKey(await readFile(file), `key file ${file}`);
  if (!variable) return undefined;
  if (!(variable in process.env)) throw new BundleError(`environment variable ${variable} is not set; it must hold the key, 64 hexadecimal digits`);
  return asKey(Buffer.from(process.env[variable]), `environment variable ${variable}`);
}

function asKey(content, where) {
  if (content.length === 32) return content;
  const words = content.toString("latin1").trim();
  if (HEX.test(words)) return Buffer.from(words, "hex");
  throw new BundleError(`${where} holds ${content.length} bytes that are no key; a key is 32 bytes, or 64 hexadecimal digits`);
}

/** Print the rows of a golden check, and say by the exit code whether all agree. */
export function tellRows(rows, plain, json) {
  if (json) console.log(JSON.stringify(rows.map(plain)));
  else for (const { ok, name, detail } of rows) console.log(`${ok ? "ok  " : "FAIL"} ${name}: ${detail}`);
  return rows.every(({ ok }) => ok) ? 0 : VERDICT_NO;
}

/** Run a sample: what it gives is the exit code; what a user can mend is one line. */
export async function runProgram(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    process.exitCode = codeOf(error);
  }
}

function codeOf(error) {
  const usage = error instanceof UsageError || error.code?.startsWith?.("ERR_PARSE_ARGS");
  if (!usage && !(error instanceof BundleError || typeof error.code === "string")) throw error;
  console.error(error instanceof UsageError ? error.message : `error: ${error.message}`);
  return usage ? USAGE : FAILED;
}
