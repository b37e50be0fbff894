// The service: requests, its problem documents, and the key.

const KEY = "audiotag-key";
let keyInMemory = "";

/** The API key of this tab, "" if none was given. */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? keyInMemory;
  } catch {
    return keyInMemory; // Storage is turned off.
  }
}

/** Keep the key for as long as this tab is open. */
export function keepApiKey(key) {
  keyInMemory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // It is in memory.
  }
}

/** What went wrong, for people: title, detail, and where known how long to wait. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, instance = "", ...rest }, seconds = null) {
    super(title);
    Object.assign(this, { title, detail, status, id: instance });
    this.retryAfterSeconds = seconds ?? rest.retry_after_seconds ?? null;
  }

  get needsKey() {
    // 403 also tells other things than that a key is wrong.
    return this.status === 401 || (this.status === 403 && apiKey() !== "");
  }

  get isOverload() {
    return this.status === 429 || this.status === 503;
  }
}

const unreachable = () =>
  new Problem({
    title: "The service did not answer",
    detail:
      "It may have been stopped, the connection may have broken, or it ended a transfer that was " +
      "too long for it. See that it runs, and try again.",
  });

/** The problem in an answer that is no success; of a proxy in between if it is no document. */
function problemOf(status, text, retryAfter) {
  const seconds = /^\d+$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
  try {
    const document = JSON.parse(text);
    if (typeof document.title === "string") return new Problem({ status, ...document }, seconds);
  } catch {
    // Not JSON: told below.
  }
  const detail = `It answered with status ${status} and without an explanation. Try again later.`;
  return new Problem({ title: "The service could not do this", detail, status }, seconds);
}

/** The document of an answer; throws the problem that it tells of. */
function documentOf(status, text, retryAfter) {
  try {
    if (status === 200) return JSON.parse(text);
  } catch {
    // Something in between answered with a page of its own.
  }
  throw problemOf(status, text, retryAfter);
}

/** GET a JSON document, its address relative to the page. */
export async function getJson(address) {
  const key = apiKey();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  let text;
  try {
    answer = await fetch(address, { headers });
    text = await answer.text();
  } catch {
    throw unreachable();
  }
  return documentOf(answer.status, text, answer.headers.get("Retry-After"));
}

/** GET a file that comes with the service. */
export async function getFile(address, name) {
  try {
    const answer = await fetch(address);
    if (answer.ok) {
      const blob = await answer.blob();
      return new File([blob], name, { type: blob.type });
    }
  } catch {
    // Told below.
  }
  throw unreachable();
}

/**
 * What is heard in a file, when, and how the tags go over time.
 *
 * onProgress gets the share of the file that is sent; signal cancels.
 */
export function classify(file, { model = "", onProgress, signal }) {
  const query = new URLSearchParams({ top_k: "10", segments: "true", tracks: "true" });
  if (model) query.set("model", model);
  const body = new FormData();
  body.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how much is sent
    const key = apiKey();
    request.open("POST", `classify?${query}`);
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onProgress(1));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(signal.reason));
    request.addEventListener("load", () => {
      const { status, responseText } = request;
      try {
        resolve(documentOf(status, responseText, request.getResponseHeader("Retry-After")));
      } catch (problem) {
        reject(problem);
      }
    });
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) reject(signal.reason);
    else request.send(body);
  });
}

/** The address of the live stream. */
export function streamAddress() {
  const address = new URL("stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}
