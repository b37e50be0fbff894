// The figure: ruler, waveform, spectrogram and tags over time, on one time axis.

import { ramp } from "./colours.js";
import { clock, lessMotion, make, percent } from "./dom.js";
import { HIGHEST_HZ, LOWEST_HZ, Player, SPECTROGRAM_HEIGHT, WAVE_HEIGHT } from "./player.js";
import { closeAudio } from "./sound.js";
import { GAMMA, TagRow } from "./tag-rows.js";

const FRAME_SECONDS = 0.96;
const MAX_ZOOM = 64;
const MAX_STAGE_PIXELS = 16_000;
const MAX_PIXELS_PER_SECOND = 400;
const TICK_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600];
const MIN_TICK_PIXELS = 64;
const MIN_LABEL_PIXELS = 44;
const HERTZ_SHOWN = [500, 1_000, 2_000, 4_000];
// As for segments: a tag is detected where it has at least half of its highest score.
const SHARE_OF_PEAK = 0.5;
const WORTH_LIGHTING_UP = 0.05;

export class Figure {
  /** rows: tags to show, [] for none. onChange is called when the time or playing changes. */
  constructor({ answer, sound, rows, nonce, onChange }) {
    Object.assign(this, { answer, sound, nonce, onChange });
    this.seconds = sound.seconds ?? answer.duration_seconds;
    this.time = 0;
    this.zoom = 1;
    this.wasMoved = false;
    this.selected = null;
    this.player = null;
    this.starts = answer.tracks?.start_seconds ?? [];
    this.scores = new Map(answer.tracks?.tags.map((tag) => [tag.index, tag.scores]));
    this.peaks = new Map([...this.scores].map(([index, scores]) => [index, maximum(scores)]));
    this.highest = maximum([...this.peaks.values()]);
    this.rows = rows.map((tag) => new TagRow(tag, this.hasSegments ? () => this.select(tag) : null));
    this.hasTime = Boolean(sound.audio || sound.peaks || this.starts.length);
    this.build();
  }

  get hasSegments() {
    return Boolean(this.answer.segments && this.sound.peaks);
  }

  get isPlaying() {
    return Boolean(this.sound.audio && !this.sound.audio.paused);
  }

  get canPlay() {
    return Boolean(this.sound.audio);
  }

  build() {
    this.ruler = make("div", { class: "stage" });
    this.wave = make("div", { class: "stage wave" });
    this.playhead = make("div", { class: "playhead" });
    this.pointer = make("div", { class: "pointer", hidden: true });
    this.seeker = make(
      "div",
      {
        class: "seeker", tabindex: "0", role: "slider", "aria-label": "Playback position",
        "aria-valuemin": "0", "aria-valuemax": this.seconds.toFixed(2), "aria-valuenow": "0",
        click: (event) => this.seek(this.timeAt(event), { play: true }),
        keydown: (event) => this.onKey(event),
        pointermove: (event) => this.onPointer(event),
        pointerleave: () => { this.pointer.hidden = true; },
      },
      this.pointer,
      this.playhead,
    );
    const hasStrips = this.starts.length > 0 && this.rows.length > 0;
    const inner = make(
      "div",
      { class: `figure-inner${hasStrips ? "" : " no-strips"}` },
      this.hasTime ? row("ruler", "", this.ruler) : null,
      this.hasTime ? row("sound", this.gutterOfSound(), this.wave) : null,
      this.rows.map((tag) => tag.element),
      this.hasTime ? this.seeker : null,
    );
    this.inner = inner;
    this.scroller = make("div", { class: "scroller" }, inner);
    this.element = make("div", { class: "figure" }, this.scroller, hasStrips ? this.legend() : null);
  }

  gutterOfSound() {
    if (!this.sound.peaks) return "";
    const axis = this.sound.samples ? hertzAxis() : "";
    const wave = make("span", { class: "gutter-wave" }, "Waveform");
    wave.style.height = `${WAVE_HEIGHT}px`;
    return [wave, axis];
  }

  legend() {
    this.legendBar = make("canvas", { class: "legend-bar", width: "256", height: "1", "aria-hidden": "true" });
    return make("p", { class: "legend" }, "Score of each frame (0.96 s)", make("span", {}, "0 %"), this.legendBar,
      make("span", {}, percent(this.highest)));
  }

