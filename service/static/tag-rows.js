// A row of a figure: a tag's name, its score as a bar, and its scores over time as a strip.

import { make, percent } from "./dom.js";

// The widest canvas that browsers support.
const MAX_CANVAS_PIXELS = 16_384;
const MIN_PIXELS_FOR_GAPS = 10;
// Makes low scores easier to distinguish.
export const GAMMA = 0.7;

export class TagRow {
  /** onSelect is called when the name is clicked; without it the name is not a button. */
  constructor(tag, onSelect = null) {
    this.tag = tag;
    this.label = make("span", { class: "tag-label" }, tag.label);
    this.percent = make("span", { class: "tag-percent" });
    this.bar = make("span", { class: "tag-bar", "aria-hidden": "true" }, make("span", { class: "tag-fill" }));
    const inside = [this.label, this.percent, this.bar];
    this.name = onSelect
      ? make("button", { type: "button", class: "tag-name", "aria-pressed": "false", click: onSelect }, inside)
      : make("div", { class: "tag-name" }, inside);
    this.strip = make("canvas", { class: "strip", "aria-hidden": "true" });
    this.stage = make("div", { class: "stage" }, this.strip);
    this.element = make("div", { class: "row tag-row" }, make("div", { class: "gutter" }, this.name), this.stage);
    this.setScore(tag.score);
  }

  setScore(score) {
    this.percent.textContent = percent(score);
    this.bar.firstChild.style.transform = `scaleX(${score})`;
  }

  select(isSelected) {
    this.name.setAttribute("aria-pressed", String(isSelected));
    this.element.classList.toggle("is-selected", isSelected);
  }

  /** Mark the tag as detected at the playhead. */
  setDetected(isDetected) {
    this.element.classList.toggle("is-detected", isDetected);
  }

  /**
   * Draw the scores of frames that start at `starts` and last `frameSeconds`, in a strip from
   * `from` to `to` seconds; `highest` gets the last colour of the ramp.
   */
  draw({ starts, scores, frameSeconds, from, to, highest, colours }) {
    const canvas = this.strip;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.min(MAX_CANVAS_PIXELS, Math.round(canvas.clientWidth * ratio));
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = width / (to - from);
    const gap = frameSeconds * pixels >= MIN_PIXELS_FOR_GAPS * ratio ? Math.max(1, Math.round(ratio)) : 0;
    let [drawnTo, drawn] = [-Infinity, 0];
    for (let i = 0; i < starts.length; i++) {
      const end = starts[i + 1] ?? starts[i] + frameSeconds;
      const left = Math.round((starts[i] - from) * pixels);
      const right = Math.max(left + 1, Math.round((Math.min(end, starts[i] + frameSeconds) - from) * pixels) - gap);
      if (right <= 0 || left >= width) continue;
      // Of several frames in one pixel, the highest is drawn.
      if (left < drawnTo && scores[i] < drawn) continue;
      [drawnTo, drawn] = [right, scores[i]];
      const share = highest > 0 ? Math.min(1, scores[i] / highest) : 0;
      const [red, green, blue] = colours[Math.round(255 * share ** GAMMA)];
      context.fillStyle = `rgb(${red} ${green} ${blue})`;
      context.fillRect(left, 0, right - left, height);
    }
  }
}
