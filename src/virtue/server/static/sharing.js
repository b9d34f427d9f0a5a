// A query as a link (behind the "#", which is sent to nobody) and as code.

const LONGEST = 4000;  // characters of a mask that a link may hold
const WIDTH = 84;      // characters of a line of code, where it can be broken
const NAMED = Symbol("the picture, which the code opens");

export function toFragment(query) {
  const values = {};
  const path = query.picture?.path;
  if (path) values.image = path;
  if (path && query.points.length) values.points = query.points.map((point) => point.join(",")).join(" ");
  if (path && query.box) values.box = query.box.join(",");
  if (path && query.mask && query.mask.counts.length <= LONGEST) {
    values.mask = [...query.mask.size, query.mask.counts].join(",");
  }
  if (query.text) values.text = query.text;
  if (query.kind !== "auto") values.kind = query.kind;
  if (query.mode !== "find") values.mode = query.mode;
  if (query.mode === "name" && query.captions.length) values.captions = query.captions.join("\n");
  return new URLSearchParams(values).toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
}

// What a link asks; parts that make no sense are left out.
export function fromFragment(fragment) {
  const values = new URLSearchParams(fragment.replace(/^#/, ""));
  const numbers = (text, count) => {
    const found = (text || "").split(",").map(Number);
    return found.length === count && found.every(Number.isFinite) ? found : null;
  };
  const [height, width, ...counts] = (values.get("mask") || "").split(",");
  return {
    image: values.get("image"),
    points: (values.get("points") || "").split(" ").map((point) => numbers(point, 3)).filter(Boolean),
    box: numbers(values.get("box"), 4),
    mask: counts.length ? { size: [Number(height), Number(width)], counts: counts.join(",") } : null,
    text: values.get("text") || "",
    kind: ["image", "region"].includes(values.get("kind")) ? values.get("kind") : "auto",
    mode: values.get("mode") === "name" ? "name" : "find",
    captions: (values.get("captions") || "").split("\n").filter(Boolean),
  };
}

// What the link leaves out, in a sentence; "" if it says everything.
export function leftOut(query) {
  if (query.picture && !query.picture.path) {
    return "Your own picture, and what you point at in it, stay with you: only the words are in the link.";
  }
  if (query.mask && query.mask.counts.length > LONGEST) return "The painted mask is too large for a link and is left out.";
  return "";
}

const OPENING = {
  python: (picture) => (picture.path
    ? `image = post("/v1/images", {"index_path": ${JSON.stringify(picture.path)}})["id"]`
    : `image = post("/v1/images", Path(${JSON.stringify(picture.name)}).read_bytes(), "${typeOf(picture)}")["id"]`),
  curl: (picture) => (picture.path
    ? `--json ${quoted(JSON.stringify({ index_path: picture.path }))}`
    : `-H 'Content-Type: ${typeOf(picture)}' --data-binary @${quoted(picture.name)}`),
};

export function pythonCode(query, { path, body }, origin, needsKey) {
  const { picture } = query;
  const asked = { ...body, query: { ...body.query, ...(picture ? { image: NAMED } : {}) } };
  const isOwn = picture && !picture.path;
  const shown = path.endsWith("rank")
    ? 'print(f"{row[\'similarity\']:.3f} (without the hint {row[\'similarity_without\']:.3f}) {row[\'text\']}")'
    : 'print(f"{row[\'similarity\']:.3f} {row[\'path\']}")';
  return [
    "import json",
    ...(needsKey ? ["import os"] : []),
    ...(isOwn ? ["from pathlib import Path"] : []),
    "from urllib.request import Request, urlopen",
    "",
    `SERVER = "${origin}"`,
    "",
    "",
    `def post(path, body${isOwn ? ', kind="application/json"' : ""}):`,
    `    headers = {"Content-Type": ${isOwn ? "kind" : '"application/json"'}}`,
    ...(needsKey ? ['    headers["Authorization"] = f"Bearer {os.environ[\'VIRTUE_API_KEY\']}"'] : []),
    `    data = ${isOwn ? "body if isinstance(body, bytes) else " : ""}json.dumps(body).encode()`,
    "    return json.load(urlopen(Request(SERVER + path, data, headers)))",
    "",
    "",
    ...(picture ? [OPENING.python(picture)] : []),
    `asked = ${pythonValue(asked)}`,
    `for row in post("${path}", asked)["data"]:`,
    `    ${shown}`,
  ].join("\n");
}

export function curlCode(query, { path, body }, origin, needsKey) {
  const { picture } = query;
  const key = needsKey ? ' -H "Authorization: Bearer $VIRTUE_API_KEY"' : "";
  const asked = { ...body, query: { ...body.query, ...(picture ? { image: picture.id } : {}) } };
  const lines = picture
    ? [`# Opens the picture; the answer names it ${picture.id}.`, `curl ${origin}/v1/images${key} ${OPENING.curl(picture)}`, ""]
    : [];
  return [...lines, `curl ${origin}${path}${key} --json ${quoted(JSON.stringify(asked))}`].join("\n");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function typeOf({ file }) {
  return file.type || "image/unknown";
}

// JSON as Python reads it: in one line where that is short.
function pythonValue(value, indent = "") {
  if (value === NAMED) return "image";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const deeper = `${indent}    `;
  const key = (name) => (isList ? "" : `${JSON.stringify(name)}: `);
  const parts = (at) => Object.entries(value).map(([name, own]) => key(name) + pythonValue(own, at));
  const line = open + parts(indent).join(", ") + close;
  if (line.length + indent.length <= WIDTH && !line.includes("\n")) return line;
  return `${open}\n${parts(deeper).map((part) => `${deeper}${part},\n`).join("")}${indent}${close}`;
}
