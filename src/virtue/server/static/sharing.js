// A query as a link (behind the "#", which is sent to nobody) and as code.

import { SHOWN } from "./asking.js";
import { isMaskOf } from "./masks.js";
import { linesOf } from "./ranking.js";

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
  return {
    image: values.get("image"),
    points: (values.get("points") || "").split(" ").map(pointIn).filter(Boolean),
    box: boxIn(values.get("box") || ""),
    mask: maskIn(values.get("mask") || ""),
    text: (values.get("text") || "").trim(),
    kind: ["image", "region"].includes(values.get("kind")) ? values.get("kind") : "auto",
    mode: values.get("mode") === "name" ? "name" : "find",
    captions: linesOf(values.get("captions") || ""),
  };
}

// Numbers between commas; null where there are others than `count`.
function numbersIn(text, count) {
  const parts = text.split(",");
  const areNumbers = parts.every((part) => part.trim() && Number.isFinite(Number(part)));  // Number("") is 0
  return areNumbers && parts.length === count ? parts.map(Number) : null;
}

function pointIn(text) {
  const point = numbersIn(text, 3);
  return point && (point[2] === 0 || point[2] === 1) ? point : null;
}

function boxIn(text) {
  const box = numbersIn(text, 4);
  return box && box[0] < box[2] && box[1] < box[3] ? box : null;
}

function maskIn(text) {
  const [, height, width, counts] = text.match(/^(\d+),(\d+),([^,]+)$/) || [];
  return counts ? { size: [Number(height), Number(width)], counts } : null;
}

// What of a hint lies in a picture, whose size is known once it is open.
export function fitting({ points, box, mask }, { width, height }) {
  const isInside = ([x, y]) => x >= 0 && x <= width && y >= 0 && y <= height;
  return {
    points: points.filter(isInside),
    box: box && isInside(box) && isInside(box.slice(2)) ? box : null,
    mask: mask && isMaskOf({ width, height }, mask) ? mask : null,
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

const RANKED = [
  "for row in rows:",
  `    print(f"{row['similarity']:.3f} (without the hint {row['similarity_without']:.3f}) {row['text']}")`,
];

// As the page shows it: the first row of a picture is its best.
const FOUND = [
  "best = {}",
  "for row in rows:",
  '    best.setdefault(row["path"], row)  # of each picture the best, which comes first',
  `for row in list(best.values())[:${SHOWN}]:`,
  `    print(f"{row['similarity']:.3f} {row['path']}")`,
];

export function pythonCode(query, { path, body }, origin, needsKey) {
  const { picture } = query;
  const asked = { ...body, query: { ...body.query, ...(picture ? { image: NAMED } : {}) } };
  const isOwn = picture && !picture.path;
  const printed = path.endsWith("rank") ? RANKED : FOUND;
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
    `rows = post("${path}", asked)["data"]`,
    ...printed,
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
