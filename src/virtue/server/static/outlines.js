// Outlines as shapes. The server sends the lines around a mask's pixels, each by itself: "M2 1H4M4 1V3". Put together they
// close, so they can be filled; their stairs are rounded, since a mask's pixels may be large on the screen.

const ROUND = 2;       // pixels of the mask from a corner within which a line bends
const MOST = 20000;    // corners beyond which stairs are too small to be seen
const remembered = new Map();  // of the newest outlines, which are drawn again and again

// An outline as the `d` of a path whose even-odd inside is the mask's.
export function closed(outline) {
  let path = remembered.get(outline);
  if (path === undefined) {
    path = loops(outline).map(rounded).join("");
    if (remembered.size > 60) remembered.delete(remembered.keys().next().value);
    remembered.set(outline, path);
  }
  return path;
}

// The corners of each closed line. At every corner exactly one line across ends, and one down: where two lines cross, both
// go straight on.
export function loops(outline) {
  const across = new Map();
  const down = new Map();
  for (const [, x, y, way, end] of outline.matchAll(/M(\d+) (\d+)([HV])(\d+)/g)) {
    const from = [Number(x), Number(y)];
    const to = way === "H" ? [Number(end), from[1]] : [from[0], Number(end)];
    const lines = way === "H" ? across : down;
    lines.set(from.join(), to);
    lines.set(to.join(), from);
  }
  const found = [];
  while (across.size) {
    const corners = [];
    let at = across.keys().next().value.split(",").map(Number);
    for (let lines = across; lines.has(at.join()); lines = lines === across ? down : across) {
      corners.push(at);
      const next = lines.get(at.join());
      lines.delete(at.join());
      lines.delete(next.join());
      at = next;
    }
    found.push(corners);
  }
  return found;
}

function rounded(corners) {
  const reach = corners.length > MOST ? 0 : ROUND;
  const parts = corners.map((corner, index) => {
    const before = towards(corner, corners.at(index - 1), reach);
    const after = towards(corner, corners[(index + 1) % corners.length], reach);
    return `${index ? "L" : "M"}${before.join(" ")}Q${corner.join(" ")} ${after.join(" ")}`;
  });
  return `${parts.join("")}Z`;
}

// The place on the way to the next corner where a bend ends: half of the way at most.
function towards([x, y], [toX, toY], reach) {
  const length = Math.abs(toX - x) + Math.abs(toY - y);
  const part = Math.min(0.5, reach / length);
  return [tenth(x + part * (toX - x)), tenth(y + part * (toY - y))];
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}
