"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

/** An element. `text` is shown as text whatever it holds; `on` has listeners; everything else is an attribute. */
function el(tag, options, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// What acts on the order of letters, or on a terminal, and shows nothing of itself.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** A text as it is, but for control characters, which stand there by their numbers and do nothing. */
const plain = (text) => text.replace(CONTROLS, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many || one + "s"}`;
const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(share * 1000) / 10} %`);
const signed = (number, digits) => number.toFixed(digits).replace("-", "\u2212");

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

/** What has just happened, for those who hear the page. */
const heard = el("div", { class: "heard", role: "status" });
const say = (text) => { heard.textContent = text; };

/** A message that stays until it is answered: what is wrong, and a button for what to do. */
const banner = el("div", { class: "banner", role: "alert", hidden: true });
function complain(text, label, action) {
  banner.replaceChildren(el("span", { text }), el("button", { type: "button", text: label, on: { click: action } }));
  banner.hidden = false;
}

const typing = (event) =>
  event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null ||
  event.target.closest("input, select, textarea, [contenteditable]") !== null;

/* Who judges: asked for once, and kept by the browser. */

let reviewer = "";
try { reviewer = localStorage.getItem("caption_assets reviewer") || ""; } catch { /* no storage: asked each time */ }
const reviewerButton = el("button", { type: "button", class: "quiet", on: { click: () => askReviewer() } });

function showReviewer() {
  reviewerButton.textContent = reviewer ? `Judging as ${reviewer}` : "Say who you are";
}

/** Asks for a name; `then` goes on where one was given. */
function askReviewer(then) {
  const input = el("input", { type: "text", name: "reviewer", maxlength: "100", required: true, autocomplete: "name" });
  input.value = reviewer;
  const form = el("form", { method: "dialog" },
    el("label", {}, "Your name, which stands beside your verdicts", input),
    el("div", { class: "actions" },
      el("button", { type: "submit", value: "ok", class: "first", text: "Go on" }),
      el("button", { type: "button", text: "Cancel", on: { click: () => dialog.close("") } })));
  const dialog = el("dialog", { "aria-label": "Who judges" }, form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    const name = input.value.trim();
    if (dialog.returnValue !== "ok" || !name) return;
    reviewer = name;
    try { localStorage.setItem("caption_assets reviewer", name); } catch { /* it holds for this page */ }
    showReviewer();
    if (then) then();
  });
  document.body.append(dialog);
  dialog.showModal();
  input.select();
}

/* What is on its way to the server: in order, one after the other, and kept until the server has it. */

const unsent = [];
let sending = null;
const SHORTEST_PAUSE = 2, LONGEST_PAUSE = 30;  // seconds until what could not be sent is sent again
let pause = SHORTEST_PAUSE, again = 0;
const saved = el("span", { class: "dim" });

function showUnsent() {
  saved.textContent = unsent.length ? `saving ${unsent.length}\u2026` : "all saved";
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin",
  });
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  const error = new Error(text.slice(0, 500) || `the server answers ${answer.status}`);
  // What it will never take is not sent again.
  error.refused = answer.status >= 400 && answer.status < 500 && answer.status !== 401 && answer.status !== 429;
  throw error;
}

/** Sends `body`; `done` and `refused` are told how that ended. */
function send(path, body, done, refused) {
  unsent.push({ path, body, done, refused });
  showUnsent();
  pump();
}

/** Sends what waits; ends once that is sent, or cannot be. Then it is tried again after a while, by itself. */
function pump() {
  clearTimeout(again);
  sending ||= sendAll().finally(() => { sending = null; });
  return sending;
}

async function sendAll() {
  while (unsent.length) {
    const next = unsent[0];
    try {
      const answer = await post(next.path, next.body);
      unsent.shift();
      showUnsent();
      next.done(answer);
      banner.hidden = true;
      pause = SHORTEST_PAUSE;
    } catch (error) {
      if (error.refused) {
        unsent.shift();
        showUnsent();
        next.refused(error);
        complain(`Not taken: ${error.message}`, "Reload", () => location.reload());
        continue;
      }
      const waiting = unsent.length > 1 ? ` (${unsent.length} verdicts wait)` : "";
      complain(`Not saved${waiting}: ${error.message}`, "Try again", () => { banner.hidden = true; pump(); });
      again = setTimeout(pump, 1000 * pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE);
      break;
    }
  }
}

addEventListener("beforeunload", (event) => { if (unsent.length) event.preventDefault(); });

/** Keys with what they do, in a dialog. */
function showKeys(keys) {
  const rows = keys.map(([key, what]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", { text: key })), el("td", { text: what })));
  const dialog = el("dialog", { "aria-label": "Keys" },
    el("h2", { text: "Keys" }), el("table", { class: "keys" }, el("tbody", {}, ...rows)),
    el("form", { method: "dialog", class: "actions" }, el("button", { class: "first", text: "Close" })));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
