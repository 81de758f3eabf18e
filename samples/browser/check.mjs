/** node check.mjs BUNDLE: the page in headless Chromium; see README.md. */
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const VERDICT_NO = 3;
const MOST_SECONDS = 90;
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/** Strokes of a seven, in parts of the pad's edge. */
const SEVEN = [[0.22, 0.12], [0.78, 0.12], [0.45, 0.9]];

const { values, positionals } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    address: { type: "string", default: "" }, // such as "?variant=int8"
    "software-gpu": { type: "boolean", default: false },
    screenshot: { type: "string" },
    drawing: { type: "string" }, // where to put what was drawn, as PNG
  },
  allowPositionals: true,
});

async function serve(bundle) {
  const script = fileURLToPath(new URL("serve.py", import.meta.url));
  const server = spawn("python3", [script, bundle, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) return { server, url: line };
  throw new Error("serve.py did not start");
}

async function draw(page) {
  const box = await page.locator("#pad").boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  await page.mouse.move(...at(SEVEN[0]));
  await page.mouse.down();
  for (const point of SEVEN.slice(1)) await page.mouse.move(...at(point), { steps: 12 });
  await page.mouse.up();
  await page.waitForTimeout(100); // the last answer
}

/** What the page shows, read from it. */
async function read(page) {
  return page.evaluate(() => ({
    ready: document.body.dataset.ready,
    message: document.getElementById("message").hidden ? "" : document.getElementById("message").textContent,
    facts: document.getElementById("facts").textContent,
    isolated: crossOriginIsolated,
    bars: [...document.querySelectorAll("#bars li")].map((row) => [
      row.querySelector(".label").textContent,
      row.querySelector(".number").textContent,
    ]),
    verdict: document.getElementById("verdict").textContent,
  }));
}

async function golden(page) {
  return page.evaluate(async () => {
    const rows = await globalThis.sample.check();
    const plain = (outputs) => Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Array.from(v.data, Number)]));
    return rows.map(({ outputs, ...row }) => ({ ...row, outputs: plain(outputs) }));
  });
}

/** What serve.py printed, with what was asked for beside it. */
function withAddress(url) {
  const full = new URL(url);
  for (const [key, value] of new URLSearchParams(values.address)) full.searchParams.set(key, value);
  return full.href;
}

async function visit(page, url) {
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(withAddress(url));
  await page.waitForFunction(() => document.body.dataset.ready, null, { timeout: 1000 * MOST_SECONDS });
  const found = await read(page);
  if (found.ready === "failed") return { ...found, errors, golden: [] };
  if (found.ready === "classes") await draw(page);
  if (values.drawing) {
    const data = await page.evaluate(() => document.getElementById("pad").toDataURL("image/png"));
    writeFileSync(values.drawing, Buffer.from(data.split(",")[1], "base64"));
  }
  await page.click("#prove");
  await page.waitForFunction(() => document.getElementById("verdict").textContent, null, { timeout: 1000 * MOST_SECONDS });
  if (values.screenshot) await page.screenshot({ path: values.screenshot, fullPage: true });
  return { ...(await read(page)), errors, golden: await golden(page) };
}

function report(found) {
  if (values.json) return console.log(JSON.stringify(found));
  for (const { ok, name, detail } of found.golden) console.log(`${ok ? "ok  " : "FAIL"} ${name}: ${detail}`);
  console.log(found.message || found.facts);
}

function deadline() {
  const late = (done, fail) => setTimeout(() => fail(new Error(`the page was not done in ${MOST_SECONDS} s`)), 1000 * MOST_SECONDS).unref();
  return new Promise(late);
}

/** Chromium's sandbox does not work for root; a GPU in software is off unless it is asked for. */
function flags() {
  const webgpu = values["software-gpu"] ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : [];
  return [...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), ...webgpu];
}

async function main() {
  if (positionals.length !== 1) {
    console.error("usage: node check.mjs BUNDLE [--json] [--address '?ep=webgpu'] [--software-gpu] [--screenshot F.png] [--drawing F.png]");
    return 2;
  }
  const executablePath = process.env.CHROMIUM ?? BROWSERS.find(existsSync);
  if (!executablePath) throw new Error(`no Chromium at ${BROWSERS.join(", ")}; name one in CHROMIUM`);
  const { server, url } = await serve(positionals[0]);
  const browser = await chromium.launch({ executablePath, args: flags() });
  try {
    const page = await browser.newPage({ viewport: { width: 900, height: 820 }, deviceScaleFactor: 2 });
    const found = await Promise.race([visit(page, url), deadline()]);
    report(found);
    return found.golden.length && found.golden.every(({ ok }) => ok) && !found.errors.length ? 0 : VERDICT_NO;
  } finally {
    await browser.close();
    server.kill();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
