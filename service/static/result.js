// The result of a clip: tags, figure, tables, downloads.

import { onSchemeChange } from "./colours.js";
import { announce, byId, button, clock, duration, icon, make, percent, sentence } from "./dom.js";
import { download, FORMATS } from "./downloads.js";
import { Figure } from "./figure.js";

const SURE = 0.5;
const PERHAPS = 0.2;
// Tags with lower scores get no row; the best three always do.
const WORTH_A_ROW = 0.01;
const WORTH_A_SEGMENT = 0.05;
const MAX_SEGMENTS_AT_FIRST = 30;
const MAX_TABLE_ROWS = 500;

/** Show the tags of an audio file; returns a function that removes them. */
export function showResult({ answer, sound, credit, nonce }) {
  const section = byId("result");
  const isSilent = answer.warnings.some((warning) => warning.startsWith("silence"));
  let transport;
  const figure = new Figure({
    answer,
    sound,
    rows: isSilent ? [] : answer.tags.filter((tag, i) => i < 3 || tag.score >= WORTH_A_ROW),
    nonce,
    onChange: () => transport.update(),
  });
  transport = new Transport(figure);
  section.replaceChildren(
    heading(answer, isSilent, credit),
    notes(answer, sound, figure),
    make("div", { class: "card" }, figure.hasTime ? transport.element : null, figure.element),
    make("div", { class: "beside" }, isSilent ? null : tables(answer, figure), downloads(answer)),
    about(answer),
  );
  section.hidden = false;
  figure.start();
  const stop = onSchemeChange(() => figure.recolour());
  announce(spoken(answer, isSilent));
  byId("result-title").focus({ preventScroll: true });
  return () => {
    stop();
    figure.close();
    section.hidden = true;
    section.replaceChildren();
  };
}

function heading(answer, isSilent, credit) {
  const [best] = answer.tags;
  let title = [];
  let text = "";
  if (isSilent) {
    title = ["Silence"];
    text = "No sample is louder than −60 dBFS. Was the microphone off, or is it the wrong track?";
  } else if (!best) {
    title = ["No known sound"];
  } else if (best.score >= PERHAPS) {
    title = [
      best.score >= SURE ? null : make("span", { class: "title-perhaps" }, "Perhaps "),
      best.label,
      " ",
      make("span", { class: "title-percent" }, percent(best.score)),
    ];
  } else {
    title = ["Uncertain"];
    text = `All scores are low; the best tag is ${best.label} with ${percent(best.score)}.`;
  }
  const took = answer.timings?.total;
  const facts = [
    make("span", { class: "file-name" }, answer.file ?? "Audio"),
    duration(answer.duration_seconds),
    took === undefined ? null : `answered in ${took < 1 ? `${Math.round(1_000 * took)} ms` : duration(took)}`,
    credit,
  ];
  return make(
    "header",
    { class: "result-head" },
    make("p", { class: "facts" }, facts.filter(Boolean).flatMap((fact, i) => (i ? [" · ", fact] : [fact]))),
    make("h2", { id: "result-title", tabindex: "-1" }, title),
    text ? make("p", { class: "lead" }, text) : null,
  );
}

function notes(answer, sound, figure) {
  const texts = answer.warnings.filter((warning) => !warning.startsWith("silence"));
  // Otherwise it takes the place of the waveform.
  if (sound.note && (sound.peaks || !figure.hasTime)) texts.push(sound.note);
  if (!answer.tracks) texts.push("This model scores whole clips only, so it cannot say when a sound occurs.");
  if (!texts.length) return "";
  return make("ul", { class: "notes" }, texts.map((text) => make("li", {}, icon("warn"), sentence(text))));
}

class Transport {
  constructor(figure) {
    this.figure = figure;
    this.label = make("span", {}, "Play");
    this.playIcon = icon("play");
    this.play = make("button", { type: "button", class: "button primary play", hidden: !figure.canPlay, click: () => figure.toggle() }, this.playIcon, this.label);
    this.time = make("span", { class: "time" });
    this.zoomOut = button("", () => figure.zoomBy(0.5), { icon: "out", look: "square", "aria-label": "Zoom out" });
    this.zoomIn = button("", () => figure.zoomBy(2), { icon: "in", look: "square", "aria-label": "Zoom in" });
    this.element = make("div", { class: "transport" }, this.play, this.time,
      make("span", { class: "zoom" }, make("span", { "aria-hidden": "true" }, "Zoom"), this.zoomOut, this.zoomIn));
  }

