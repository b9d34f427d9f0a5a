// The captions of a sample as a list to walk through and to change in place. Whatever people or an LLM wrote is put
// there as text, never as HTML. Changes are drafts, kept in localStorage until the sample is decided about.

const TITLES = { object: "Wrong object", relation: "Wrong relation", scene: "Wrong scene" };

export class Captions {
  constructor(place, onChange) {
    Object.assign(this, { place, onChange });
    this.original = [];
    this.texts = [];
    this.kinds = [];
    this.chosen = 0;
    this.isEditing = false;
    this.sameChange = null;  // [old words, new words] of the last change of the true caption
  }

  show(item, texts, draftName) {
    this.original = item.captions.map((caption) => caption.text);
    this.kinds = item.captions.map((caption) => caption.kind);
    this.draftName = draftName;
    this.texts = readDraft(draftName, this.original.length) || texts || [...this.original];
    this.chosen = 0;
    this.isEditing = false;
    this.sameChange = null;
    this.draw();
  }

  get isChanged() {
    return this.texts.some((text, number) => text !== this.original[number]);
  }

  forget() {
    localStorage.removeItem(this.draftName);
  }

  take(texts) {
    this.texts = [...texts];
    this.changed();
  }

  draw() {
    this.isEditing = false;
    const parts = [];
    for (const kind of [null, "object", "relation", "scene"]) {
      const numbers = this.kinds.flatMap((own, number) => (own === kind ? [number] : []));
      if (!numbers.length) continue;
      const title = document.createElement("h3");
      title.textContent = kind ? TITLES[kind] : "True caption";
      const list = document.createElement("ol");
      list.setAttribute("aria-label", title.textContent);
      list.append(...numbers.map((number) => this.row(number)));
      parts.push(title, list);
    }
    this.place.replaceChildren(...parts);
  }

  row(number) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "caption" + (number ? "" : " true");
    button.classList.toggle("changed", this.texts[number] !== this.original[number]);
    button.dataset.number = number;
    button.append(...(number ? marked(this.texts[number], this.texts[0]) : [this.texts[0]]));
    button.addEventListener("click", () => this.edit(number));
    button.addEventListener("focus", () => (this.chosen = number));
    item.append(button);
    return item;
  }

  button(number) {
    return this.place.querySelector(`[data-number="${number}"]`);
  }

  step(by) {
    const isInside = this.place.contains(document.activeElement);
    this.chosen = Math.min(Math.max(this.chosen + (isInside ? by : 0), 0), this.texts.length - 1);
    this.button(this.chosen)?.focus();
  }

  edit(number = this.chosen) {
    const button = this.button(number);
    if (!button || this.isEditing) return;
    const field = document.createElement("input");
    field.value = this.texts[number];
    field.maxLength = 300;
    field.setAttribute("aria-label", number ? `Wrong caption ${number}` : "True caption");
    this.isEditing = true;
    this.chosen = number;
    button.replaceWith(field);
    field.focus();
    const close = (isKept) => {
      if (!this.isEditing) return;
      this.isEditing = false;
      if (isKept) this.put(number, field.value);
      this.draw();
      this.button(number).focus();
    };
    field.addEventListener("blur", () => close(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        close(event.key === "Enter");
      }
    });
  }

  put(number, value) {
    const text = value.trim().replace(/\s+/g, " ");
    const before = this.texts[number];
    if (text === before) return;
    this.texts[number] = text;
    if (number === 0) this.sameChange = difference(before, text);
    this.changed();
  }

  changed() {
    if (this.isChanged) localStorage.setItem(this.draftName, JSON.stringify(this.texts));
    else this.forget();
    this.draw();
    this.onChange();
  }

  // In how many other captions the words stand that were changed in the true one.
  get sameCount() {
    if (!this.sameChange?.[0]) return 0;
    return this.texts.filter((text, number) => number && replaced(text, ...this.sameChange) !== text).length;
  }

  changeSame() {
    if (!this.sameCount) return;
    const [before, after] = this.sameChange;
    this.sameChange = null;
    this.take(this.texts.map((text, number) => (number ? replaced(text, before, after) : text)));
  }
}

function readDraft(name, count) {
  try {
    const texts = JSON.parse(localStorage.getItem(name));
    return Array.isArray(texts) && texts.length === count ? texts : null;
  } catch {
    return null;
  }
}

// The words of a text that differ from another's, as [before, between, behind].
function parts(text, other) {
  const words = text.split(" ");
  const others = other.split(" ");
  let start = 0;
  while (start < Math.min(words.length, others.length) && words[start] === others[start]) start += 1;
  let end = 0;
  const most = Math.min(words.length, others.length) - start;
  while (end < most && words[words.length - 1 - end] === others[others.length - 1 - end]) end += 1;
  const behind = words.length - end;
  return [words.slice(0, start), words.slice(start, behind), words.slice(behind)].map((some) => some.join(" "));
}

function marked(text, truth) {
  const [before, between, behind] = parts(text, truth);
  if (!between) return [text];
  const mark = document.createElement("mark");
  mark.textContent = between;
  return [before ? `${before} ` : "", mark, behind ? ` ${behind}` : ""];
}

function difference(before, after) {
  return [parts(before, after)[1], parts(after, before)[1]];
}

// A text with some of its words replaced, where they stand as whole words.
function replaced(text, before, after) {
  return ` ${text} `.split(` ${before} `).join(` ${after} `).replace(/\s+/g, " ").trim();
}
