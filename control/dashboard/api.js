// The management API, and how often what it counts has grown.

/** A request that the process refused, in its words. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const token = () => sessionStorage.getItem("flowmob-token");

export function setToken(value) {
  sessionStorage.setItem("flowmob-token", value);
}

async function fetched(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  const response = await fetch(path, { cache: "no-store", ...options, headers });
  if (response.ok) return response;
  let detail = `${response.status} ${response.statusText}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // An answer that is no problem of the API's has its status to say.
  }
  throw new Refused(response.status, detail);
}

export async function get(path) {
  return (await fetched(path)).json();
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await fetched(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** Calls `each` with every event, those that are kept first; ends only with an error. */
export async function follow(after, each) {
  const response = await fetched(`/v1/events/stream?after=${after}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the stream of events ended");
    const pieces = (rest + value).split("\n\n");
    rest = pieces.pop();
    for (const piece of pieces) {
      const lines = piece.split("\n");
      const of = (name) => lines.filter((l) => l.startsWith(name)).map((l) => l.slice(name.length).trim());
      const data = of("data:").join("\n");
      if (data && !of("event:").length) each(JSON.parse(data));
    }
  }
}

/** Growth per second of counters between two looks at them. */
export class Rates {
  #before = new Map();
  #now = new Map();
  #seconds = 0;
  #time;

  /** Begins a look, at a time in milliseconds. */
  look(time) {
    this.#seconds = this.#time === undefined ? 0 : (time - this.#time) / 1000;
    this.#time = time;
    this.#before = this.#now;
    this.#now = new Map();
  }

  /** Growth of the counter `name`; a counter that began anew has not grown. */
  of(name, value) {
    this.#now.set(name, value);
    const before = this.#before.get(name);
    if (before === undefined || value < before || this.#seconds <= 0) return 0;
    return (value - before) / this.#seconds;
  }
}

/** A number with three digits that count and a prefix of the SI. */
export function short(value, unit = "") {
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [step, prefix] = steps.find(([step]) => value >= step) ?? [1, ""];
  const scaled = value / step;
  const digits = scaled >= 100 || (step === 1 && scaled === Math.round(scaled)) ? 0 : scaled >= 10 ? 1 : 2;
  return `${scaled.toFixed(step === 1 && scaled >= 10 ? 0 : digits)} ${prefix}${unit}`.trim();
}
