// A mask painted by hand, on a canvas over the picture.

import { encode, sampled } from "./masks.js";

const MOST = 1024;  // pixels along the longer side of the canvas; larger masks are scaled from it

export class Brush {
  size = 8;         // per cent of the picture's longer side
  #shown = null;    // the mask that the canvas shows
  #last = null;
  #erases = false;

  constructor(canvas, query) {
    this.canvas = canvas;
    this.query = query;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
  }

  fit(width, height) {
    const scale = Math.min(1, MOST / Math.max(width, height));
    this.source = { width, height };
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    this.#shown = null;
  }

  // Shows the query's mask where another is shown; a stroke on its way is left alone.
  draw() {
    const { mask } = this.query;
    if (this.#last || this.#shown === mask || !this.source) return;
    this.#shown = mask;
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    if (!mask) return;
    const set = sampled(mask, width, height);
    const pixels = this.context.createImageData(width, height);
    for (let at = 0; at < set.length; at += 1) if (set[at]) pixels.data.set([255, 196, 61, 255], 4 * at);
    this.context.putImageData(pixels, 0, 0);
  }

  begin(place, erases) {
    this.#erases = erases;
    this.#last = this.#scaled(place);
    this.#stroke(this.#last);
  }

  go(place) {
    if (this.#last) this.#stroke(this.#scaled(place));
  }

  // The mask that is painted now; null when nothing is.
  end() {
    this.#last = null;
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    const across = width / this.source.width;
    const down = height / this.source.height;
    let count = 0;
    const mask = encode(this.source.width, this.source.height, (x, y) => {
      const isSet = data[4 * (Math.floor((y + 0.5) * down) * width + Math.floor((x + 0.5) * across)) + 3] > 127;
      count += isSet;
      return isSet;
    });
    this.#shown = count ? mask : null;
    return this.#shown;
  }

  #scaled([x, y]) {
    return [(x * this.canvas.width) / this.source.width, (y * this.canvas.height) / this.source.height];
  }

  #stroke(to) {
    const { context } = this;
    context.globalCompositeOperation = this.#erases ? "destination-out" : "source-over";
    context.strokeStyle = "rgb(255 196 61)";
    context.lineCap = "round";
    context.lineJoin = "round";
    context.lineWidth = Math.max(1, (this.size / 100) * Math.max(this.canvas.width, this.canvas.height));
    context.beginPath();
    context.moveTo(...this.#last);
    context.lineTo(to[0] + 0.01, to[1]);  // a line without length is not drawn
    context.stroke();
    context.globalCompositeOperation = "source-over";
    this.#last = to;
  }
}