  /** Draw; the element must be in the document. */
  start() {
    if (this.sound.peaks) this.player = new Player(this.wave, this.sound, this.nonce);
    else this.wave.append(make("p", { class: "note" }, this.sound.note));
    const audio = this.sound.audio;
    if (audio) {
      for (const event of ["play", "pause", "seeked", "ended"]) {
        audio.addEventListener(event, () => this.follow());
      }
    }
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.ruler);
    this.setTime(0);
  }

  close() {
    cancelAnimationFrame(this.ticking);
    this.observer?.disconnect();
    this.player?.close();
    closeAudio(this.sound.audio);
  }

  recolour() {
    this.player?.recolour();
    this.draw();
  }

  /** Go to a time in seconds, and play from there if possible. */
  seek(time, { play = false } = {}) {
    this.wasMoved = true;
    const to = Math.max(0, Math.min(this.seconds, time));
    if (this.sound.audio) {
      this.sound.audio.currentTime = to;
      if (play) this.play();
    }
    this.setTime(to);
    this.reveal();
  }

  play() {
    this.wasMoved = true;
    this.sound.audio?.play().catch(() => {}); // paused again before it started
  }

  toggle() {
    if (this.isPlaying) this.sound.audio.pause();
    else this.play();
  }

  zoomBy(factor) {
    const stage = this.ruler.clientWidth / this.zoom;
    const widest = Math.min(MAX_ZOOM, MAX_STAGE_PIXELS / stage, (MAX_PIXELS_PER_SECOND * this.seconds) / stage);
    this.zoom = Math.max(1, Math.min(widest, this.zoom * factor));
    this.inner.style.setProperty("--zoom", this.zoom); // the ResizeObserver draws it
    this.reveal(true);
    this.onChange();
  }

  /** Mark the segments of a tag, or remove the marks. */
  select(tag) {
    this.selected = this.selected === tag ? null : tag;
    for (const one of this.rows) one.select(one.tag === this.selected);
    const segments = this.answer.segments.filter((segment) => segment.index === tag.index);
    this.player?.mark(this.selected ? segments : []);
  }

  // Private methods.

  draw() {
    if (!this.ruler.clientWidth) return;
    this.drawRuler();
    const colours = ramp();
    for (const one of this.rows) {
      const scores = this.scores.get(one.tag.index);
      if (!scores) continue;
      one.draw({
        starts: this.starts, scores, frameSeconds: FRAME_SECONDS, from: 0, to: this.seconds,
        highest: this.highest, colours,
      });
    }
    if (this.legendBar) drawRamp(this.legendBar, colours);
  }

  drawRuler() {
    const pixels = this.ruler.clientWidth / this.seconds;
    const step = TICK_SECONDS.find((tick) => tick * pixels >= MIN_TICK_PIXELS) ?? TICK_SECONDS.at(-1);
    const ticks = [];
    for (let i = 0; i * step <= this.seconds; i++) {
      const tick = make("span", { class: "tick" }, tickText(i * step, this.seconds));
      tick.style.left = `${(100 * i * step) / this.seconds}%`;
      // There is no room for a label at the end.
      tick.classList.toggle("is-bare", (this.seconds - i * step) * pixels < MIN_LABEL_PIXELS);
      ticks.push(tick);
    }
    this.ruler.replaceChildren(...ticks);
  }

  follow() {
    cancelAnimationFrame(this.ticking);
    const { audio } = this.sound;
    this.setTime(audio.currentTime);
    if (this.isPlaying) {
      this.reveal();
      this.ticking = requestAnimationFrame(() => this.follow());
    }
  }

  setTime(time) {
    this.time = time;
    this.inner.style.setProperty("--at", this.seconds ? Math.min(1, time / this.seconds) : 0);
    const frame = this.frameAt(time);
    for (const one of this.rows) {
      const scores = this.scores.get(one.tag.index);
      const least = Math.max(WORTH_LIGHTING_UP, SHARE_OF_PEAK * this.peaks.get(one.tag.index));
      one.setDetected(this.wasMoved && scores?.[frame] >= least);
    }
    const now = time.toFixed(2);
    if (this.seeker.getAttribute("aria-valuenow") !== now) this.seeker.setAttribute("aria-valuenow", now);
    const text = this.described(time, frame);
    if (this.seeker.getAttribute("aria-valuetext") !== text) this.seeker.setAttribute("aria-valuetext", text);
    this.onChange();
  }

  /** "2.9 s: Applause 96 %, Crowd 40 %" */
  described(time, frame) {
    const best = this.rows
      .map((one) => [one.tag.label, this.scores.get(one.tag.index)?.[frame]])
      .filter(([, score]) => score !== undefined)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 3)
      .map(([label, score]) => `${label} ${percent(score)}`);
    // Rounded to frames, so that screen readers do not announce every tenth of a second.
    const shown = this.isPlaying ? (this.starts[frame] ?? Math.floor(time)) : time;
    return `${clock(shown)}${best.length ? `: ${best.join(", ")}` : ""}`;
  }

  frameAt(time) {
    let frame = Math.min(this.starts.length - 1, Math.floor(time / FRAME_SECONDS + 1e-6));
    while (frame > 0 && this.starts[frame] > time + 1e-6) frame--;
    return Math.max(0, frame);
  }

  timeAt(event) {
    const { left, width } = this.seeker.getBoundingClientRect();
    return ((event.clientX - left) / width) * this.seconds;
  }

  onPointer(event) {
    if (event.pointerType === "touch") return;
    const time = Math.max(0, Math.min(this.seconds, this.timeAt(event)));
    this.pointer.hidden = false;
    this.pointer.style.left = `${(100 * time) / this.seconds}%`;
    this.pointer.classList.toggle("is-late", time > this.seconds / 2);
    this.pointer.dataset.time = clock(time);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowRight: () => this.step(1, event.shiftKey),
      ArrowUp: () => this.step(1, event.shiftKey),
      ArrowLeft: () => this.step(-1, event.shiftKey),
      ArrowDown: () => this.step(-1, event.shiftKey),
      PageUp: () => this.step(10, false),
      PageDown: () => this.step(-10, false),
      Home: () => this.seek(0),
      End: () => this.seek(this.seconds),
      Enter: () => this.toggle(),
      " ": () => this.toggle(),
      "+": () => this.zoomBy(2),
      "-": () => this.zoomBy(0.5),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** Move by n frames, or by n tenths of a second. */
  step(n, isSmall) {
    if (isSmall) return this.seek(this.time + n / 10);
    const frame = this.time / FRAME_SECONDS;
    const from = n > 0 ? Math.floor(frame + 1e-3) : Math.ceil(frame - 1e-3);
    return this.seek((from + n) * FRAME_SECONDS);
  }

  /** Scroll to the playhead if it is not visible. */
  reveal(always = false) {
    const { scroller, ruler } = this;
    if (this.zoom === 1) return;
    const gutter = this.inner.clientWidth - ruler.clientWidth;
    const at = (this.time / this.seconds) * ruler.clientWidth;
    const view = scroller.clientWidth - gutter;
    const isSeen = at >= scroller.scrollLeft && at <= scroller.scrollLeft + view - 8;
    if (isSeen && !always) return;
    const left = at - (always ? 0.5 : 0.1) * view;
    scroller.scrollTo({ left, behavior: lessMotion() || always ? "instant" : "smooth" });
  }
}

