/** The page: what is drawn or chosen goes to the model, and its answer into bars. */
import { topClasses } from "edgekit-bundle";
import { decode, openModel } from "./model.mjs";
import { Pad } from "./pad.mjs";

const MOST_BARS = 10;
const byId = (id) => document.getElementById(id);

async function main() {
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  const model = await openModel(new URL(asked.bundle ?? "bundle/", location.href), asked);
  showFacts(model);
  const classes = prepareInput(model);
  byId("prove").addEventListener("click", () => guarded(() => prove(model)));
  globalThis.sample = { check: () => model.check() }; // for check.mjs
  document.body.dataset.ready = classes ? "classes" : "golden";
}

function showFacts({ manifest, variant, ep, threads }) {
  document.title = `${manifest.name} · edgekit bundle`;
  byId("title").textContent = manifest.name;
  const parts = [manifest.family, manifest.task, manifest.version && `version ${manifest.version}`, manifest.license];
  byId("about").textContent = parts.filter(Boolean).join(" · ");
  const { name, size_bytes: size, metric } = variant;
  const facts = [
    `Variant ${name}` + (size ? `, ${(size / 1e6).toFixed(2)} MB` : ""),
    metric && `${metric.name} ${Number(metric.value.toPrecision(4))} on ${metric.n} samples`,
    `runs on ${ep}, ${threads}`,
    "hashes checked",
  ];
  byId("facts").textContent = facts.filter(Boolean).join(" · ");
}

/** Pad, file and drop; gives whether the bundle answers pictures with classes. */
function prepareInput(model) {
  const { preprocessing, postprocessing, classes } = model.manifest;
  const image = preprocessing?.kind === "image";
  if (!image || !["softmax", "sigmoid"].includes(postprocessing?.kind)) {
    for (const id of ["file", "clear"]) byId(id).disabled = true;
    byId("hint").textContent = "This bundle does not name pictures; its golden samples can be checked below.";
    new Pad(byId("pad"), () => {}).open = false;
    return false;
  }
  const update = oneAtATime(async (picture) => showAnswer(model, await model.answer(picture)));
  const pad = new Pad(byId("pad"), () => update(pad.pixels()));
  pad.open = preprocessing.channels === 1;
  byId("hint").textContent = preprocessing.channels === 1 ? "Draw here, or drop a picture." : "Choose a picture, or drop it here.";
  byId("clear").addEventListener("click", () => {
    pad.clear();
    showBars([], classes);
    byId("best").textContent = "";
    byId("seen").getContext("2d").clearRect(0, 0, byId("seen").width, byId("seen").height);
    byId("timing").textContent = "What the model sees";
  });
  takePictures(pad, async (file) => {
    const picture = await decode(file);
    await pad.show(picture, preprocessing.background);
    update(picture);
  });
  showBars([], classes);
  return true;
}

function takePictures(pad, take) {
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) guarded(() => take(target.files[0]));
    target.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    pad.canvas.addEventListener(name, (event) => {
      event.preventDefault();
      pad.canvas.classList.toggle("dropping", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) guarded(() => take(event.dataTransfer.files[0]));
    });
  }
}

/** While the model is busy only the newest picture waits. */
function oneAtATime(work) {
  let waiting = null;
  let busy = false;
  return async (next) => {
    waiting = next;
    if (busy) return;
    busy = true;
    while (waiting) {
      const picture = waiting;
      waiting = null;
      await guarded(() => work(picture));
    }
    busy = false;
  };
}

function showAnswer({ manifest }, { values, prepared, milliseconds }) {
  const answers = topClasses(values, manifest, Infinity);
  showBars(answers, manifest.classes);
  byId("best").textContent = `${answers[0].label} · ${percent(answers[0].probability)}`; // seen on a phone, where the bars are not
  showSeen(prepared, manifest.preprocessing);
  const { width, height } = manifest.preprocessing;
  byId("timing").textContent = `What the model sees: ${width} × ${height} pixels. Prepared and answered in ${milliseconds.toFixed(1)} ms.`;
}

/** Few classes stand in their own order, so that bars do not jump; of many the best are shown. */
function showBars(answers, classes) {
  const shown = rows(answers, classes ?? []);
  const best = answers[0]?.label;
  byId("bars").replaceChildren(...shown.map(({ label, probability }) => bar(label, probability, label === best)));
}

function rows(answers, classes) {
  if (answers.length > MOST_BARS || classes.length > MOST_BARS) return answers.slice(0, MOST_BARS);
  const of = new Map(answers.map(({ label, probability }) => [label, probability]));
  return classes.map((label) => ({ label, probability: of.get(label) }));
}

function bar(label, probability, best) {
  const row = document.createElement("li");
  row.className = best ? "best" : "";
  row.innerHTML = '<span class="label"></span><span class="track"><div class="fill"></div></span><span class="number"></span>';
  row.querySelector(".label").textContent = label;
  row.querySelector(".label").title = label;
  row.querySelector(".fill").style.width = `${100 * (probability ?? 0)}%`;
  row.querySelector(".number").textContent = probability === undefined ? "" : percent(probability);
  return row;
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

/** The model's input, turned back into pixels. */
function showSeen(prepared, { width, height, channels, scale, mean, std }) {
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let color = 0; color < 3; color++) {
      const channel = channels === 1 ? 0 : color;
      picture.data[4 * pixel + color] = (prepared[channel * width * height + pixel] * std[channel] + mean[channel]) / scale;
    }
    picture.data[4 * pixel + 3] = 255;
  }
  Object.assign(byId("seen"), { width, height });
  byId("seen").getContext("2d").putImageData(picture, 0, 0);
}

async function prove(model) {
  byId("prove").disabled = true;
  try {
    const found = await model.check();
    const good = found.filter(({ ok }) => ok).length;
    byId("proof").hidden = byId("verdict").hidden = false;
    byId("proof").tBodies[0].replaceChildren(...found.map(proofRow));
    byId("verdict").textContent =
      good === found.length ? `All ${good} agree within the bundle's tolerance.` : `${found.length - good} of ${found.length} differ.`;
    byId("verdict").className = good === found.length ? "good" : "bad";
    byId("left-out").textContent = model.leftOut.map(({ name, reason }) => `Left out ${name}: ${reason}.`).join(" ");
  } finally {
    byId("prove").disabled = false;
  }
}

function proofRow({ name, ok, error }) {
  const row = document.createElement("tr");
  for (const text of [name, error ? error.toExponential(1) : "0", ok ? "agrees" : "differs"]) row.insertCell().textContent = text;
  row.cells[2].className = ok ? "good" : "bad";
  return row;
}

async function guarded(work) {
  byId("message").hidden = true;
  try {
    await work();
  } catch (error) {
    byId("message").textContent = error.message;
    byId("message").hidden = false;
  }
}

byId("prove").disabled = true;
await guarded(async () => {
  await main();
  byId("prove").disabled = false;
});
if (!document.body.dataset.ready) {
  byId("about").textContent = "The bundle cannot be used here.";
  document.body.dataset.ready = "failed";
}
