"use strict";

const KEYS = [
  ["j, k", "next, previous text"],
  ["J, K", "next, previous window"],
  ["r", "right, and on to the next text"],
  ["w", "wrong, and on to the next text"],
  ["e", "edit; Ctrl+Enter saves, Escape leaves it"],
  ["u", "take your verdict back"],
  ["o", "open the clip's JSON"],
  ["/", "search"],
  ["?", "these keys"],
];
const OPINIONS = { right: "right", wrong: "wrong", edited: "edited", disputed: "disputed" };
const { view, live } = data;
document.title = `${data.name}: captions`;

/* Windows and texts, with their elements. */

const texts = [];
const windows = view.windows.map((of, place) => {
  const window = { of, place, texts: [] };
  for (const text of of.texts) {
    const item = { of: text, window, said: text.said.filter((one) => one.of === null), before: text.said.filter((one) => one.of !== null) };
    window.texts.push(item);
    texts.push(item);
  }
  return window;
});
const findings = new Map();
for (const text of texts) for (const { rule } of text.of.findings) findings.set(rule, (findings.get(rule) || 0) + 1);
let current = null;

const judgeable = (item) => item.of.text !== null && !item.of.outdated;

function opinion(item) {
  const said = new Set(item.said.map((one) => one.verdict));
  if (!said.size) return null;
  if (said.has("right")) return said.size === 1 ? "right" : "disputed";
  return said.has("edited") ? "edited" : "wrong";
}

function drawWindow(window) {
  const { of } = window;
  let picture;
  if (of.preview) {
    const [width, height] = of.preview_size || [320, 240];
    const image = el("img", { loading: "lazy", decoding: "async", width, height, alt: `Preview of ${of.path}` });
    image.src = of.preview;
    picture = el("a", { class: "picture", href: of.preview, target: "_blank", rel: "noreferrer" }, image);
  } else {
    picture = el("div", { class: "picture none", text: of.preview_error || "no preview" });
  }
  const head = el("h2", {},
    el("span", { class: "path", text: of.path, title: of.clip }),
    of.frames && el("span", { class: "dim", text: ` ${of.frames[0]}\u2013${of.frames[1]}`, title: "first and last frame" }),
    of.seconds && el("span", { class: "dim", text: `  ${clock(of.seconds[0])}\u2013${clock(of.seconds[1])}`, title: "start and end in the clip" }),
    el("a", { class: "dim", href: of.document, target: "_blank", rel: "noreferrer", text: "JSON", "aria-label": `JSON of ${of.path}` }));
  window.node = el("article", { class: "window", "aria-label": of.frames ? `${of.path} ${of.frames.join("\u2013")}` : of.path }, picture, el("div", { class: "side" }, head,
    of.status !== "ok" ? el("p", { class: "failed", text: `${of.status}: ${of.error}` }) : null,
    el("div", { class: "texts" }, ...window.texts.map(drawText))));
}

function drawText(item) {
  const { of } = item;
  item.verdict = el("span", { class: "verdict" });
  item.body = el("div", { class: "body" });
  item.node = el("section", { class: "text", role: "group", tabindex: "-1", "aria-label": of.key },
    el("div", { class: "about" },
      el("b", { text: of.key }),
      el("span", { class: "dim", text: of.model, title: of.engine }),
      drawConfidence(of),
      ...of.findings.map((finding) => el("span", { class: `finding ${finding.severity}`, text: finding.rule, title: `${finding.severity}: ${finding.message}` })),
      of.outdated ? el("span", { class: "finding warning", text: "of an earlier caption" }) : null,
      el("span", { class: "push" }),
      item.verdict,
      live && judgeable(item) ? el("span", { class: "buttons" }, ...["right", "wrong", "edited"].map((verdict) => el("button", {
        type: "button", "data-verdict": verdict, text: verdict === "edited" ? "edit" : verdict,
      }))) : null),
    item.body);
  item.node.item = item;
  showText(item);
  showVerdict(item);
  return item.node;
}

function drawConfidence(of) {
  const tokens = [
    of.output_tokens !== null && count(of.output_tokens, "token"), of.finish_reason && `ended by ${of.finish_reason}`,
    of.seconds ? `${of.seconds} s` : null,
  ].filter(Boolean).join(", ");
  if (!of.confidence) return tokens ? el("span", { class: "dim", text: tokens }) : null;
  const [mean, least, low] = of.confidence;
  const bar = el("i");
  bar.style.setProperty("--share", of.rank);
  const than = `more confident than ${percent(of.rank)} of this key's texts`;
  const title = `mean log-probability ${signed(mean, 4)}, least likely token ${signed(least, 4)}, lowest tenth ${signed(low, 4)}; ${than}; ${tokens}`;
  return el("span", { class: `sure${of.rank < 0.1 ? " low" : ""}`, title }, bar, signed(mean, 2));
}

