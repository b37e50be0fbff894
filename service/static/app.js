// The page: tags a file, an example or the microphone.

import { classify, getFile, getJson, keepApiKey, Problem } from "./api.js";
import { announce, byId, bytes, duration, icon, lessMotion, make } from "./dom.js";
import { listen } from "./live.js";
import { showResult } from "./result.js";
import { closeAudio, readSound } from "./sound.js";
import * as status from "./status.js";

const MAX_RETRIES = 8;
const DEFAULT_WAIT_SECONDS = 5;

const nonce = document.querySelector("meta[name=style-nonce]").content;
let task = new AbortController();
let closeResult = () => {};
let last = null; // the file on display: {file, credit}

/** Cancel the current task and start a new one. */
function begin() {
  task.abort(new DOMException("another task was started", "AbortError"));
  task = new AbortController();
  status.clear();
  return task.signal;
}

/** The same, and close the result. */
function beginAnew() {
  closeResult();
  closeResult = () => {};
  document.body.classList.remove("is-empty");
  return begin();
}

/** Run an action; ask for an API key if it is required, and retry while the service is busy. */
async function persist(action, signal) {
  for (let retries = 0; ; retries++) {
    try {
      return await action();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem)) throw error;
      if (error.needsKey) {
        keepApiKey(await status.askKey(error, signal));
        if (action !== loadModels) loadModels().catch(() => {}); // the action reports the problem
      } else if (error.isOverload && !error.hasBegun && retries < MAX_RETRIES) {
        await status.waiting(error, error.retryAfterSeconds ?? DEFAULT_WAIT_SECONDS, signal);
      } else {
        throw error;
      }
    }
  }
}

/** Tag a file and show the result. */
async function look(file, credit = null) {
  const signal = beginAnew();
  last = { file, credit };
  const reading = readSound(file, signal);
  try {
    const answer = await persist(() => send(file, signal), signal);
    status.working("Drawing the waveform", cancel);
    const sound = await reading;
    signal.throwIfAborted();
    status.clear();
    closeResult = showResult({ answer, sound, credit, nonce });
    scrollToResult();
  } catch (error) {
    reading.then((sound) => closeAudio(sound.audio));
    report(error, signal, () => look(file, credit));
  }
}

function send(file, signal) {
  const title = `Sending ${file.name} (${bytes(file.size)})`;
  const say = status.working(title, cancel);
  const onProgress = (share) => (share < 1 ? say(title, share) : say(`Tagging ${file.name}`));
  return classify(file, { model: byId("model").value, onProgress, signal });
}

/** Show an error, unless the task was cancelled. */
function report(error, signal, again) {
  if (signal.aborted) return;
  if (error.name === "AbortError") {
    beEmpty();
    return;
  }
  const problem = error instanceof Problem ? error : new Problem({
    title: "Something went wrong on this page",
    detail: `Reload it and try again. (${error.message})`,
  });
  if (!(error instanceof Problem)) console.error(error);
  const actions = [["Choose another file", () => byId("file").click()], ["Try again", again]];
  if (problem.recording) actions.unshift(["Tag the recording", () => look(problem.recording)]);
  else if (problem.status === 0 || problem.status >= 500) actions.reverse();
  status.failed(problem, actions);
}

function cancel() {
  begin();
  beEmpty();
  announce("Cancelled.");
}

/** Show the start screen. */
function beEmpty() {
  last = null;
  status.clear();
  document.body.classList.add("is-empty");
  byId("choose").focus({ preventScroll: true }); // the focused element is gone
}

function scrollToResult() {
  const top = byId("result").getBoundingClientRect().top;
  if (top < 0 || top > 0.5 * innerHeight) {
    byId("result").scrollIntoView({ behavior: lessMotion() ? "instant" : "smooth", block: "start" });
  }
}

async function capture(isLive) {
  const signal = beginAnew();
  last = null;
  try {
    const recording = await persist(() => listen({ isLive, model: byId("model").value, signal }), signal);
    if (recording) await look(recording);
    else beEmpty();
  } catch (error) {
    report(error, signal, () => capture(isLive));
  }
}

async function tryExample(example) {
  const signal = begin();
  try {
    const file = await getFile(example.url, example.name);
    signal.throwIfAborted();
    await look(file, `${example.description}, by ${example.attribution} (${example.licence})`);
  } catch (error) {
    report(error, signal, () => tryExample(example));
  }
}

// The start screen.

async function loadModels() {
  const { models } = await getJson("models");
  const chosen = byId("model").value || models.find((model) => model.default)?.name;
  byId("model").replaceChildren(
    ...models.map(({ name }) => make("option", { value: name, selected: name === chosen }, name)),
  );
  byId("model-choice").hidden = models.length < 2;
  const n = models.find((model) => model.name === chosen)?.n_classes;
  if (n) byId("n-classes").textContent = n;
}

async function loadExamples() {
  const { examples } = await getJson("examples");
  byId("examples").replaceChildren(
    ...examples.map((example) =>
      make("li", {}, make(
        "button",
        { type: "button", class: "chip", title: example.description, click: () => tryExample(example) },
        icon("play"), example.title, make("span", { class: "chip-time" }, duration(example.duration_seconds)),
      ))),
  );
  byId("examples-box").hidden = examples.length === 0;
}

function acceptDrops() {
  let depth = 0;
  const veil = byId("drop-veil");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const cover = (change) => {
    depth = Math.max(0, change(depth));
    veil.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => hasFiles(event) && cover((n) => n + 1));
  addEventListener("dragleave", (event) => hasFiles(event) && cover((n) => n - 1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    cover(() => 0);
    if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
  });
}

function drawArt() {
  // A decorative waveform.
  for (let i = 0; i < 64; i++) {
    const bar = make("i");
    const swell = Math.exp(-(((i - 24) / 16) ** 2)) + 0.55 * Math.exp(-(((i - 48) / 7) ** 2));
    bar.style.height = `${8 + 88 * swell * (0.45 + 0.55 * Math.abs(Math.sin(i * 1.7) * Math.cos(i * 0.6)))}%`;
    byId("drop-art").append(bar);
  }
}

function start() {
  drawArt();
  byId("curl").textContent = `curl -F file=@clip.wav ${new URL("classify", document.baseURI)}`;
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) look(file);
  });
  byId("record").addEventListener("click", () => capture(false));
  byId("listen").addEventListener("click", () => capture(true));
  byId("model").addEventListener("change", () => last && look(last.file, last.credit));
  acceptDrops();
  const { signal } = task;
  persist(loadModels, signal).then(() => signal.aborted || status.clear(), (error) => report(error, signal, () => location.reload()));
  loadExamples().catch(() => {}); // the page works without them
}

start();
