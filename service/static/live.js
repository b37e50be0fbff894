// The microphone: recorded for later, or tagged live.

import { apiKey, Problem, streamAddress } from "./api.js";
import { openMicrophone } from "./capture.js";
import { ramp, waveColours } from "./colours.js";
import { announce, button, byId, clock, icon, lessMotion, make, percent } from "./dom.js";
import { TagRow } from "./tag-rows.js";
import { wavFile } from "./wav.js";

const WINDOW_SECONDS = 30;
const MAX_ROWS = 8;
const TOP_K = 12;
const MAX_KEPT_SECONDS = 600;
const MAX_WAITING_BYTES = 4 << 20;
const ANNOUNCE_MS = 4_000;

/**
 * Record the microphone; with isLive stream the audio to the service and show its tags.
 *
 * Resolves with the recording, a File, or null if it is discarded. Rejects with a Problem, whose
 * `recording` is what was recorded until then.
 */
export async function listen({ isLive, model, signal }) {
  const session = new Session(isLive, model);
  try {
    return await session.run(signal);
  } finally {
    session.close();
  }
}

class Session {
  constructor(isLive, model) {
    Object.assign(this, { isLive, model, rows: new Map(), frames: [], peaks: [], pieces: [] });
    this.nSamples = 0;
    this.sampleRate = 0;
    this.lastAnnounced = ["", 0];
    this.ended = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.ended.catch(() => {});
  }

