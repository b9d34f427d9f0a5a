// The picture and what is pointed at in it: gestures of mouse, finger and keyboard become changes of the query.

import { Brush } from "./brush.js";
import { closed } from "./outlines.js";
import { rounded } from "./query.js";

const LONG_PRESS = 450;  // milliseconds until a finger that rests excludes
const SLIP = 6;          // screen pixels that a click may slip before it is a drag
const SVG = "http://www.w3.org/2000/svg";

export class Stage {
  tool = "point";
  #press = null;
  #cursor = null;   // where the keyboard points, source pixels
  #corner = null;   // the first corner of a box that the keyboard draws

  // `on.hover(x, y, include)` and `on.leave()` ask for previews; `on.say(sentence)` tells a screen reader.
  constructor(root, query, on) {
    const find = (id) => root.querySelector(`#${id}`);
    this.frame = find("frame");
    this.image = find("image");
    this.marks = find("marks");
    this.query = query;
    this.on = on;
    this.brush = new Brush(find("paint"), query);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.frame);
  }

  // Shows a picture; its size in source pixels is known by then.
  show({ width, height }) {
    this.setRatio(width / height);
    this.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.brush.fit(width, height);
    this.#cursor = null;
    this.#corner = null;
    this.draw();
  }

  // Of width to height; the columns of the page depend on it too.
  setRatio(ratio) {
    document.body.style.setProperty("--ratio", ratio);
  }

  setTool(tool) {
    this.tool = tool;
    this.frame.dataset.tool = tool;
    this.#corner = null;
    this.on.leave();
    this.draw();
  }

  setMask(mask) {
    this.mask = mask;
    this.draw();
  }

  setPreview(mask) {
    this.preview = mask;
    this.draw();
  }

  // Drawing

  draw() {
    const { picture, points, box } = this.query;
    if (!picture?.width) return;
    const { width } = picture;
    const scale = width / (this.frame.clientWidth || width);  // source pixels in one of the screen
    const parts = [];
    if (this.mask?.outline) parts.push(stretched(picture, this.mask, spotlight));
    if (this.preview?.outline) parts.push(stretched(picture, this.preview, previewShapes));
    const drawn = this.#press?.box || this.#keyBox() || box;
    if (drawn) parts.push(...boxShapes(drawn));
    points.forEach(([x, y, label]) => parts.push(pointShape(x, y, label, scale)));
    if (this.#cursor) parts.push(cursorShape(...this.#cursor, scale));
    this.marks.replaceChildren(...parts);
    this.brush.draw();
  }

  #keyBox() {
    return this.#corner && this.#cursor ? ordered(this.#corner, this.#cursor) : null;
  }

  // Mouse and finger

  #listen() {
    const { frame } = this;
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    frame.addEventListener("pointerup", (event) => this.#up(event));
    frame.addEventListener("pointercancel", () => this.#drop());
    frame.addEventListener("pointerleave", () => { if (!this.#press) this.on.leave(); });
    frame.addEventListener("contextmenu", (event) => event.preventDefault());
    frame.addEventListener("keydown", (event) => this.#key(event));
    frame.addEventListener("blur", () => {
      this.#cursor = null;
      this.#corner = null;
      this.on.leave();
      this.draw();
    });
  }

  // Screen to source pixels, inside the picture.
  #place(event) {
    const { width, height } = this.query.picture;
    const frame = this.frame.getBoundingClientRect();
    const inside = (value, most) => rounded(Math.min(most, Math.max(0, value)));
    return [
      inside(((event.clientX - frame.left) / frame.width) * width, width),
      inside(((event.clientY - frame.top) / frame.height) * height, height),
    ];
  }

  #down(event) {
    if (!this.query.picture?.id || event.button > 2 || event.button === 1) return;
    const start = this.#place(event);
    this.#cursor = null;
    this.#corner = null;
    this.#press = { start, x: event.clientX, y: event.clientY, pointer: event.pointerId, excludes: this.#excludes(event) };
    if (this.#paints) {
      this.brush.begin(start, this.tool === "erase" || event.button === 2);
    } else if (event.pointerType === "touch" && this.tool === "point") {
      this.#press.timer = setTimeout(() => this.#longPress(), LONG_PRESS);
    }
    if (event.pointerType !== "touch" || this.tool !== "point") this.frame.setPointerCapture(event.pointerId);
  }

  get #paints() {
    return this.tool === "paint" || this.tool === "erase";
  }

  #excludes(event) {
    return event.shiftKey || event.button === 2 || this.tool === "exclude";
  }

  #longPress() {
    const { start } = this.#press;
    this.#press = null;
    this.query.addPoint(...start, false);
  }

  #move(event) {
    if (!this.query.picture?.id) return;
    const place = this.#place(event);
    if (!this.#press) {
      const wantsPreview = event.pointerType !== "touch" && (this.tool === "point" || this.tool === "exclude");
      if (wantsPreview) this.on.hover(...place, !this.#excludes(event));
    } else if (this.#paints) {
      this.brush.go(place);
    } else if (this.#press.box || this.#slipped(event)) {
      clearTimeout(this.#press.timer);
      this.on.leave();
      if (event.pointerType !== "touch" || this.tool === "box") this.#press.box = ordered(this.#press.start, place);
      this.draw();
    }
  }

  #slipped(event) {
    return Math.hypot(event.clientX - this.#press.x, event.clientY - this.#press.y) > SLIP;
  }

  #up(event) {
    const press = this.#press;
    if (!press) return;
    const hasSlipped = this.#slipped(event);
    this.#drop();
    if (this.#paints) {
      this.query.change({ mask: this.brush.end() });
    } else if (press.box) {
      if (isBox(press.box)) this.query.change({ box: press.box });
    } else if (this.tool === "box") {
      this.on.say("Drag from one corner of the thing to the other.");
    } else if (!hasSlipped) {
      this.query.addPoint(...press.start, !(press.excludes || event.shiftKey));
    }
    this.draw();
  }

  #drop() {
    if (!this.#press) return;
    clearTimeout(this.#press.timer);
    this.#press = null;
    this.draw();
  }

  // Keyboard: arrows move a cursor, Enter points with it

  #key(event) {
    const { picture } = this.query;
    if (!picture?.id || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (Math.max(picture.width, picture.height) / 100) * (event.shiftKey ? 8 : 2);
    const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (ways[event.key]) {
      event.preventDefault();
      this.#walk(...ways[event.key]);
    } else if ((event.key === "Enter" || event.key === " ") && this.#cursor) {
      event.preventDefault();
      this.#take(event.shiftKey || this.tool === "exclude");
    }
  }

  #walk(across, down) {
    const { width, height } = this.query.picture;
    const [x, y] = this.#cursor || [width / 2, height / 2];
    const within = (value, most) => rounded(Math.min(most, Math.max(0, value)));
    this.#cursor = [within(x + across, width), within(y + down, height)];
    this.on.say(`${Math.round(this.#cursor[0])}, ${Math.round(this.#cursor[1])}`);
    if (this.tool === "point" || this.tool === "exclude") this.on.hover(...this.#cursor, this.tool === "point");
    this.draw();
  }

  #take(excludes) {
    if (this.#paints) {
      this.brush.begin(this.#cursor, this.tool === "erase");
      this.query.change({ mask: this.brush.end() });
    } else if (this.tool !== "box") {
      this.query.addPoint(...this.#cursor, !excludes);
    } else if (!this.#corner) {
      this.#corner = this.#cursor;
      this.on.say("First corner of the box. Move to the other and press Enter.");
    } else {
      const box = this.#keyBox();
      this.#corner = null;
      if (isBox(box)) this.query.change({ box });
    }
    this.draw();
  }
}

function ordered([x1, y1], [x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

function isBox([x1, y1, x2, y2]) {
  return x2 - x1 >= 1 && y2 - y1 >= 1;
}

export function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Dims what lies outside an outline, and draws it.
export function spotlight(width, height, outline) {
  const edge = closed(outline);
  return [
    shape("path", { class: "dim", d: `M0 0H${width}V${height}H0Z${edge}`, "fill-rule": "evenodd" }),
    shape("path", { class: "edge under", d: edge }),
    shape("path", { class: "edge over", d: edge }),
  ];
}

function previewShapes(width, height, outline) {
  return [shape("path", { class: "preview", d: closed(outline), "fill-rule": "evenodd" })];
}

// What `draw(width, height, outline)` makes of an outline, as large as the picture: its mask may have fewer pixels.
function stretched(picture, { mask, outline }, draw) {
  const [height, width] = mask.size;
  const group = shape("g", { transform: `scale(${picture.width / width} ${picture.height / height})` });
  group.append(...draw(width, height, outline));
  return group;
}

export function boxShapes([x1, y1, x2, y2]) {
  const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  return [shape("rect", { class: "box under", ...place }), shape("rect", { class: "box over", ...place })];
}

// Plus and minus, so that colour is not all that tells them apart.
function pointShape(x, y, label, scale) {
  const group = shape("g", { class: label ? "spot include" : "spot exclude", transform: `translate(${x} ${y}) scale(${scale})` });
  group.append(shape("circle", { r: 9 }), shape("path", { d: label ? "M-4 0H4M0-4V4" : "M-4 0H4" }));
  return group;
}

function cursorShape(x, y, scale) {
  const group = shape("g", { class: "cursor", transform: `translate(${x} ${y}) scale(${scale})` });
  for (const name of ["under", "over"]) group.append(shape("path", { class: name, d: "M-18 0H-5M5 0H18M0-18V-5M0 5V18" }));
  return group;
}
