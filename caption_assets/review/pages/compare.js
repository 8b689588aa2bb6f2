"use strict";

const KEYS = [
  ["\u2190, a", "the left one is better"],
  ["\u2192, d", "the right one is better"],
  ["\u2193, s", "both are as good"],
  ["x", "both are bad"],
  ["u", "take the last answer back"],
  ["?", "these keys"],
];
const CHOICES = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right", ArrowDown: "tie", s: "tie", x: "both_bad" };
document.title = "Which is better?";

const FETCHED = 20;
let pairs = [];
let done = [];
let all = false;
let asking = false;

async function get(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 500));
  return answer.json();
}

/** Has the next pairs there before they are needed. */
async function fill() {
  if (all || asking || pairs.length > FETCHED / 2) return;
  asking = true;
  try {
    const known = new Set([...pairs, ...done].map((pair) => pair.id));
    const found = await get(`../api/pairs?${new URLSearchParams({ reviewer, count: known.size + FETCHED })}`);
    judged.textContent = `${found.judged.toLocaleString("en")} of ${count(found.windows, "window")} judged`;
    const fresh = found.pairs.filter((pair) => !known.has(pair.id));
    all = fresh.length === 0;
    pairs.push(...fresh);
  } catch (error) {
    complain(`The server does not answer: ${error.message}`, "Try again", () => { banner.hidden = true; fill(); });
  }
  asking = false;
  show();
  if (!pairs.length && !all && banner.hidden) fill();  // all were judged while the server was asked
}

function show() {
  const [pair, next] = pairs;
  if (!pair) {
    place.replaceChildren(el("p", { class: "none", text: all ? "That was the last one." : "" }));
    return;
  }
  const image = pair.preview
    ? el("img", { src: pair.preview, alt: `Preview of ${pair.path}`, class: "large" })
    : el("p", { class: "none", text: "no preview" });
  place.replaceChildren(
    el("p", { class: "dim where", text: `${pair.path}  ${pair.frames.join("\u2013")}` }), image,
    el("div", { class: "pair" }, ...["left", "right"].map((side) =>
      el("button", { type: "button", class: "side-text", "data-choice": side, dir: "auto", text: plain(pair[side]), "aria-label": `${side}: ${pair[side]}` }))),
    el("div", { class: "actions middle" },
      el("button", { type: "button", "data-choice": "tie", text: "As good  \u2193" }),
      el("button", { type: "button", "data-choice": "both_bad", text: "Both bad  x" })));
  if (next && next.preview) new Image().src = next.preview;
}

function choose(choice) {
  const pair = pairs[0];
  if (!pair) return;
  if (!reviewer) return askReviewer(() => choose(choice));
  pairs.shift();
  done.push(pair);
  answer(pair, choice);
  show();
  fill();
}

function undo() {
  const pair = done.pop();
  if (!pair) return say("there is nothing to take back");
  answer(pair, "withdrawn");
  pairs.unshift(pair);
  show();
}

function answer(pair, choice) {
  send("../api/comparisons", { pair: pair.id, choice, reviewer }, (answered) => {
    judged.textContent = `${answered.judged.toLocaleString("en")} of ${count(answered.windows, "window")} judged`;
  }, () => { pairs = []; done = []; all = false; fill(); });
  say(choice);
}

async function showResult() {
  try {
    await pump();
    const result = await get("../api/comparison");
    const figures = Object.entries(result.figures);
    const names = Object.keys(figures[0][1]);
    const digits = (number) => (Math.abs(number) < 1 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 3 });
    const value = (number) => (number === null ? "" : number.toLocaleString("en", digits(number)));
    const row = (head, ...cells) => el("tr", {}, el("th", { scope: "row", text: head }), ...cells.map((cell) => el("td", { class: "number", text: cell })));
    const dialog = el("dialog", { "aria-label": "Result", class: "wide" },
      el("h2", { text: "Result so far" }),
      el("p", { text: result.said }),
      el("table", {},
        el("thead", {}, el("tr", {}, el("th", {}), ...figures.map(([key]) => el("th", { scope: "col", class: "number", text: key })))),
        el("tbody", {}, row("preferred", ...figures.map(([key]) => value(result.preferred[key]))),
          ...names.map((name) => row(name.replaceAll("_", " "), ...figures.map(([, of]) => value(of[name])))))),
      el("form", { method: "dialog", class: "actions" }, el("button", { class: "first", text: "Close" })));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  } catch (error) {
    complain(`No result: ${error.message}`, "Try again", () => { banner.hidden = true; showResult(); });
  }
}

const judged = el("span", { class: "dim" });
const place = el("main", { class: "compare" });
document.body.append(
  el("header", { class: "bar" }, el("div", { class: "line" },
    el("h1", { text: "Which is better?" }), judged, el("span", { class: "push" }), saved, reviewerButton,
    el("button", { type: "button", class: "quiet", text: "Result", on: { click: showResult } }),
    el("button", { type: "button", class: "quiet", text: "Keys  ?", on: { click: () => showKeys(KEYS) } }))),
  banner, place, heard);

place.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choice]");
  if (button) choose(button.dataset.choice);
});
document.addEventListener("keydown", (event) => {
  if (typing(event) || event.repeat) return;
  if (CHOICES[event.key]) choose(CHOICES[event.key]);
  else if (event.key === "u") undo();
  else if (event.key === "?") showKeys(KEYS);
  else return;
  event.preventDefault();
});

showReviewer();
if (reviewer) fill();
else askReviewer(fill);
