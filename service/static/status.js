// Panels in place of a result: progress, problems, waiting, the API key.

import { announce, button, byId, icon, make, percent, sentence } from "./dom.js";

let stopTimer = () => {};

function show(panel) {
  clear();
  byId("status").append(panel);
}

/** Remove the panel. */
export function clear() {
  stopTimer();
  stopTimer = () => {};
  byId("status").replaceChildren();
}

/** Show progress; returns a function that updates it, with share null if it is unknown. */
export function working(title, onCancel) {
  const heading = make("p", { class: "panel-title" }, title);
  const bar = make("progress", { max: "1", "aria-label": title });
  const figure = make("span", { class: "panel-figure" });
  show(
    make(
      "div",
      { class: "card panel working" },
      make("div", { class: "panel-line" }, heading, figure),
      bar,
      button("Cancel", onCancel, { look: "small" }),
    ),
  );
  announce(title);
  return (now, share = null) => {
    if (heading.textContent !== now) announce(now);
    heading.textContent = now;
    bar.setAttribute("aria-label", now);
    figure.textContent = share === null ? "" : percent(share);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
}

/** Show a problem. actions: [[text, function]], the most likely one first. */
export function failed(problem, actions) {
  show(
    make(
      "div",
      { class: "card panel problem", role: "alert" },
      make("p", { class: "panel-title" }, icon("warn"), problem.title),
      problem.detail ? make("p", { class: "panel-text" }, sentence(problem.detail)) : null,
      make("div", { class: "panel-actions" }, actions.map(([text, action], i) => button(text, action, { look: i ? "" : "primary" }))),
      problem.id ? make("p", { class: "panel-id" }, `Request ${problem.id}`) : null,
    ),
  );
}

/** Show that the service is busy; resolves when it is time to retry, rejects if cancelled. */
export function waiting(problem, seconds, signal) {
  return new Promise((resolve, reject) => {
    const figure = make("strong", {}, "");
    const giveUp = new DOMException("cancelled", "AbortError");
    const end = (settle) => () => {
      clear();
      settle();
    };
    show(
      make(
        "div",
        { class: "card panel overload" },
        make("p", { class: "panel-title" }, icon("warn"), problem.title),
        problem.detail ? make("p", { class: "panel-text" }, sentence(problem.detail)) : null,
        make("p", { class: "panel-text" }, "Trying again in ", figure, "."),
        make(
          "div",
          { class: "panel-actions" },
          button("Try now", end(resolve), { look: "primary" }),
          button("Cancel", end(() => reject(giveUp))),
        ),
      ),
    );
    let left = Math.max(1, Math.ceil(seconds));
    const tick = () => {
      figure.textContent = `${left} s`;
      if (left-- <= 0) end(resolve)();
    };
    tick();
    announce(`${problem.title}. Trying again in ${left + 1} seconds.`);
    const timer = setInterval(tick, 1_000);
    const onAbort = end(() => reject(signal.reason));
    signal.addEventListener("abort", onAbort);
    stopTimer = () => {
      clearInterval(timer);
      signal.removeEventListener("abort", onAbort);
    };
  });
}

/** Ask for the API key; resolves with it, rejects if cancelled. */
export function askKey(problem, signal) {
  return new Promise((resolve, reject) => {
    const field = make("input", {
      id: "api-key", type: "password", required: true, autocomplete: "off", spellcheck: "false",
      "aria-describedby": "api-key-text",
    });
    const cancel = () => {
      clear();
      reject(new DOMException("cancelled", "AbortError"));
    };
    show(
      make(
        "form",
        {
          class: "card panel key",
          submit: (event) => {
            event.preventDefault();
            if (!field.value.trim()) return;
            clear();
            resolve(field.value.trim());
          },
        },
        make("p", { class: "panel-title" }, icon("key"), problem.title),
        make("p", { class: "panel-text", id: "api-key-text" },
          problem.status === 401 ? "This service requires an API key." : sentence(problem.detail),
          " The key is sent to this service only, and kept until this tab is closed."),
        make("label", { class: "field", for: "api-key" }, "API key"),
        make("div", { class: "panel-actions" }, field,
          make("button", { type: "submit", class: "button primary" }, "Use this key"),
          button("Cancel", cancel)),
      ),
    );
    announce(`${problem.title}. Enter an API key.`);
    signal.addEventListener("abort", cancel, { once: true });
    field.focus();
  });
}
