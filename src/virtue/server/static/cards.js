// Pictures to choose from: the gallery of the index, and results with their regions.

import { get, isAbort, showPicture } from "./api.js";
import { boxShapes, shape, spotlight } from "./stage.js";

const PAGE = 48;       // pictures that the gallery asks for at once
const AHEAD = 600;     // pixels below what is seen that are read already
const THUMBNAIL = 360; // pixels along the longer side of a thumbnail

export function galleryPicture(path, size) {
  return `/v1/gallery/image?${new URLSearchParams({ path, size })}`;
}

// The gallery: more of it is read as its end comes into sight.
export class Gallery {
  #count = 0;
  #total = Infinity;
  #reading = null;

  constructor(list, end, choose) {
    this.list = list;
    this.end = end;
    this.choose = choose;
    new IntersectionObserver(([entry]) => {
      if (entry.isIntersecting) this.more().catch(() => {});  // coming here again tries again
    }, { rootMargin: `${AHEAD}px` }).observe(end);
  }

  // Reads on, until the end is out of sight; whoever asks meanwhile waits for the same.
  more() {
    this.#reading ??= this.#read().finally(() => { this.#reading = null; });
    return this.#reading;
  }

  async #read() {
    while (this.#count < this.#total && this.#isNearEnd()) {
      const { data, total } = await get(`/v1/gallery?${new URLSearchParams({ offset: this.#count, limit: PAGE })}`);
      this.#count += data.length;
      this.#total = data.length ? total ?? Infinity : this.#count;
      this.list.append(...data.map((picture) => this.#card(picture)));
    }
  }

  // Asked again after each reading: the observer tells of changes only, and on a large screen the end may stay in sight.
  #isNearEnd() {
    return Boolean(this.list.offsetParent) && this.end.getBoundingClientRect().top < window.innerHeight + AHEAD;
  }

  #card(picture) {
    const { item, button } = card(picture.path);
    button.setAttribute("aria-label", `Open ${picture.path}`);
    button.append(nameOf(picture.path));
    button.addEventListener("click", () => this.choose(picture.path));
    return item;
  }
}

// Results, the best first.
export function resultCards(hits, choose) {
  return hits.map((hit, index) => {
    const { item, button, thumbnail, image } = card(hit.path);
    const similarity = hit.similarity.toFixed(3);
    const what = hit.kind === "region" ? "a thing in " : "";
    button.setAttribute("aria-label", `${index + 1}: ${what}${hit.path}, similarity ${similarity}. Go on from here.`);
    const window = cut(hit);
    image.style.objectPosition = window.position;
    thumbnail.classList.toggle("is-whole", window.isWhole);
    if (hit.kind === "region") drawRegion(thumbnail, hit, window);
    button.append(scoreOf(hit.similarity, similarity), nameOf(hit.path));
    button.addEventListener("click", () => choose(hit));
    return item;
  });
}

// What stands where results will be.
export function placeholders() {
  return Array.from({ length: 6 }, () => {
    const item = document.createElement("li");
    item.className = "placeholder";
    item.ariaHidden = "true";
    return item;
  });
}

function card(path) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const thumbnail = document.createElement("span");
  const image = document.createElement("img");
  button.type = "button";
  button.className = "card";
  button.dataset.path = path;
  thumbnail.className = "thumbnail";
  image.alt = "";
  image.loading = "lazy";
  image.draggable = false;
  image.addEventListener("load", () => thumbnail.classList.add("is-loaded"), { once: true });
  image.addEventListener("error", () => thumbnail.classList.add("is-missing"), { once: true });
  showPicture(image, galleryPicture(path, THUMBNAIL)).catch((error) => {
    if (!isAbort(error)) thumbnail.classList.add("is-missing");
  });
  thumbnail.append(image);
  button.append(thumbnail);
  item.append(button);
  return { item, button, thumbnail, image };
}

// The square of a picture that its thumbnail shows: around the thing, or all of it where the thing is longer than that.
function cut({ box, width, height }) {
  const side = Math.min(width, height);
  const [x1, y1, x2, y2] = box || [0, 0, width, height];
  const isWhole = Boolean(box) && (x2 - x1 > side || y2 - y1 > side);
  if (isWhole) return { isWhole, viewBox: `0 0 ${width} ${height}`, position: "" };
  const start = (from, to, length) => Math.min(length - side, Math.max(0, (from + to - side) / 2));
  const [left, top] = [start(x1, x2, width), start(y1, y2, height)];
  const part = (at, length) => `${length > side ? (100 * at) / (length - side) : 50}%`;
  return { isWhole, viewBox: `${left} ${top} ${side} ${side}`, position: `${part(left, width)} ${part(top, height)}` };
}

function drawRegion(thumbnail, { outline, box, width, height }, { viewBox }) {
  const drawing = shape("svg", { class: "region", viewBox, "aria-hidden": "true" });
  if (outline) drawing.append(...spotlight(width, height, outline));
  else if (box) drawing.append(...boxShapes(box));
  thumbnail.append(drawing);
}

function scoreOf(value, text) {
  const score = document.createElement("span");
  const bar = document.createElement("span");
  score.className = "score";
  score.textContent = text;
  bar.className = "bar";
  bar.style.setProperty("--part", Math.max(0, Math.min(1, value)));
  score.append(bar);
  return score;
}

function nameOf(path) {
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = path.split("/").pop();
  name.title = path;
  return name;
}
