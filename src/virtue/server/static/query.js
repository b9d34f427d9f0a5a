// What is asked: a picture, a visual prompt on it, words. It tells who listens what changed, and can go back.

const MOST_STEPS = 200;

export class Query extends EventTarget {
  picture = null;   // { id, width, height, name, path | file, address }
  points = [];      // [x, y, 1 to include or 0 to exclude], source pixels
  box = null;       // [x1, y1, x2, y2], source pixels
  mask = null;      // { size: [height, width], counts }
  text = "";
  mode = "find";    // or "name"
  kind = "auto";    // of results: "image", "region", or what fits the question
  captions = [];
  #past = [];

  get hasHint() {
    return Boolean(this.points.length || this.box || this.mask);
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  // Whether a hint means anything: points that only exclude say nothing about what is meant.
  get means() {
    return Boolean(this.points.some((point) => point[2]) || this.box || this.mask);
  }

  hint(extra = null) {
    const points = extra ? [...this.points, extra] : this.points;
    return {
      ...(points.length ? { points } : {}),
      ...(this.box ? { box: this.box } : {}),
      ...(this.mask ? { mask: this.mask } : {}),
    };
  }

  change(values) {
    this.#past.push({ points: this.points, box: this.box, mask: this.mask });
    if (this.#past.length > MOST_STEPS) this.#past.shift();
    Object.assign(this, values);
    this.#tell("hint");
  }

  undo() {
    if (!this.canUndo) return;
    Object.assign(this, this.#past.pop());
    this.#tell("hint");
  }

  addPoint(x, y, include) {
    this.change({ points: [...this.points, [rounded(x), rounded(y), include ? 1 : 0]] });
  }

  clear() {
    if (this.hasHint) this.change({ points: [], box: null, mask: null });
  }

  // Another picture begins anew; `hint` is what is pointed at in it from the start.
  open(picture, hint = {}) {
    this.#past = [];
    Object.assign(this, { picture, points: hint.points || [], box: hint.box || null, mask: hint.mask || null });
    this.#tell("picture");
  }

  set(name, value) {
    if (this[name] === value) return;
    this[name] = value;
    this.#tell(name);
  }

  #tell(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }
}

export function rounded(value) {
  return Math.round(10 * value) / 10;
}