  update() {
    const { figure } = this;
    this.time.textContent = `${clock(figure.time)} / ${clock(figure.seconds)}`;
    this.zoomOut.disabled = figure.zoom <= 1;
    const text = figure.isPlaying ? "Pause" : "Play";
    if (this.label.textContent === text) return;
    this.label.textContent = text;
    this.playIcon.firstChild.setAttribute("href", figure.isPlaying ? "#icon-pause" : "#icon-play");
  }
}

function tables(answer, figure) {
  if (!answer.segments) return null;
  const shown = new Set(answer.tags.filter((tag, i) => !i || tag.score >= WORTH_A_SEGMENT).map((tag) => tag.index));
  const segments = answer.segments.filter((segment) => shown.has(segment.index));
  segments.sort((a, b) => a.start_seconds - b.start_seconds);
  const isPart = segments.length < answer.segments.length;
  const body = make("tbody");
  const fill = (n) => body.replaceChildren(...segments.slice(0, n).map((segment) => segmentRow(segment, figure)));
  fill(MAX_SEGMENTS_AT_FIRST);
  const more = button(`Show all ${segments.length}`, () => {
    fill(segments.length);
    body.rows[MAX_SEGMENTS_AT_FIRST].querySelector("button").focus(); // `more` is removed
    more.remove();
  }, { look: "small" });
  return make(
    "div",
    { class: "card tables" },
    make("h3", { id: "segments-title" }, "Segments"),
    make("div", { class: "table-box", tabindex: "0", role: "region", "aria-labelledby": "segments-title" },
      make("table", { "aria-labelledby": "segments-title" }, headRow("Tag", "From", "To", "Score"), body)),
    segments.length > MAX_SEGMENTS_AT_FIRST ? more : null,
    isPart ? make("p", { class: "small-print" }, "Only tags of at least 5 %; the downloads have all of them.") : null,
    trackTable(answer),
  );
}

function segmentRow(segment, figure) {
  const { label, start_seconds: start, end_seconds: end, score } = segment;
  const text = `${label}, from ${clock(start)}`;
  const go = make("button", { type: "button", class: "link", "aria-label": figure.canPlay ? `Play ${text}` : `Go to ${text}`,
    click: () => figure.seek(start, { play: true }) }, label);
  return make("tr", {}, make("th", { scope: "row" }, go), ...[clock(start), clock(end), percent(score)].map((cell) => make("td", {}, cell)));
}

/** The heat map as a table, created when it is opened. */
function trackTable(answer) {
  if (!answer.tracks) return null;
  const { start_seconds: starts, tags } = answer.tracks;
  const box = make("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "Scores over time" });
  const details = make("details", {
    toggle: () => {
      if (!details.open || box.firstChild) return;
      const rows = starts.slice(0, MAX_TABLE_ROWS).map((start, i) =>
        make("tr", {}, make("th", { scope: "row" }, clock(start)), tags.map((tag) => make("td", {}, percent(tag.scores[i])))));
      box.append(make("table", {}, make("caption", { class: "unseen" }, "Scores of the tags in each 0.96 s"),
        headRow("From", ...tags.map((tag) => tag.label)), make("tbody", {}, rows)));
      if (starts.length > rows.length) {
        box.append(make("p", { class: "note" }, `The first ${rows.length} of ${starts.length} rows; the download “CSV over time” has all of them.`));
      }
    },
  }, make("summary", {}, "The heat map as a table"), box);
  return details;
}

const headRow = (...names) =>
  make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, name))));

function downloads(answer) {
  return make(
    "div",
    { class: "card downloads" },
    make("h3", {}, "Download"),
    make("ul", {}, FORMATS.filter((format) => format.has(answer)).map((format) =>
      make("li", {}, make("button", { type: "button", class: "download", click: () => download(answer, format) },
        icon("down"), make("span", {}, make("strong", {}, format.name), make("small", {}, format.what)))))),
  );
}

function about(answer) {
  const { model, embedder, timings = {} } = answer;
  const stages = Object.entries(timings).map(([name, seconds]) => `${name.replace("_", " ")} ${Math.round(1_000 * seconds)} ms`);
  const facts = [
    ["Model", `${model.name} (${model.head}), sha256 ${model.sha256}`],
    ["Embedder", Object.entries(embedder).map(([key, value]) => (key === "name" ? value : `${key.replace("_", " ")} ${value}`)).join(", ")],
    ["Time spent", stages.join(", ")],
    ["Request", answer.request_id],
  ];
  return make("details", { class: "about" }, make("summary", {}, "Details"),
    make("dl", {}, facts.filter(([, text]) => text).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])));
}

function spoken(answer, isSilent) {
  if (isSilent) return "The audio is silent.";
  const best = answer.tags.slice(0, 3).map((tag) => `${tag.label} ${percent(tag.score)}`);
  return best.length ? `Detected: ${best.join(", ")}.` : "No known sound.";
}
