// The review page: deals, shows, decides. It never moves on before the server said that a decision is kept.

import { Captions } from "./captions.js";
import { fillReasons, openAgreement, openReject } from "./dialogs.js";
import { listenForKeys } from "./keys.js";
import { Picture } from "./picture.js";
import { isAnswered, Refused, Server } from "./server.js";

const AHEAD = 3;  // samples held at once, so that the next picture is there already
const HOLD_EVERY = 60_000;  // milliseconds
const LOOK_AGAIN = 15_000;  // for samples that others gave back, or that were written since

const $ = (id) => document.getElementById(id);
const server = new Server(showTrouble);
const picture = new Picture($("view"), $("sheet"), $("image"), $("marks"), $("scale"));
const captions = new Captions($("captions"), showOffer);

const state = {
  reviewer: "", mode: "queue", items: [], item: null, history: [], looking: -1, isBusy: false, progress: null,
  decided: new Set(),  // an answer that was under way may still deal them
};
const VERDICTS = { accept: "an acceptance", reject: "a rejection", edit: "an edit", skip: "a skip" };
const pictures = new Map();  // region id -> promise of an address

start().catch(showError);

async function start() {
  const session = await server.begin();
  document.title = `Review · ${session.name}`;
  $("title").textContent = `Review · ${session.name}`;
  fillReasons(session.reasons, session.other, (reason, note) => guarded(() => decide("reject", reason, note)));
  listen();
  const { kept, refused } = await server.deliverWaiting();
  state.reviewer = localStorage.getItem("virtue.review.name") || "";
  if (!state.reviewer) await askName();
  await enter();
  if (kept) say(`${kept} ${kept === 1 ? "decision" : "decisions"} from before the page was closed: kept.`);
  showRefused(refused);
  setInterval(() => hold().catch(showError), HOLD_EVERY);
  setInterval(() => !state.item && !state.isBusy && guarded(deal), LOOK_AGAIN);
}

async function enter() {
  $("who").textContent = state.reviewer;
  const { decisions } = await server.get("/api/mine", { reviewer: state.reviewer });
  Object.assign(state, { history: decisions, items: [], item: null, looking: -1, decided: new Set() });
  await deal();
}

async function askName() {
  const dialog = $("name-dialog");
  $("name").value = state.reviewer;
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.showModal();
  await closed;
  const name = $("name").value.trim();
  if (name) {
    state.reviewer = name;
    localStorage.setItem("virtue.review.name", name);
  } else if (!state.reviewer) {
    await askName();
  }
}

// Dealing

async function deal() {
  const body = { reviewer: state.reviewer, count: AHEAD, mode: state.mode };
  const { items, progress } = await server.post("/api/deal", body);
  if (body.reviewer !== state.reviewer || body.mode !== state.mode) return;
  const current = state.items[0];
  const others = items.filter((item) => item.id !== current?.id && !state.decided.has(item.id));
  state.items = current ? [current, ...others] : others;
  showProgress(progress);
  if (state.looking < 0 && state.item?.id !== state.items[0]?.id) show(state.items[0] || null);
  else if (!state.items.length && state.looking < 0) show(null);
  state.items.forEach((item) => fetchPicture(item.id));
  forgetPictures();
}

async function hold() {
  const regions = state.items.map((item) => item.id);
  if (regions.length) await server.post("/api/hold", { reviewer: state.reviewer, regions });
}

async function changeMode(mode) {
  await server.post("/api/leave", { reviewer: state.reviewer });
  Object.assign(state, { mode, items: [], item: null, looking: -1, decided: new Set() });
  for (const name of ["queue", "disputed", "skipped"]) $(`mode-${name}`).setAttribute("aria-pressed", name === mode);
  await deal();
}

function fetchPicture(region) {
  if (!pictures.has(region)) {
    const found = server.picture(region);
    found.catch(() => pictures.delete(region));
    pictures.set(region, found);
  }
  return pictures.get(region);
}

function forgetPictures() {
  const wanted = new Set([state.item?.id, ...state.items.map((item) => item.id)]);
  for (const [region, address] of pictures) {
    if (wanted.has(region)) continue;
    pictures.delete(region);
    address.then((own) => URL.revokeObjectURL(own)).catch(() => {});
  }
}

// Showing

function show(item) {
  state.item = item;
  $("sample").hidden = !item;
  $("empty").hidden = !!item;
  $("problems").replaceChildren();
  $("stage").hidden = !item;
  if (item) {
    const { region } = item;
    $("category").textContent = region.category;
    const known = [...new Set([region.caption, ...region.facts, ...region.scene])].filter(Boolean);
    $("known").textContent = known.length ? `Annotations: ${known.join(" · ")}` : "";
    showDecided(item);
    const isWithin = $("captions").contains(document.activeElement);
    captions.show(item, item.mine?.captions, server.key(`draft.${state.reviewer}.${item.id}.${item.digest}`));
    if (isWithin) captions.step(0);
    $("words").scrollTop = 0;
    picture.show(region);
    fetchPicture(item.id).then(
      (address) => state.item === item && picture.load(address),
      (error) => state.item === item && say(error.message),
    );
  } else {
    showEmpty();
  }
  showOffer();
  enable();
}

