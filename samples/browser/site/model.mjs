/** The bundle in the browser: which runtime, which variant, and what it answers. */
import { BundleError, checkGolden, openBundle, openZip, prepareImage, refuseSeveral, runSession, sessionOptions } from "edgekit-bundle";

const VENDOR = new URL("./vendor/ort/", import.meta.url).href;
const PROVIDERS = { wasm: "CPUExecutionProvider", webgpu: "WebGpuExecutionProvider" };
/** Its sums of uint8 times int8 do not saturate, which is what a variant wants VNNI for. It has nothing else. */
const WEBASSEMBLY = { cpu: "WebAssembly", flags: new Set(["vnni"]) };

/**
 * Open the bundle at a URL.
 * @param {{ep?: string, variant?: string}} asked as the page's address says; what cannot be had is an error, not another.
 * @throws {BundleError}
 */
export async function openModel(url, { ep = "wasm", variant }) {
  if (!Object.hasOwn(PROVIDERS, ep)) throw new BundleError(`unknown ep '${ep}'; allowed: ${Object.keys(PROVIDERS).join(", ")}`);
  const ort = await runtime(ep);
  const machine = { provider: PROVIDERS[ep], onnxruntime: ort.env.versions.web, ...WEBASSEMBLY };
  const bundle = await openBundle(await filesOf(url), machine);
  return new Model(ort, ep, bundle, bundle.variant(variant)).load();
}

async function runtime(ep) {
  if (ep === "webgpu" && !(await navigator.gpu?.requestAdapter())) {
    throw new BundleError("this browser has no WebGPU adapter; open the page without ?ep=webgpu to run on the CPU");
  }
  const ort = await import(ep === "webgpu" ? "onnxruntime-web/webgpu" : "onnxruntime-web");
  ort.env.wasm.wasmPaths = VENDOR;
  ort.env.logLevel = "error";
  if (!self.crossOriginIsolated) ort.env.wasm.numThreads = 1; // threads need the two headers that serve.py sends
  return ort;
}

/** How the files of a bundle are read: out of a directory, or of a .zip that is fetched whole. */
async function filesOf(url) {
  if (url.pathname.endsWith(".zip")) return openZip(await fetched(url), url.pathname);
  const directory = url.href.replace(/\/*$/, "/");
  return (path) => fetched(new URL(path, directory), path);
}

async function fetched(url, name = url.pathname) {
  const answer = await fetch(url);
  if (!answer.ok) throw new BundleError(`${name} cannot be fetched: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

class Model {
  #ort;
  #session;
  #last = Promise.resolve(); // of the runs: WebGPU's do not mix

  constructor(ort, ep, bundle, variant) {
    this.#ort = ort;
    this.ep = ep;
    this.bundle = bundle;
    this.variant = variant;
  }

  async load() {
    this.#session = await this.#open(this.variant);
    return this;
  }

  get manifest() {
    return this.bundle.manifest;
  }

  /** What the CPU part of the runtime uses, in words. */
  get threads() {
    const count = this.#ort.env.wasm.numThreads || Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2));
    return `${count} thread${count === 1 ? "" : "s"}` + (self.crossOriginIsolated ? "" : " (the page is not isolated)");
  }

  /**
   * Prepare a picture and run the model on it.
   * @param {ImageData} picture
   * @returns {Promise<{values: ArrayLike<number>, prepared: Float32Array, milliseconds: number}>}
   */
  async answer(picture) {
    const { preprocessing, postprocessing, outputs } = this.manifest;
    const start = performance.now();
    const prepared = prepareImage(picture, preprocessing);
    const shape = [1, preprocessing.channels, preprocessing.height, preprocessing.width];
    const inputs = { [preprocessing.input]: { dtype: "float32", shape, data: prepared } };
    const found = await this.#run(this.#session, inputs);
    const values = found[postprocessing?.output || outputs[0].name].data;
    return { values, prepared, milliseconds: performance.now() - start };
  }

  /** The variants that do not run here, and why. */
  get leftOut() {
    return this.manifest.variants.map((each) => ({ name: each.name, reason: this.bundle.whyNot(each) })).filter(({ reason }) => reason);
  }

  /** The golden samples of every variant that runs here. */
  async check() {
    const rows = [];
    for (const variant of this.bundle.variants) {
      const session = variant === this.variant ? this.#session : await this.#open(variant);
      rows.push(...(await checkGolden(this.bundle, variant, (inputs) => this.#run(session, inputs), { decode })));
      if (session !== this.#session) await session.release();
    }
    return rows;
  }

  /** One run after the other, whether the one before went well or not. */
  #run(session, inputs) {
    const next = () => runSession(this.#ort, session, inputs);
    const run = this.#last.then(next, next);
    this.#last = run;
    return run;
  }

  async #open(variant) {
    const { model, externalData } = await this.bundle.model(variant);
    try {
      return await this.#ort.InferenceSession.create(model, sessionOptions(variant, [this.ep], externalData));
    } catch (error) {
      throw new BundleError(`ONNX Runtime Web does not load ${variant.file} on ${this.ep}: ${error.message.replace(/\s+/g, " ")}`);
    }
  }
}

/**
 * A picture file's pixels as they are stored, turned upright as its EXIF says; no colour management.
 * @throws {BundleError} if it is an animation.
 */
export async function decode(file) {
  refuseSeveral(file instanceof Blob ? new Uint8Array(await file.arrayBuffer()) : file, file.name ?? "the picture");
  const blob = file instanceof Blob ? file : new Blob([file]);
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(blob, options);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
