// The picture with its region outlined: zoomed around a point, moved by hand, wheel, two fingers or keys.

const SVG = "http://www.w3.org/2000/svg";
const MOST = 16;  // screen pixels for one of the image

export class Picture {
  constructor(view, sheet, image, marks, scale) {
    Object.assign(this, { view, sheet, image, marks, scaleOutput: scale });
    this.size = [1, 1];
    this.box = [0, 0, 1, 1];
    this.fitted = true;
    this.pointers = new Map();
    this.place = { scale: 1, x: 0, y: 0 };
    new ResizeObserver(() => this.fitted && this.fit()).observe(view);
    view.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.onDown(event));
    view.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) {
      view.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
  }

  // Shows a region; the address of its picture may come later.
  show(region) {
    this.size = [region.width, region.height];
    this.box = region.box;
    this.image.removeAttribute("src");
    this.image.alt = `Picture with a region outlined: ${region.category}`;
    this.sheet.style.width = `${region.width}px`;
    this.sheet.style.height = `${region.height}px`;
    this.draw(region);
    this.fit();
  }

  load(address) {
    this.image.src = address;
  }

  draw(region) {
    const [x1, y1, x2, y2] = region.box;
    this.marks.setAttribute("viewBox", `0 0 ${region.width} ${region.height}`);
    this.marks.setAttribute("preserveAspectRatio", "none");
    this.marks.replaceChildren();
    const alone = region.outline ? "" : " alone";
    for (const layer of ["under", "over"]) {
      if (region.outline) this.add("path", `mask ${layer}`, { d: region.outline });
      if (!region.outline || layer === "over") {
        this.add("rect", `box ${layer}${alone}`, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
      }
    }
  }

  add(tag, names, attributes) {
    const element = document.createElementNS(SVG, tag);
    element.setAttribute("class", names);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    this.marks.append(element);
  }

  // Hides or shows the outline; gives whether it is shown now.
  toggle() {
    const isShown = this.marks.style.visibility === "hidden";
    this.marks.style.visibility = isShown ? "visible" : "hidden";
    return isShown;
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.view;
    const scale = Math.min(width / this.size[0], height / this.size[1], MOST) || 1;
    this.fitted = true;
    this.put(scale, (width - scale * this.size[0]) / 2, (height - scale * this.size[1]) / 2);
  }

  toRegion() {
    const { clientWidth: width, clientHeight: height } = this.view;
    const [x1, y1, x2, y2] = this.box;
    const scale = Math.min((0.6 * width) / (x2 - x1), (0.6 * height) / (y2 - y1), MOST);
    this.fitted = false;
    this.put(scale, width / 2 - (scale * (x1 + x2)) / 2, height / 2 - (scale * (y1 + y2)) / 2);
  }

  // Zooms so that what is at a point of the view, its middle by default, stays there.
  zoom(factor, x = this.view.clientWidth / 2, y = this.view.clientHeight / 2) {
    const { scale, x: left, y: top } = this.place;
    const wanted = Math.min(Math.max(scale * factor, 0.05), MOST);
    this.fitted = false;
    this.put(wanted, x - ((x - left) * wanted) / scale, y - ((y - top) * wanted) / scale);
  }

  move(x, y) {
    this.fitted = false;
    this.put(this.place.scale, this.place.x + x, this.place.y + y);
  }

  put(scale, x, y) {
    this.place = { scale, x, y };
    this.sheet.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.marks.style.setProperty("--pixel", 1 / scale);
    this.scaleOutput.textContent = `${Math.round(100 * scale)} %`;
  }

  onWheel(event) {
    event.preventDefault();
    const frame = this.view.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 400), event.clientX - frame.left, event.clientY - frame.top);
  }

  onDown(event) {
    this.view.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (!other) {
      this.move(now[0] - before[0], now[1] - before[1]);
      return;
    }
    const frame = this.view.getBoundingClientRect();
    const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    this.zoom(
      distance(now) / Math.max(distance(before), 1),
      (now[0] + other[0]) / 2 - frame.left,
      (now[1] + other[1]) / 2 - frame.top,
    );
  }
}
