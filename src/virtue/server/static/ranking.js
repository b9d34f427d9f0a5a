// "What is this?": captions ranked for the picture, with and without the hint, side by side.

export function linesOf(text) {
  return [...new Set(text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean))];
}

// Captions in a file: one a line, or a JSON list of strings.
export function captionsIn(text) {
  if (!text.trimStart().startsWith("[")) return linesOf(text);
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return linesOf(text);
  }
  if (!found.every((caption) => typeof caption === "string")) {
    throw new Error("A file of captions has one a line, or is a JSON list of strings.");
  }
  return linesOf(found.join("\n"));
}

// Rows for the table; the best with the hint comes first.
export function rankingRows(data) {
  const before = [...data].sort((one, other) => other.similarity_without - one.similarity_without);
  const after = [...data].sort((one, other) => other.similarity - one.similarity);
  const all = data.flatMap((own) => [own.similarity, own.similarity_without]);
  const low = Math.min(...all);
  const span = Math.max(...all) - low || 1;
  return after.map((own, index) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = own.text;
    const moved = before.indexOf(own) - index;
    if (moved) head.append(" ", movement(moved));
    const part = (value) => 0.06 + (0.94 * (value - low)) / span;
    row.append(head, cell(own.similarity, part(own.similarity), index === 0),
      cell(own.similarity_without, part(own.similarity_without), before[0] === own));
    return row;
  });
}

// What the hint does, in a sentence.
export function verdict(data, hasHint) {
  const best = (name) => [...data].sort((one, other) => other[name] - one[name])[0].text;
  const [withHint, without] = [best("similarity"), best("similarity_without")];
  if (!hasHint) return `Best for the whole picture: “${withHint}”. Point at a thing to see what the hint does.`;
  if (withHint === without) return `Best with and without the hint: “${withHint}”.`;
  return `The hint makes it “${withHint}”; without it, it would be “${without}”.`;
}

function movement(by) {
  const mark = document.createElement("span");
  mark.className = by > 0 ? "up" : "down";
  mark.textContent = `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`;
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", `${Math.abs(by)} ${by > 0 ? "up" : "down"} by the hint`);
  return mark;
}

function cell(value, part, isBest) {
  const element = document.createElement("td");
  const bar = document.createElement("span");
  element.className = isBest ? "best" : "";
  bar.className = "bar";
  bar.style.setProperty("--part", part);
  element.append(value.toFixed(3), bar);
  return element;
}
