// What is said to the server. Errors are sentences; a missing API key is asked for once and kept for this tab.

const KEY = "virtue.key";
const TRIES = 4;
const LONGEST_PAUSE = 5;  // seconds that a full server may ask us to wait

export class Failure extends Error {
  constructor(status, error = {}) {
    super(error.message || `The server answered ${status}.`);
    this.status = status;
    this.code = error.code || null;
    this.param = error.param || null;
  }
}

let keyAsker = async () => "";
let keyAsked = null;  // so that ten requests refused at once ask one question

export function onMissingKey(ask) {
  keyAsker = ask;
}

export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

function askForKey(wasWrong) {
  keyAsked ??= keyAsker(wasWrong).then((key) => {
    if (key) sessionStorage.setItem(KEY, key);
    return key;
  }).finally(() => { keyAsked = null; });
  return keyAsked;
}

// One request; `body` is a JSON value, or a Blob that is sent as it is.
export async function answer(path, { method = "GET", body, signal } = {}) {
  for (let tries = 1; ; tries += 1) {
    const key = sessionStorage.getItem(KEY);
    const response = await sent(path, { method, body, signal, key });
    if (response.ok) return response;
    if (response.status === 401 && await newKey(key)) continue;
    const pause = Number(response.headers.get("Retry-After"));
    if (response.status === 429 && tries < TRIES && pause <= LONGEST_PAUSE) {
      await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.max(pause, 0.2)); });
      signal?.throwIfAborted();
      continue;
    }
    const { error } = await response.json().catch(() => ({}));
    throw new Failure(response.status, error);
  }
}

// Whether there is another key to try with: one that was given meanwhile, or one that a person gives now.
async function newKey(tried) {
  const known = sessionStorage.getItem(KEY);
  return (known && known !== tried) || askForKey(Boolean(tried));
}

async function sent(path, { method, body, signal, key }) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const isBlob = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = isBlob ? body.type || "image/unknown" : "application/json";
  try {
    return await fetch(path, { method, headers, signal, body: body === undefined || isBlob ? body : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, { message: "The server does not answer: see whether it still runs, then try again." });
  }
}

export async function get(path, signal) {
  return (await answer(path, { signal })).json();
}

export async function post(path, body, signal) {
  return (await answer(path, { method: "POST", body, signal })).json();
}

// Shows a picture of the server's in an <img>, which sends no key itself: where there is one, the bytes are fetched.
export async function showPicture(image, path) {
  if (!hasKey()) {
    image.src = path;
    return;
  }
  const address = URL.createObjectURL(await (await answer(path)).blob());
  image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  image.src = address;
}

export function isAbort(error) {
  return error?.name === "AbortError";
}
