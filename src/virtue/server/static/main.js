// Wires the page: what changes in the query decides what is asked, and what is answered is shown.

import { get, isAbort, onMissingKey } from "./api.js";
import { Asker } from "./asking.js";
import { Gallery, placeholders, resultCards } from "./cards.js";
import { askForKey, useDialogs } from "./dialogs.js";
import { useKeys } from "./keys.js";
import { indexPicture, openOnServer, ownPicture, showOn, useFiles } from "./opening.js";
import { Preview } from "./preview.js";
import { Query } from "./query.js";
import { captionsIn, linesOf, rankingRows, verdict } from "./ranking.js";
import { fitting, fromFragment, toFragment } from "./sharing.js";
import { Stage } from "./stage.js";
import { SUGGESTIONS } from "./suggestions.js";
import { useTheme } from "./theme.js";

const TYPING = 220;  // milliseconds of rest after a key before what was typed is asked
const TRIES = 4;  // words that the gallery offers
const PATIENCE = 250;  // milliseconds until a person is shown that the server is at work

const LEAD = document.getElementById("gallery-text").textContent;
const $ = (id) => document.getElementById(id);
const isTouched = window.matchMedia("(pointer: coarse)");
const query = new Query();
const asker = new Asker(query, openOnServer);
const preview = new Preview((hint, signal) => asker.mask(hint, signal), (mask) => stage.setPreview(mask));
const stage = new Stage(document, query, {
  hover: (x, y, include) => preview.at(x, y, include, query.picture, query.hint()),
  leave: () => preview.leave(),
  say,
});
const gallery = new Gallery($("pictures"), $("gallery-end"), (path) => open(indexPicture(path)));
let hasIndex = true;
let opening = 0;  // so that the last of several pictures wins
let atWork = 0;

// Telling people

function say(sentence) {
  $("said").textContent = sentence;
}

// Gives null for what failed: undefined says that something newer was asked meanwhile.
function complain(error) {
  if (!isAbort(error)) {
    $("trouble-text").textContent = error.message;
    $("trouble").hidden = false;
  }
  return null;
}

// Runs a task that a person waits for: long ones show that they run, errors are told.
async function working(task) {
  atWork += 1;
  $("trouble").hidden = true;  // of what was done before
  setTimeout(() => { $("busy").hidden = !atWork; }, PATIENCE);
  try {
    return await task();
  } catch (error) {
    return complain(error);
  } finally {
    atWork -= 1;
    if (!atWork) $("busy").hidden = true;
  }
}

function hintSentence() {
  if (!query.picture?.id) return "";
  if (query.points.length && !query.means) return "Now take what you mean: click it.";
  if (stage.tool === "box") return "Drag a box around what you mean.";
  if (stage.tool === "paint") return "Paint over what you mean. Right-drag erases.";
  if (stage.tool === "erase") return "Erase what you painted too much.";
  if (stage.tool === "exclude") return "Click what you do not mean.";
  if (!query.hasHint) return isTouched.matches ? "Tap the thing you mean." : "Click the thing you mean. Drag to draw a box.";
  const sure = stage.mask ? `The model is ${Math.round(100 * stage.mask.quality)} % sure of the outline. ` : "";
  return `${sure}${isTouched.matches ? "A long press" : "Shift-click"} leaves a part out.`;
}

// Views

function showView() {
  const hasPicture = Boolean(query.picture);
  const isNaming = query.mode === "name";
  const view = hasPicture ? "picture" : query.text && !isNaming ? "words" : "gallery";
  document.body.dataset.view = view;
  document.body.dataset.mode = query.mode;
  $("picture").hidden = !hasPicture;
  $("results").hidden = isNaming || view === "gallery";
  $("ranking").hidden = !isNaming || !hasPicture;
  $("gallery").hidden = view !== "gallery";
  $("words").placeholder = hasPicture ? "in the snow" : "a dog on a beach";
  $("ask").classList.toggle("is-idle", isNaming && hasPicture);
  for (const mode of ["find", "name"]) $(`mode-${mode}`).setAttribute("aria-pressed", query.mode === mode);
  for (const button of document.querySelectorAll("[data-kind]")) {
    button.setAttribute("aria-pressed", button.dataset.kind === asker.kind);
  }
  $("undo").disabled = !query.canUndo;
  $("clear").disabled = !query.hasHint;
  $("hint").textContent = hintSentence();
  if (view === "gallery" && hasIndex) gallery.more().catch(() => {});
}