// Letters of a text that are shown at first.
const FOLDED = 2000;

/** A model's or a person's text, of which a long one is folded until it is asked for. `item` remembers that. */
function drawWords(item, text, options) {
  const body = el("p", { dir: "auto", ...options });
  if (text.length <= 1.2 * FOLDED) {
    body.textContent = plain(text);
    return [body];
  }
  const unfold = el("button", { type: "button", class: "quiet", on: { click: () => { item.unfolded = !item.unfolded; draw(); } } });
  const draw = () => {
    body.textContent = item.unfolded ? plain(text) : `${plain(text.slice(0, FOLDED).replace(/[\ud800-\udbff]$/, ""))}\u2026`;
    unfold.textContent = item.unfolded ? "Show less" : `Show all ${count(text.length, "letter")}`;
    unfold.setAttribute("aria-expanded", String(Boolean(item.unfolded)));
  };
  draw();
  return [body, unfold];
}

function showText(item) {
  if (item.editing) return;  // an answer of the server takes no text away that is being written
  const { of } = item;
  const edits = item.said.filter((one) => one.verdict === "edited");
  item.body.replaceChildren(
    ...of.text === null ? [el("p", { class: "failed", text: `${of.status}: ${of.error}` })] : drawWords(item, of.text, { class: edits.length && "replaced" }),
    ...edits.flatMap((one) => drawWords(item, one.edited, { class: "edit", title: `edited by ${one.reviewer}, ${one.at}` })));
}

function showVerdict(item) {
  const held = opinion(item);
  const mine = item.said.find((one) => one.reviewer === reviewer);
  const who = item.said.map((one) => `${one.verdict}: ${one.reviewer}, ${one.at.slice(0, 16).replace("T", " ")}`).join("\n");
  const marks = [];
  if (held) marks.push(el("span", { class: `mark ${held}`, text: OPINIONS[held], title: who }));
  if (item.before.length) {
    const title = item.before.map((one) => `${one.verdict}: ${one.reviewer}, ${one.at.slice(0, 16).replace("T", " ")}, of \u201c${one.of}\u201d`).join("\n");
    const verdicts = [...new Set(item.before.map((one) => one.verdict))].join(", ");
    marks.push(el("span", { class: "mark before", text: `${verdicts} of an earlier text`, title }));
  }
  item.verdict.replaceChildren(...marks);
  item.node.classList.toggle("unsaved", Boolean(item.pending));
  for (const button of item.node.querySelectorAll("button[data-verdict]")) {
    button.setAttribute("aria-pressed", String(Boolean(mine) && mine.verdict === button.dataset.verdict));
  }
}

/* Judging. */

function judge(item, verdict, edited) {
  if (!live || !item || !judgeable(item)) return;
  if (!reviewer) return askReviewer(() => judge(item, verdict, edited));
  const said = item.said;
  const others = said.filter((one) => one.reviewer !== reviewer);
  const mine = { verdict, reviewer, at: new Date().toISOString(), edited: edited === undefined ? null : edited, of: null };
  item.said = verdict === "withdrawn" ? others : [...others, mine];
  item.pending = (item.pending || 0) + 1;
  const settle = () => { item.pending -= 1; showText(item); showVerdict(item); showProgress(); };
  const { clip, frames } = item.window.of;
  const body = { shard: view.shard, clip, start_frame: frames[0], end_frame: frames[1], key: item.of.key, text_hash: item.of.hash, verdict, edited: mine.edited, reviewer };
  send("../api/verdicts", body, (answer) => { mine.at = answer.at; settle(); }, () => { item.said = said; settle(); });
  showText(item);
  showVerdict(item);
  showProgress();
  say(`${verdict}: ${item.of.key}, ${item.window.of.path}`);
}

function edit(item) {
  if (!live || !item || !judgeable(item) || item.editing) return;
  const before = [...item.said].reverse().find((one) => one.verdict === "edited");
  const area = el("textarea", { rows: "4", dir: "auto", "aria-label": `The text of ${item.of.key} as you would have it`, maxlength: "100000" });
  area.value = before ? before.edited : item.of.text;
  const leave = () => { item.editing = false; showText(item); item.node.focus(); };
  item.editing = true;
  const save = () => {
    const text = area.value.trim();
    leave();
    if (!text) return say("an empty text is not kept");
    if (text === item.of.text) return judge(item, "right");
    judge(item, "edited", text);
    step(1);
  };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  item.body.replaceChildren(area, el("div", { class: "actions" },
    el("button", { type: "button", class: "first", text: "Save", on: { click: save } }),
    el("button", { type: "button", text: "Cancel", on: { click: leave } })));
  area.focus();
}