const tickText = (time, seconds) =>
  seconds < 60 ? `${Number(time.toFixed(1))} s` : clock(time, { tenths: false });

const row = (name, gutter, stage) =>
  make("div", { class: `row ${name}-row` }, make("div", { class: "gutter" }, gutter), stage);

function hertzAxis() {
  const mel = (hertz) => Math.log10(1 + hertz / 700);
  const axis = make("span", { class: "hertz" }, make("span", { class: "hertz-title" }, "Log-mel spectrogram"));
  axis.style.height = `${SPECTROGRAM_HEIGHT}px`;
  for (const hertz of HERTZ_SHOWN) {
    const tick = make("span", { class: "hertz-tick" }, hertz < 1_000 ? `${hertz} Hz` : `${hertz / 1_000} kHz`);
    const share = (mel(hertz) - mel(LOWEST_HZ)) / (mel(HIGHEST_HZ) - mel(LOWEST_HZ));
    tick.style.bottom = `${100 * share}%`;
    axis.append(tick);
  }
  return axis;
}

function drawRamp(canvas, colours) {
  const context = canvas.getContext("2d");
  colours.forEach(([red, green, blue], i) => {
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    // As in the strips: low scores have more of the colours.
    const left = 256 * (i / 255) ** (1 / GAMMA);
    context.fillRect(Math.floor(left), 0, 256, 1);
  });
}

const maximum = (numbers) => numbers.reduce((a, b) => Math.max(a, b), 0);