function showEmpty() {
  const { disputed, skipped, left } = state.progress;
  const rest = { queue: left, disputed, skipped }[state.mode];
  const others = [
    disputed && state.mode !== "disputed" && `${disputed} disputed`,
    skipped && state.mode !== "skipped" && `${skipped} skipped by you`,
  ].filter(Boolean);
  const more = others.length ? ` But ${others.join(" and ")}: see the buttons above.` : "";
  const waits = { queue: " What is left is for others, or being looked at.", disputed: " Others look at what is left." };
  const wait = (rest && waits[state.mode]) || "";
  $("empty").textContent = `Nothing here for you now.${wait}${more}`;
}

function showDecided(item) {
  const lines = item.others.map((own) => line(`${own.reviewer} ${said(own)}`, own.captions));
  if (item.mine) lines.unshift(line(`You ${said(item.mine)}. A new decision takes its place.`));
  $("decided").replaceChildren(...lines);
}

function line(text, words) {
  const element = document.createElement("li");
  element.textContent = text;
  if (words) element.append(" ", button("Use these words", () => captions.take(words)));
  return element;
}

function button(text, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", action);
  return element;
}

function said(decision) {
  const past = { accept: "accepted it", reject: "rejected it", edit: "edited it", skip: "skipped it" };
  return past[decision.verdict] + (decision.reason ? ` (${decision.reason})` : "");
}

function showProgress(progress) {
  state.progress = progress;
  const { samples, done, left, mine, disputed, skipped, per_hour: rate } = progress;
  $("bar").max = Math.max(samples, 1);
  $("bar").value = done;
  const parts = [`${done} of ${samples} done`, `${left} left`, `${mine} by you`];
  if (rate) parts.push(`${Math.round(rate)} an hour`);
  $("figures").textContent = parts.join(" · ");
  $("mode-disputed").textContent = `Disputed (${disputed})`;
  $("mode-skipped").textContent = `Skipped (${skipped})`;
}

function showOffer() {
  const count = captions.sameCount;
  $("offer").hidden = !count;
  if (count) {
    const [before, after] = captions.sameChange;
    $("same").textContent = `Also “${before}” to “${after}” in ${count} other${count === 1 ? "" : "s"} (c)`;
  }
  $("accept-label").textContent = state.item && captions.isChanged ? "Accept edited" : "Accept";
}

function showTrouble(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}

function showError(error) {
  if (!(error instanceof Refused)) throw error;
  showTrouble(error.message);
}

function say(sentence) {
  $("message").textContent = sentence;
}

function enable() {
  const isIdle = !state.isBusy;
  document.body.setAttribute("aria-busy", state.isBusy);
  for (const id of ["accept", "reject", "edit", "skip"]) $(id).disabled = !(isIdle && state.item);
  $("undo").disabled = !(isIdle && state.history.length);
  $("back").disabled = !(isIdle && state.history.length && state.looking !== 0);
  $("forth").disabled = !(isIdle && state.looking >= 0);
}

// What an earlier page decided and the server does not take. It stays in the browser until it is mended or discarded.

function showRefused(refused) {
  $("refused").replaceChildren(...refused.map(([decision, error]) => refusedRow(decision, error)));
  $("refused").hidden = !refused.length;
}

function refusedRow(decision, error) {
  const problems = error.problems.map((problem) => place(problem) + problem.message);
  const whose = decision.reviewer === state.reviewer ? "" : ` of ${decision.reviewer}`;
  const about = `Not kept: ${VERDICTS[decision.verdict]}${whose} about ${decision.region}.`;
  const row = document.createElement("li");
  const text = document.createElement("span");
  text.textContent = [about, error.message, ...problems].join(" ");
  row.dataset.region = decision.region;
  row.append(text);
  if (isAnswered(error) && decision.reviewer === state.reviewer && error.status !== 404) {
    row.append(button("Mend it", () => guarded(() => mend(decision, error))));
  }
  row.append(button("Discard it", () => {
    server.forget(decision);
    removeRefused((other) => other === row);
  }));
  return row;
}

async function mend(decision, error) {
  const item = await server.get("/api/item", { region: decision.region, reviewer: state.reviewer });
  state.items = [item, ...state.items.filter((own) => own.id !== item.id)];
  state.looking = -1;
  show(item);
  if (error.isRewritten) $("decided").append(line("You decided about other captions.", decision.captions));
  else if (decision.captions) captions.take(decision.captions);
  showProblems(error);
  say(error.message);
}