function remember(isNew = false) {
  const fragment = toFragment(query);
  const address = fragment ? `#${fragment}` : location.pathname;
  if (isNew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

// Asking

async function refreshMask() {
  const mask = await asker.currentMask().catch(complain);
  if (mask === undefined) return;
  stage.setMask(mask);
  $("hint").textContent = hintSentence();
}

async function refreshResults() {
  if (!hasIndex) {
    showNothing("No index is served, so there is nothing to search. “What is this?” works without one.");
    return;
  }
  $("hits").setAttribute("aria-busy", "true");
  const hits = await working(() => asker.search());
  if (hits === undefined) return;
  $("hits").setAttribute("aria-busy", "false");
  showView();
  $("hits").replaceChildren(...resultCards(hits || [], goOn));
  showNothing(hits?.length === 0 ? nothingSentence() : "");  // what failed is told elsewhere
  if (hits?.length) say(`${hits.length} results. The best: ${hits[0].path}, similarity ${hits[0].similarity.toFixed(2)}.`);
}

function nothingSentence() {
  if (asker.kind === "region") return "No thing was found. Things are found once they are indexed: virtue index --regions.";
  return query.picture ? "The index holds no other picture." : "The index holds no picture yet.";
}

function showNothing(sentence) {
  $("nothing").textContent = sentence;
  $("nothing").hidden = !sentence;
  if (sentence) $("hits").replaceChildren();
}

async function refreshRanking() {
  const { captions } = query;
  $("ranks").hidden = captions.length === 0;
  if (!captions.length) {
    $("verdict").textContent = "Write what it could be, one caption a line.";
    return;
  }
  const data = await working(() => asker.rank(captions));
  if (data === undefined) return;
  $("ranks").hidden = !data;
  $("rank-rows").replaceChildren(...rankingRows(data || []));
  $("verdict").textContent = data ? verdict(data, query.means) : "";
  say($("verdict").textContent);
}

function refresh() {
  showView();
  if (query.mode === "name") {
    asker.searches.stop();
    if (query.picture?.id) refreshRanking();
  } else {
    asker.ranks.stop();
    if (query.picture ? query.picture.id : query.text) refreshResults();
  }
}

// Opening

async function open(picture, hint = {}, isNew = true) {
  opening += 1;
  const mine = opening;
  preview.reset();
  asker.masks.stop();
  asker.searches.stop();
  stage.mask = null;
  $("hits").replaceChildren(...placeholders());
  $("rank-rows").replaceChildren();
  $("verdict").textContent = "";
  $("frame").classList.add("is-opening");
  query.open(picture, hint);
  if (isNew) {
    remember(true);
    $("frame").focus({ preventScroll: true });  // what was chosen is hidden now, and the keyboard goes on here
  }
  window.scrollTo({ top: 0 });
  stage.marks.replaceChildren();
  showOn($("image"), picture).catch(complain);
  const opened = await working(() => openOnServer(picture));
  if (mine !== opening) return;
  $("frame").classList.remove("is-opening");
  if (!opened) {
    close();
    return;
  }
  Object.assign(query, fitting(query, opened));  // a link may point outside of the picture
  stage.show(opened);
  say(`${picture.name} is open, ${opened.width} by ${opened.height} pixels.`);
  refresh();
  if (query.means) refreshMask();
}

function close() {
  opening += 1;
  preview.reset();
  asker.masks.stop();
  query.open(null);
  remember(true);
}

function goOn(hit) {
  open(indexPicture(hit.path), hit.kind === "region" && hit.box ? { box: hit.box } : {});
}

function takeFile(file) {
  try {
    open(ownPicture(file));
  } catch (error) {
    complain(error);
  }
}

// What a link, or going back, asks for.
function restore() {
  const asked = fromFragment(location.hash);
  Object.assign(query, { text: asked.text, kind: asked.kind, mode: asked.mode });
  if (asked.captions.length) query.captions = asked.captions;
  $("words").value = asked.text;
  $("captions").value = query.captions.join("\n");
  if (asked.image) {
    open(indexPicture(asked.image), asked, false);
    return;
  }
  opening += 1;
  query.open(null);
}

// Listening

function onChange({ detail }) {
  if (detail === "picture" && query.picture) {
    showView();
    return;  // `open` goes on once the server has read it
  }
  if (detail === "hint") {
    preview.reset();
    stage.draw();
    refreshMask();
  }
  remember();
  refresh();
}

function useTools() {
  const buttons = [...document.querySelectorAll("button[data-tool]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      stage.setTool(button.dataset.tool);
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      $("brush-part").hidden = stage.tool !== "paint" && stage.tool !== "erase";
      $("hint").textContent = hintSentence();
    });
  }
  $("brush").addEventListener("input", () => { stage.brush.size = Number($("brush").value); });
  $("undo").addEventListener("click", () => query.undo());
  $("clear").addEventListener("click", () => query.clear());
}

function useWords() {
  let timer = 0;
  const take = () => query.set("text", $("words").value.trim());
  $("tries").addEventListener("click", ({ target }) => {
    if (!target.matches("button")) return;
    $("words").value = target.textContent;
    take();
  });
  $("words").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(take, TYPING);
  });
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    take();
  });
}

