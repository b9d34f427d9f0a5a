// Masks while the pointer moves. One request is on its way at most and only the newest place waits; places are rounded
// to a grid, so that coming back costs nothing. What is on its way is given up when the pointer leaves or the question
// changes.

const GRID = 64;      // places along the longer side
const REMEMBERED = 600;

export class Preview {
  #known = new Map();
  #flight = null;
  #waiting = null;

  // `request(prompt, signal)` gives a mask; `draw(mask)` shows it, null hides it.
  constructor(request, draw) {
    this.request = request;
    this.draw = draw;
  }

  // Forgets everything: the picture, or what is already pointed at, is another.
  reset() {
    this.leave();
    this.#known.clear();
  }

  leave() {
    this.#flight?.abort();
    this.#flight = null;
    this.#waiting = null;
    this.draw(null);
  }

  // A point at a place, with the hint so far.
  at(x, y, include, { width, height }, hint) {
    const step = Math.max(width, height) / GRID;
    const place = (value, most) => Math.min(most, (Math.floor(value / step) + 0.5) * step);
    const point = [place(x, width), place(y, height), include ? 1 : 0];
    const key = point.join();
    const asked = performance.now();
    if (this.#known.has(key)) {
      this.#waiting = null;
      this.#show(this.#known.get(key), asked);
    } else {
      this.#waiting = { key, asked, prompt: { ...hint, points: [...(hint.points || []), point] } };
      this.#send();
    }
  }

  async #send() {
    if (this.#flight || !this.#waiting) return;
    const { key, asked, prompt } = this.#waiting;
    const flight = new AbortController();
    this.#waiting = null;
    this.#flight = flight;
    const mask = await this.request(prompt, flight.signal).catch(() => null);  // a preview that fails is no loss
    if (this.#flight !== flight) return;
    this.#flight = null;
    if (mask) {
      if (this.#known.size >= REMEMBERED) this.#known.delete(this.#known.keys().next().value);
      this.#known.set(key, mask);
      this.#show(mask, asked);
    }
    this.#send();
  }

  // The time from the pointer to the mask is kept as a performance mark, for whoever measures.
  #show(mask, asked) {
    this.draw(mask);
    performance.mark("virtue:hover", { detail: { milliseconds: performance.now() - asked } });
  }
}