/* Moving. */

function go(item, focus = true) {
  if (!item) return;
  if (current) { current.node.classList.remove("current"); current.window.node.classList.remove("at"); }
  current = item;
  item.node.classList.add("current");
  item.window.node.classList.add("at");
  if (focus) item.node.focus({ preventScroll: true });
  item.window.node.scrollIntoView({ block: "nearest" });
  item.node.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const at = matching.indexOf(current);
  const next = at < 0 ? (by > 0 ? matching[0] : matching[matching.length - 1]) : matching[at + by];
  if (next) go(next);
  else say(by > 0 ? "this was the last one" : "this is the first one");
}

function stepWindow(by) {
  let at = matching.indexOf(current);
  if (at < 0) return step(by);
  const { window } = current;
  while (matching[at] && matching[at].window === window) at += by;
  if (by < 0 && matching[at]) while (matching[at - 1] && matching[at - 1].window === matching[at].window) at -= 1;
  if (matching[at]) go(matching[at]);
}

/* Which windows are shown, and in what order. */

const option = (value, text) => el("option", { value, text });
const select = (label, ...options) => el("select", { "aria-label": label, title: label }, ...options);
const controls = {
  search: el("input", { type: "search", placeholder: "Search texts  /", "aria-label": "Search texts and clips" }),
  sort: select("Order", option("", "worst first"), option("clip", "by clip and time"), option("unsure", "least confident first"),
    option("short", "shortest first"), option("long", "longest first")),
  finding: select("Findings", option("", "all findings"), option("any", "any finding"), option("error", "errors"), option("failed", "failed"),
    option("none", "without findings"), ...[...findings].sort().map(([rule, n]) => option(`rule:${rule}`, `${rule} (${n})`))),
  key: select("Key", option("", "all keys"), ...view.keys.map((key) => option(key, key))),
  verdict: select("Verdicts", option("", "all verdicts"), option("open", "not judged"), ...Object.keys(OPINIONS).map((one) => option(one, one)),
    option("before", "judged before the text changed")),
  clip: el("input", { type: "search", list: "clips", placeholder: "Clip", "aria-label": "Clip" }),
};
let matching = [];

const testFinding = {
  "": () => true,
  any: (item) => item.of.findings.length > 0,
  none: (item) => item.of.findings.length === 0 && item.of.text !== null,
  error: (item) => item.of.findings.some((finding) => finding.severity === "error"),
  failed: (item) => item.of.status === "failed" || item.window.of.status === "failed",
};
const testVerdict = {
  "": () => true,
  open: (item) => judgeable(item) && !opinion(item),
  before: (item) => item.before.length > 0,
};
const length = (window) => Math.max(0, ...window.texts.map((item) => (item.of.text || "").length));
const surest = (window) => Math.min(2, ...window.texts.map((item) => (item.of.rank === null ? 2 : item.of.rank)));
const shortest = (window) => Math.min(Infinity, ...window.texts.filter((item) => item.of.text !== null).map((item) => item.of.text.length));
const orders = {
  "": (a, b) => b.of.badness - a.of.badness || a.place - b.place,
  clip: (a, b) => a.place - b.place,
  unsure: (a, b) => surest(a) - surest(b) || a.place - b.place,
  short: (a, b) => shortest(a) - shortest(b) || a.place - b.place,
  long: (a, b) => length(b) - length(a) || a.place - b.place,
};

function haystack(window) {
  if (window.words === undefined) {
    window.words = [window.of.path, window.of.clip, ...window.texts.flatMap((item) => [item.of.text, item.of.error, ...item.said.map((one) => one.edited)])]
      .filter(Boolean).join("\n").toLowerCase();
  }
  return window.words;
}