function useCaptions() {
  let timer = 0;
  $("captions").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => query.set("captions", linesOf($("captions").value)), TYPING);
  });
  $("captions-open").addEventListener("click", () => $("captions-file").click());
  $("captions-file").addEventListener("change", async () => {
    const [file] = $("captions-file").files;
    $("captions-file").value = "";
    const found = await working(async () => captionsIn(await file.text()));
    if (!found) return;
    $("captions").value = found.join("\n");
    query.set("captions", found);
  });
}

function listen() {
  query.addEventListener("change", onChange);
  useTools();
  useWords();
  useCaptions();
  useDialogs(query, asker, say);
  useKeys({ words: $("words"), brush: $("brush"), switchBox: $("single-keys") });
  useTheme($("theme"));
  useFiles({ button: $("open"), input: $("file"), drop: $("drop"), take: takeFile });
  for (const mode of ["find", "name"]) $(`mode-${mode}`).addEventListener("click", () => query.set("mode", mode));
  for (const button of document.querySelectorAll("[data-kind]")) {
    button.addEventListener("click", () => query.set("kind", button.dataset.kind));
  }
  $("home").addEventListener("click", () => {
    $("words").value = "";
    query.text = "";
    close();
  });
  $("trouble-close").addEventListener("click", () => { $("trouble").hidden = true; });
  $("image").addEventListener("load", ({ target }) => stage.setRatio(target.naturalWidth / target.naturalHeight));
  window.addEventListener("popstate", restore);
  onMissingKey(askForKey);
}

// A server answers before its model is loaded, which may take a while.
async function modelIsLoaded() {
  for (;;) {
    const { status } = await fetch("/health").then((response) => response.json()).catch(() => ({}));
    if (status !== "loading") return;
    $("gallery-text").textContent = "The model is being loaded…";
    await new Promise((resolve) => { setTimeout(resolve, 400); });
    $("gallery-text").textContent = LEAD;
  }
}

// Words to begin with, where it is known what the model knows.
function showTries() {
  $("tries").append(...query.captions.slice(0, TRIES).map((words) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    return button;
  }));
  $("tries").hidden = !hasIndex || !query.captions.length;
}

async function begin() {
  listen();
  await working(modelIsLoaded);
  const models = await working(() => get("/v1/models"));
  const name = models?.data[0]?.id || "";
  query.captions = SUGGESTIONS[name] || [];
  hasIndex = await gallery.more().then(() => true, (error) => {
    if (error.status !== 404) complain(error);
    return false;
  });
  $("gallery-empty").hidden = hasIndex;
  showTries();
  restore();
  document.body.dataset.ready = "true";
}

begin();
