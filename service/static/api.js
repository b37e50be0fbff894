// Requests to the service, its problem documents, and the API key.

const KEY = "audiotag-key";
let keyInMemory = "";

/** The API key of this tab, "" if there is none. */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? keyInMemory;
  } catch {
    return keyInMemory; // Storage is disabled.
  }
}

/** Keep the key while this tab is open. */
export function keepApiKey(key) {
  keyInMemory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // It stays in memory.
  }
}

/** A problem document: title, detail, and the time to wait if it is known. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, instance = "", ...rest }, seconds = null) {
    super(title);
    Object.assign(this, { title, detail, status, id: instance });
    this.retryAfterSeconds = seconds ?? rest.retry_after_seconds ?? null;
  }

  get needsKey() {
    // 403 does not always mean that the key is invalid.
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
      "It may have stopped, the connection may have broken, or the upload may have exceeded a limit. " +
      "Check that the service is running, and try again.",
  });

/** The problem of a failed response; a proxy's response has no problem document. */
function problemOf(status, text, retryAfter) {
  const seconds = /^\d+$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
  try {
    const document = JSON.parse(text);
    if (typeof document.title === "string") return new Problem({ status, ...document }, seconds);
  } catch {
    // Not JSON: see below.
  }
  const detail = `The response has the status ${status} and no explanation. Try again later.`;
  return new Problem({ title: "The request failed", detail, status }, seconds);
}

/** The JSON document of a successful response; throws a Problem otherwise. */
function documentOf(status, text, retryAfter) {
  try {
    if (status === 200) return JSON.parse(text);
  } catch {
    // A proxy answered with a page of its own.
  }
  throw problemOf(status, text, retryAfter);
}

/** GET a JSON document; the address is relative to the page. */
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

/** GET an example recording. */
export async function getFile(address, name) {
  try {
    const answer = await fetch(address);
    if (answer.ok) {
      const blob = await answer.blob();
      return new File([blob], name, { type: blob.type });
    }
  } catch {
    // See below.
  }
  throw unreachable();
}

/**
 * Tag a file: clip tags, segments, and scores over time.
 *
 * onProgress gets the fraction of the file that has been sent; signal cancels.
 */
export function classify(file, { model = "", onProgress, signal }) {
  const query = new URLSearchParams({ top_k: "10", segments: "true", tracks: "true" });
  if (model) query.set("model", model);
  const body = new FormData();
  body.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report upload progress
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