  async run(signal) {
    signal.addEventListener("abort", () => this.reject(signal.reason), { once: true });
    this.microphone = await openMicrophone((block) => this.onBlock(block), () =>
      this.reject(new Problem({
        title: "The microphone was disconnected",
        detail: "Reconnect it and try again. The recording so far is kept.",
      })));
    signal.throwIfAborted();
    this.sampleRate = this.microphone.sampleRate;
    this.show();
    if (this.isLive) this.connect();
    this.timer = setInterval(() => this.draw(), lessMotion() ? 960 : 66);
    try {
      return await this.ended;
    } catch (error) {
      if (error instanceof Problem) error.recording = this.recording();
      throw error;
    }
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.patience);
    this.microphone?.close();
    if (this.socket) this.socket.onclose = this.socket.onmessage = null;
    this.socket?.close();
    byId("live").hidden = true;
    byId("live").replaceChildren();
  }

  get seconds() {
    return this.sampleRate ? this.nSamples / this.sampleRate : 0;
  }

  /** The recording as a file, at most its last ten minutes. */
  recording() {
    return this.pieces.length ? wavFile(this.pieces, this.sampleRate, `${this.isLive ? "live" : "recording"}.wav`) : null;
  }

  show() {
    const section = byId("live");
    this.time = make("span", { class: "time" }, clock(0));
    this.level = make("div", { class: "level-fill" });
    this.meter = make("div", { class: "level", role: "meter", "aria-label": "Level in dBFS", "aria-valuemin": "-60", "aria-valuemax": "0", "aria-valuenow": "-60" }, this.level);
    this.trace = make("canvas", { class: "trace", "aria-hidden": "true" });
    this.list = make("div", { class: "live-rows" });
    this.hint = make("p", { class: "note" }, this.isLive ? "Connecting …" : "Recording stops automatically after ten minutes.");
    const stop = button(this.isLive ? "Stop" : "Stop and tag", () => this.stop(), { icon: "stop", look: "primary" });
    section.replaceChildren(
      make(
        "div",
        { class: "live-head" },
        make("h2", { id: "live-title" }, make("span", { class: "beacon", "aria-hidden": "true" }), this.isLive ? "Listening" : "Recording"),
        this.time,
        make("div", { class: "panel-actions" }, stop, button("Discard", () => this.resolve(null))),
      ),
      this.meter,
      make("div", { class: "figure live-figure" },
        make("div", { class: "row" }, make("div", { class: "gutter" }, make("span", { class: "gutter-wave" }, `The last ${WINDOW_SECONDS} s`)), make("div", { class: "stage" }, this.trace)),
        this.list),
      this.hint,
    );
    section.hidden = false;
    announce(this.isLive ? "Listening." : "Recording.");
    stop.focus();
  }

  onBlock({ samples, peak }) {
    this.peaks.push([this.seconds, peak]);
    this.nSamples += samples.length;
    this.pieces.push(samples);
    while (this.pieces.length * samples.length > MAX_KEPT_SECONDS * this.sampleRate) {
      if (!this.isLive) {
        this.stop();
        break;
      }
      this.pieces.shift(); // a long stream must not fill the memory
    }
    while (this.peaks[0][0] < this.seconds - WINDOW_SECONDS - 1) this.peaks.shift();
    if (this.isReady) this.send(samples);
  }

  // The stream.

  connect() {
    this.socket = new WebSocket(streamAddress());
    this.socket.onopen = () => {
      const first = { sample_rate_hz: this.sampleRate, encoding: "s16le", channels: 1, top_k: TOP_K };
      if (this.model) first.model = this.model;
      if (apiKey()) first.api_key = apiKey();
      this.socket.send(JSON.stringify(first));
    };
    this.socket.onmessage = (event) => this.onMessage(JSON.parse(event.data));
    this.socket.onclose = () =>
      this.reject(new Problem({
        title: "The live connection ended",
        detail: "The service may have stopped, or the network is down. Try again. The recording so far is kept.",
      }));
  }

  onMessage(message) {
    if (message.type === "ready") {
      this.frameSeconds = message.frame_seconds;
      for (const piece of this.pieces) this.send(piece);
      this.isReady = true;
      this.hint.textContent = "The first tags appear after a second.";
    } else if (message.type === "tags") {
      this.onTags(message);
    } else if (message.type === "error") {
      const problem = new Problem(message.problem);
      problem.hasBegun = Boolean(this.frameSeconds); // there is a recording to keep
      this.reject(problem);
    } else if (message.type === "done") {
      this.resolve(this.recording());
    }
  }

  send(samples) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > MAX_WAITING_BYTES) {
      this.reject(new Problem({
        title: "The connection is too slow for a live stream",
        detail: "A stream needs about 100 KB/s. The recording so far is kept; tag it instead.",
      }));
      return;
    }
    this.socket.send(samples);
  }

  stop() {
    if (!this.isReady) {
      this.resolve(this.recording());
      return;
    }
    this.isReady = false;
    this.microphone.close();
    this.hint.textContent = "Waiting for the last tags …";
    this.socket.send(JSON.stringify({ type: "end" }));
    // The recording is complete even if the last tags do not arrive.
    this.patience = setTimeout(() => this.resolve(this.recording()), 5_000);
  }

  onTags({ start_seconds: start, tags, clip_tags: clipTags }) {
    this.hint.textContent = "";
    this.frames.push({ start, scores: new Map(tags.map((tag) => [tag.index, tag.score])) });
    const from = this.seconds - WINDOW_SECONDS;
    this.frames = this.frames.filter((frame) => frame.start + this.frameSeconds > from);
    for (const tag of clipTags) if (!this.rows.has(tag.index)) this.rows.set(tag.index, new TagRow(tag));
    const now = new Map(clipTags.map((tag) => [tag.index, tag.score]));
    for (const [index, row] of this.rows) row.setScore(now.get(index) ?? 0);
    this.arrange(clipTags);
    this.say(clipTags[0]);
  }

  /** Show the rows of the current best tags, in order, and drop the others. */
  arrange(clipTags) {
    const shown = clipTags.slice(0, MAX_ROWS).map((tag) => tag.index);
    for (const index of this.rows.keys()) if (!shown.includes(index)) this.rows.delete(index);
    const elements = shown.map((index) => this.rows.get(index).element);
    const isSame = elements.length === this.list.children.length && elements.every((e, i) => e === this.list.children[i]);
    if (!isSame) this.list.replaceChildren(...elements);
  }

  say(best) {
    const [label, at] = this.lastAnnounced;
    if (!best || best.label === label || performance.now() - at < ANNOUNCE_MS) return;
    this.lastAnnounced = [best.label, performance.now()];
    announce(`${best.label}, ${percent(best.score)}`);
  }

  // Drawing.

  draw() {
    const now = this.seconds;
    this.time.textContent = clock(now);
    const peak = this.peaks.at(-1)?.[1] ?? 0;
    const decibels = Math.max(-60, Math.min(0, 20 * Math.log10(peak || 1e-6)));
    this.level.style.transform = `scaleX(${1 + decibels / 60})`;
    this.meter.setAttribute("aria-valuenow", Math.round(decibels));
    const [from, to] = [now - WINDOW_SECONDS, now];
    this.drawTrace(from, to);
    const highest = Math.max(0.3, ...this.frames.flatMap((frame) => [...frame.scores.values()]));
    const colours = ramp();
    const starts = this.frames.map((frame) => frame.start);
    for (const [index, row] of this.rows) {
      const scores = this.frames.map((frame) => frame.scores.get(index) ?? 0);
      row.draw({ starts, scores, frameSeconds: this.frameSeconds, from, to, highest, colours });
    }
  }

  drawTrace(from, to) {
    const canvas = this.trace;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = waveColours().played;
    const bar = Math.max(1, (width / WINDOW_SECONDS) * ((this.pieces.at(-1)?.length ?? 0) / this.sampleRate) - ratio);
    for (const [at, peak] of this.peaks) {
      const size = Math.max(ratio, Math.sqrt(peak) * height);
      context.fillRect(((at - from) / (to - from)) * width, (height - size) / 2, bar, size);
    }
  }
}
