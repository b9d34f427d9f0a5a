// Pictures to choose from: the gallery of the index, and results with their regions.

import { get, isAbort, showPicture } from "./api.js";
import { boxShapes, shape, spotlight } from "./stage.js";

const PAGE = 48;       // pictures that the gallery asks for at once
const THUMBNAIL = 360; // pixels along the longer side of a thumbnail

export function galleryPicture(path, size) {
  return `/v1/gallery/image?${new URLSearchParams({ path, size })}`;
}

// The gallery: more of it is read as its end comes into sight.
export class Gallery {
  #count = 0;
  #total = Infinity;
  #isReading = false;

  constructor(list, end, choose) {
    this.list = list;
    this.choose = choose;
    new IntersectionObserver(([entry]) => {
      if (entry.isIntersecting) this.more();
    }, { rootMargin: "600px" }).observe(end);
  }

  // Reads on; gives how many pictures there are, 0 without an index.
  async more() {
    if (this.#isReading || this.#count >= this.#total || !this.list.offsetParent) return this.#total;
    this.#isReading = true;
    try {
      const { data, total } = await get(`/v1/gallery?${new URLSearchParams({ offset: this.#count, limit: PAGE })}`);
      this.#count += data.length;
      this.#total = data.length ? total ?? Infinity : this.#count;
      this.list.append(...data.map((picture) => this.#card(picture)));
    } finally {
      this.#isReading = false;
    }
    return this.#total;
  }

  #card(picture) {
    const { item, button } = card(picture);
    button.setAttribute("aria-label", `Open ${picture.path}`);
    button.append(nameOf(picture.path));
    button.addEventListener("click", () => this.choose(picture.path));
    return item;
  }
}

// Results, the best first.
export function resultCards(hits, choose) {
  return hits.map((hit, index) => {
    const { item, button, thumbnail } = card(hit);
    const similarity = hit.similarity.toFixed(3);
    const what = hit.kind === "region" ? "a thing in " : "";
    button.setAttribute("aria-label", `${index + 1}: ${what}${hit.path}, similarity ${similarity}. Go on from here.`);
    if (hit.kind === "region") drawRegion(thumbnail, hit);
    button.append(scoreOf(hit.similarity, similarity), nameOf(hit.path));
    button.addEventListener("click", () => choose(hit));
    return item;
  });
}

function card({ path, width, height }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const thumbnail = document.createElement("span");
  const image = document.createElement("img");
  button.type = "button";
  button.className = "card";
  button.dataset.path = path;
  thumbnail.className = "thumbnail";
  if (width && height) thumbnail.style.aspectRatio = `${width} / ${height}`;
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
  return { item, button, thumbnail };
}

function drawRegion(thumbnail, { outline, box, width, height }) {
  const drawing = shape("svg", { class: "region", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
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
