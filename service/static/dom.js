// Create elements. Text becomes text nodes, never markup.

/** Create an element. A function value adds a listener; null and false omit the attribute. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the icons of index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon, or none. */
export function button(text, action, { look = "", icon: name = null, ...attributes } = {}) {
  const classes = `button ${look}`.trim();
  const content = name ? [icon(name), text] : [text];
  return make("button", { type: "button", class: classes, click: action, ...attributes }, content);
}

export const byId = (id) => document.getElementById(id);

/** Announce something to screen readers. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Format a fraction as a percentage. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "< 1 %";
  return `${share >= 0.995 && share < 1 ? 99 : Math.round(100 * share)} %`;
}

/** Format a time: 0:02.9, without tenths 1:02:03. */
export function clock(seconds, { tenths = true } = {}) {
  const shown = tenths ? Math.round(seconds * 10) / 10 : Math.floor(seconds + 1e-6);
  const hours = Math.floor(shown / 3600);
  const minutes = Math.floor(shown / 60) % 60;
  const rest = (shown % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Format a duration: "3.7 s", "12 min 5 s". */
export function duration(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** Format a number of bytes. */
export function bytes(n) {
  if (n < 1024 * 1024) return `${Math.max(1, Math.round(n / 1024))} KiB`;
  return `${(n / 1024 / 1024).toFixed(n < 10 * 1024 * 1024 ? 1 : 0)} MiB`;
}

/** Make a sentence of a message of the service; a name keeps its case. */
export function sentence(text) {
  const [first] = text.split(" ");
  const start = /^[a-z]+,?$/.test(first) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?)]$/.test(start) ? start : `${start}.`;
}

export const lessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