let ordered = null;
function show() {
  const wanted = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value.trim()]));
  const words = wanted.search.toLowerCase();
  const clip = wanted.clip.toLowerCase();
  const finds = testFinding[wanted.finding] || ((item) => item.of.findings.some((finding) => `rule:${finding.rule}` === wanted.finding));
  const says = testVerdict[wanted.verdict] || ((item) => opinion(item) === wanted.verdict);
  const ofTexts = wanted.key || wanted.verdict || (wanted.finding && wanted.finding !== "failed");
  let seen = 0;
  matching = [];
  const order = [...windows].sort(orders[wanted.sort]);
  for (const window of order) {
    const fits = (!words || haystack(window).includes(words)) &&
      (!clip || window.of.path.toLowerCase().includes(clip) || window.of.clip === clip);
    const found = fits ? window.texts.filter((item) => (!wanted.key || item.of.key === wanted.key) && finds(item) && says(item)) : [];
    const visible = fits && (found.length > 0 || (!ofTexts && (!wanted.finding || window.of.status === "failed")));
    if (window.node.hidden === visible) window.node.hidden = !visible;
    for (const item of window.texts) {
      const hide = Boolean(wanted.key) && item.of.key !== wanted.key;
      if (item.node.hidden !== hide) item.node.hidden = hide;
    }
    if (visible) { seen += 1; matching.push(...found); }
  }
  if (ordered !== wanted.sort) {
    list.replaceChildren(...order.map((window) => window.node));
    ordered = wanted.sort;
  }
  none.hidden = seen > 0;
  shown.textContent = seen === windows.length ? count(seen, "window") : `${count(seen, "window")} of ${windows.length.toLocaleString("en")}`;
  const kept = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  try { history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search); } catch { /* some file: pages may not */ }
  if (current && !matching.includes(current)) {
    current.node.classList.remove("current");
    current.window.node.classList.remove("at");
    current = null;
  }
}

function showProgress() {
  const there = texts.filter(judgeable);
  const held = there.map(opinion).filter(Boolean);
  const right = held.filter((one) => one === "right").length;
  progress.textContent = `${held.length.toLocaleString("en")} of ${count(there.length, "text")} judged` +
    (held.length ? `, ${percent(right / held.length)} right` : "");
}

/* The page. */

const shown = el("span", { class: "shown", role: "status" });
const progress = el("span", { class: "dim" });
const none = el("p", { class: "none", text: "No window is like that.", hidden: true });
const list = el("main", { class: "windows" });

windows.forEach(drawWindow);
const clips = [...new Set(windows.map((window) => window.of.path))];
document.body.append(
  el("header", { class: "bar" },
    el("div", { class: "line" },
      el("a", { href: "index.html", text: "Shards" }), el("span", { class: "dim", text: "/" }), el("h1", { text: data.name }),
      shown, progress, el("span", { class: "push" }), saved,
      live ? reviewerButton : el("span", { class: "dim", text: `as of ${data.made}`, title: "caption-assets review --serve shows what is there now, and takes verdicts" }),
      el("button", { type: "button", class: "quiet", text: "Keys  ?", on: { click: () => showKeys(KEYS) } })),
    el("div", { class: "line", role: "search" }, ...Object.values(controls),
      el("button", { type: "button", class: "quiet", text: "Clear", on: { click: () => { for (const control of Object.values(controls)) control.value = ""; show(); } } })),
    el("datalist", { id: "clips" }, ...clips.map((clip) => option(clip)))),
  banner, none, list, heard,
  el("footer", { text: `Made ${data.made} by caption_assets ${data.version}.` }));

for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (controls[name]) controls[name].value = value;
for (const control of Object.values(controls)) if (control.value === "" && control.options) control.selectedIndex = 0;
let waiting = 0;
for (const control of Object.values(controls)) {
  control.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(show, control.options ? 0 : 120); });
}
showReviewer();
showProgress();
show();

list.addEventListener("click", (event) => {
  const node = event.target.closest("section.text");
  if (!node) return;
  const button = event.target.closest("button[data-verdict]");
  go(node.item, false);
  if (!button) return;
  if (button.dataset.verdict === "edited") edit(node.item);
  else judge(node.item, button.getAttribute("aria-pressed") === "true" ? "withdrawn" : button.dataset.verdict);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.closest("input, select")) return event.target.blur();
  if (typing(event)) return;
  const act = {
    j: () => step(1), k: () => step(-1), J: () => stepWindow(1), K: () => stepWindow(-1),
    r: () => { if (current && reviewer) { judge(current, "right"); step(1); } else judge(current, "right"); },
    w: () => { if (current && reviewer) { judge(current, "wrong"); step(1); } else judge(current, "wrong"); },
    e: () => edit(current), u: () => judge(current, "withdrawn"),
    o: () => { if (current) open(current.window.of.document, "_blank", "noreferrer"); },
    "/": () => controls.search.focus(), "?": () => showKeys(KEYS),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
