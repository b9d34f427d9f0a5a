// What is said to the server. Every request may be sent again without harm, so each is, until there is an answer:
// decisions wait in localStorage under a key of their own, and outlive a reload of the page and a crash of either side.

const PAUSES = [300, 600, 1200, 2500, 5000];  // milliseconds before the next try, the last again and again
const MAY_PASS = [401, 403, 409];  // another token or run: the page is not let in, its decision may still be right

export class Refused extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.problems = body.problems || [];
    this.isRewritten = !!body.rewritten;  // the sample has other captions than were decided about
  }
}

export class Server {
  constructor(onTrouble) {
    this.onTrouble = onTrouble;  // called with a sentence, or "" when it is over
    this.token = givenToken();
    this.session = null;
  }

  async begin() {
    const session = await this.request("GET", "/api/session");
    if (session.token) this.token = session.token;
    this.session = session;
    return session;
  }

  get(path, query) {
    return this.request("GET", `${path}?${new URLSearchParams(query)}`);
  }

  post(path, body) {
    return this.request("POST", path, body);
  }

  // The picture of a sample as the address of a blob, because an <img> sends no token.
  async picture(region) {
    const response = await this.answer("GET", `/api/image?${new URLSearchParams({ region })}`);
    return URL.createObjectURL(await response.blob());
  }

  async request(method, path, body) {
    return (await this.answer(method, path, body)).json();
  }

  async answer(method, path, body) {
    for (let tries = 0; ; tries += 1) {
      const response = await this.sent(method, path, body);
      if (response && response.ok) {
        if (tries) this.onTrouble("");
        return response;
      }
      if (response && response.status < 500) {
        this.onTrouble("");
        throw new Refused(response.status, await response.json().catch(() => ({})));
      }
      const said = response && (await response.json().catch(() => ({}))).detail;
      this.onTrouble(`${said || "The server does not answer."} Nothing is lost; this page tries again.`);
      await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(tries, PAUSES.length - 1)]));
    }
  }

  async sent(method, path, body) {
    const headers = { "X-Virtue-Token": this.token };
    if (this.session) headers["X-Virtue-Run"] = this.session.run;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      return null;
    }
  }

  // Decisions that wait

  key(name) {
    return `virtue.review.${this.session.run}.${name}`;
  }

  async decide(decision) {
    const sent = { ...decision, key: randomKey() };
    localStorage.setItem(this.key(`out.${sent.key}`), JSON.stringify(sent));
    try {
      return await this.deliver(sent);
    } catch (error) {
      if (isAnswered(error)) this.forget(sent);  // it is on the page still
      throw error;
    }
  }

  async deliver(decision) {
    const answer = await this.post("/api/decide", decision);
    this.forget(decision);
    return answer;
  }

  forget(decision) {
    localStorage.removeItem(this.key(`out.${decision.key}`));
  }

  waiting() {
    const prefix = this.key("out.");
    const names = Object.keys(localStorage).filter((name) => name.startsWith(prefix));
    return names.map((name) => parsed(localStorage.getItem(name))).filter(Boolean);
  }

  // Sends what an earlier page could not; gives how many were kept, and those that the server does not take, with why.
  async deliverWaiting() {
    const refused = [];
    let kept = 0;
    for (const decision of this.waiting()) {
      try {
        await this.deliver(decision);
        kept += 1;
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        refused.push([decision, error]);
      }
    }
    return { kept, refused };
  }
}

// Whether the server looked at a decision and does not take it.
export function isAnswered(error) {
  return error instanceof Refused && (error.isRewritten || !MAY_PASS.includes(error.status));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function givenToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    localStorage.setItem("virtue.review.token", found);
    history.replaceState(null, "", location.pathname);  // not to be seen over a shoulder
  }
  return found || localStorage.getItem("virtue.review.token") || "";
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
