// What is asked of the server about the query: masks, results, ranked captions. Of each only the newest answer counts.

import { Failure, isAbort, post } from "./api.js";

export const SHOWN = 24;  // pictures that are shown

const TOP_K = 48;       // hits that are asked for: of things there may be several in one picture
const OUTLINED = 1024;  // pixels along the longer side of a mask: finer ones look the same, and take longer
const LONGEST = 1500;   // characters of a path that a filter can hold

// Runs one task at a time; a newer one takes the place of what is on its way, which then gives undefined.
export class Latest {
  #flight = null;

  async run(task) {
    this.stop();
    const flight = new AbortController();
    this.#flight = flight;
    try {
      const found = await task(flight.signal);
      return this.#flight === flight ? found : undefined;
    } catch (error) {
      if (isAbort(error) || this.#flight !== flight) return undefined;
      throw error;
    }
  }

  stop() {
    this.#flight?.abort();
    this.#flight = null;
  }
}

export class Asker {
  hasRegions = true;  // until the index shows that it has none
  masks = new Latest();
  searches = new Latest();
  ranks = new Latest();

  // `reopen(picture, signal)` opens a picture again that the server has let go of.
  constructor(query, reopen) {
    this.query = query;
    this.reopen = reopen;
  }

  // What results are: things when a thing is meant, else whole pictures.
  get kind() {
    const { kind, picture, means } = this.query;
    if (kind !== "auto") return kind;
    return picture && means && this.hasRegions ? "region" : "image";
  }

  question() {
    const { picture, means, text } = this.query;
    return {
      ...(text ? { text } : {}),
      ...(picture ? { image: picture.id } : {}),
      ...(picture && means ? this.query.hint() : {}),
    };
  }

  // The request that the page makes now, for whoever wants the code.
  request() {
    const { mode, captions, picture } = this.query;
    if (mode === "name" && picture) return { path: "/v1/rank", body: this.#rankBody(captions) };
    return { path: "/v1/search", body: { query: this.question(), kind: this.kind, top_k: TOP_K, ...this.#others() } };
  }

  // Nobody looks for the picture that is open.
  #others() {
    const { path } = this.query.picture || {};
    return path && path.length <= LONGEST ? { filter: `path != '${path.replaceAll("'", "''")}'` } : {};
  }

  async mask(hint, signal) {
    return this.#withPicture((image) => post("/v1/mask", { image, ...hint, size: OUTLINED }, signal), signal);
  }

  // The mask of what is pointed at now; null when nothing is.
  async currentMask() {
    return this.masks.run(async (signal) => (this.query.means ? this.mask(this.query.hint(), signal) : null));
  }

  async search() {
    return this.searches.run(async (signal) => {
      const hits = await this.#found(signal);
      if (hits.length || this.kind !== "region" || this.query.kind !== "auto") return hits;
      this.hasRegions = false;
      return this.#found(signal);
    });
  }

  async #found(signal) {
    const ask = async () => bestOfEach((await post("/v1/search", { ...this.request().body }, signal)).data);
    return this.query.picture ? this.#withPicture(ask, signal) : ask();
  }

  async rank(captions) {
    return this.ranks.run((signal) => this.#withPicture(
      async () => (await post("/v1/rank", this.#rankBody(captions), signal)).data, signal,
    ));
  }

  #rankBody(candidates) {
    const { text, ...question } = this.question();  // words belong to a search
    return { query: question, candidates };
  }

  async #withPicture(ask, signal) {
    const { picture } = this.query;
    try {
      return await ask(picture.id);
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== "image_not_open") throw error;
      await this.reopen(picture, signal);
      return ask(picture.id);
    }
  }
}

// One hit for each picture: the best.
function bestOfEach(hits) {
  const seen = new Set();
  return hits.filter(({ path }) => !seen.has(path) && seen.add(path)).slice(0, SHOWN);
}