// Of a sample that was decided about anew, nothing is left to mend.
function forgetRefused(region) {
  const own = (decision) => decision.region === region && decision.reviewer === state.reviewer;
  server.waiting().filter(own).forEach((decision) => server.forget(decision));
  removeRefused((row) => row.dataset.region === region);
}

function removeRefused(isOver) {
  for (const row of [...$("refused").children]) if (isOver(row)) row.remove();
  $("refused").hidden = !$("refused").children.length;
}

function showProblems(error) {
  $("problems").replaceChildren(...error.problems.map((problem) => line(place(problem) + problem.message)));
  $("problems").scrollIntoView({ block: "nearest" });
}

// Deciding

async function decide(verdict, reason = "", note = "") {
  const { item } = state;
  if (!item) return undefined;
  const isEdit = verdict === "accept" && captions.isChanged;
  const { id: region, seen, digest } = item;
  const decision = { reviewer: state.reviewer, region, seen, digest, verdict: isEdit ? "edit" : verdict };
  if (isEdit) decision.captions = captions.texts;
  if (reason) Object.assign(decision, { reason, note });
  $("problems").replaceChildren();
  let answer;
  try {
    answer = await server.decide(decision);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.isRewritten) return mend(decision, error);
    say(error.message);
    showProblems(error);
    return undefined;
  }
  captions.forget();
  forgetRefused(item.id);
  state.history = [...state.history.filter((own) => own.region !== item.id), answer.decision];
  state.items = state.items.filter((own) => own.id !== item.id);
  state.decided.add(item.id);
  state.looking = -1;
  say(`${item.region.category}: you ${said(answer.decision)}.${clash(answer)}`);
  state.item = null;
  if (!state.items.length) return deal();
  show(state.items[0]);
  deal().catch(showError);  // nobody waits for what comes after the next
  return undefined;
}

function place(problem) {
  return problem.where === null ? "True caption: " : `Wrong caption ${problem.where + 1}: `;
}

function clash({ meanwhile, state: outcome }) {
  if (!meanwhile.length) return "";
  const others = meanwhile.map((own) => `${own.reviewer} ${said(own)}`).join(", ");
  return ` Meanwhile ${others}. Both decisions are kept${outcome === "disputed" ? "; it waits for a third look" : ""}.`;
}

async function undo() {
  const last = state.history.at(-1);
  if (!last) return;
  const { item, progress } = await server.post("/api/undo", { reviewer: state.reviewer, number: last.number });
  const { decisions } = await server.get("/api/mine", { reviewer: state.reviewer });
  state.history = decisions;
  state.decided.delete(item.id);
  state.items = [item, ...state.items.filter((own) => own.id !== item.id)];
  state.looking = -1;
  showProgress(progress);
  show(item);
  if (last.captions && !captions.isChanged) captions.take(last.captions);  // the words are not typed again
  say(`Taken back: you ${said(last)}.`);
}

async function look(by) {
  const at = state.looking < 0 ? state.history.length : state.looking;
  const next = at + by;
  if (next < 0 || (by > 0 && state.looking < 0)) return;
  if (next >= state.history.length) {
    state.looking = -1;
    show(state.items[0] || null);
    return;
  }
  state.looking = next;
  show(await server.get("/api/item", { region: state.history[next].region, reviewer: state.reviewer }));
}

// One thing at a time: a key pressed twice does not decide about a sample that nobody saw.
async function guarded(action) {
  if (state.isBusy) return;
  const focused = document.activeElement;  // a button that is disabled loses it
  state.isBusy = true;
  enable();
  try {
    await action();
  } catch (error) {
    showError(error);
  } finally {
    state.isBusy = false;
    enable();
    if (document.activeElement === document.body && focused.isConnected) focused.focus();
  }
}

async function rename() {
  const before = state.reviewer;
  await askName();
  if (state.reviewer === before) return;
  await server.post("/api/leave", { reviewer: before });
  await enter();
}

// Keys and buttons

function listen() {
  const actions = {
    accept: () => guarded(() => decide("accept")),
    reject: openReject,
    edit: () => captions.edit(),
    skip: () => guarded(() => decide("skip")),
    undo: () => guarded(undo),
    back: () => guarded(() => look(-1)),
    forth: () => guarded(() => look(1)),
    same: () => captions.changeSame(),
    "zoom-in": () => picture.zoom(1.25),
    "zoom-out": () => picture.zoom(0.8),
    "zoom-fit": () => picture.fit(),
    "zoom-region": () => picture.toRegion(),
    toggle: () => $("toggle").setAttribute("aria-pressed", picture.toggle()),
    "show-help": () => $("help-dialog").showModal(),
    "show-agreement": () => guarded(async () => openAgreement(await server.get("/api/agreement", {}))),
    who: () => guarded(rename),
    "mode-queue": () => guarded(() => changeMode("queue")),
    "mode-disputed": () => guarded(() => changeMode("disputed")),
    "mode-skipped": () => guarded(() => changeMode("skipped")),
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  listenForKeys(picture, captions);
}
