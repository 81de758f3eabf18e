/** The square that is drawn on: white on black, as the digits that models are trained on. */
const STROKE = 0.14; // of the pad's edge

export class Pad {
  #context;
  #last = null;
  #changed;

  /** @param {() => void} changed called after each stroke's step. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { willReadFrequently: true });
    this.#changed = changed;
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.#start(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.#last = null));
  }

  /** Whether strokes are taken; pictures always are. */
  set open(open) {
    this.canvas.classList.toggle("closed", !open);
  }

  clear() {
    this.#context.fillStyle = "#000";
    this.#context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  pixels() {
    return this.#context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Show a picture, whole, in the middle, on the grey that the model has behind it; the model gets the picture itself. */
  async show(picture, background = 255) {
    const { width, height } = this.canvas;
    const scale = Math.min(width / picture.width, height / picture.height);
    const [w, h] = [picture.width * scale, picture.height * scale];
    this.clear();
    this.#context.fillStyle = `rgb(${background} ${background} ${background})`;
    this.#context.fillRect((width - w) / 2, (height - h) / 2, w, h);
    this.#context.imageSmoothingEnabled = scale < 1;
    this.#context.drawImage(await createImageBitmap(picture), (width - w) / 2, (height - h) / 2, w, h);
  }

  #start(event) {
    if (this.canvas.classList.contains("closed")) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#last = this.#place(event);
    this.#line(this.#last, this.#last);
  }

  #move(event) {
    if (!this.#last) return;
    const place = this.#place(event);
    this.#line(this.#last, place);
    this.#last = place;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #line(from, to) {
    Object.assign(this.#context, { strokeStyle: "#fff", lineWidth: STROKE * this.canvas.width, lineCap: "round", lineJoin: "round" });
    this.#context.beginPath();
    this.#context.moveTo(...from);
    this.#context.lineTo(...to);
    this.#context.stroke();
    this.#changed();
  }
}
