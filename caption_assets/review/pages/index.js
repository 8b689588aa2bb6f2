"use strict";

document.title = "Captions of all shards";

const columns = [
  { head: "shard", of: (row) => row.name, cell: (row) => el("a", { href: row.page, text: row.name }) },
  { head: "windows", of: (row) => row.windows },
  { head: "failed", of: (row) => row.failed },
  { head: "texts of", of: (row) => row.key },
  { head: "texts", of: (row) => row.texts },
  { head: "with errors", of: (row) => row.errors },
  {
    head: "findings", of: (row) => Object.values(row.findings || {}).reduce((sum, n) => sum + n, 0),
    title: (row) => Object.entries(row.findings || {}).map(([rule, n]) => `${rule} ${n}`).join(", "),
  },
  { head: "mean log-prob.", of: (row) => row.mean_logprob, show: (value) => signed(value, 3) },
  { head: "judged", of: (row) => row.judged },
  { head: "accepted", of: (row) => row.accepted_share, show: percent },
];

// A row for each key of each shard, and one for a shard without texts.
const rows = data.shards.flatMap((shard) => {
  const keys = Object.entries(shard.keys);
  return keys.length ? keys.map(([key, figures]) => ({ ...shard, key, ...figures, failed: shard.failed + figures.failed })) : [shard];
});

let sorted = { column: 0, down: false };
const body = el("tbody");
const search = el("input", { type: "search", placeholder: "Shard or key", "aria-label": "Search shards and keys" });
const shown = el("span", { class: "dim", role: "status" });

function show() {
  const wanted = search.value.trim().toLowerCase();
  const { of } = columns[sorted.column];
  const missing = (value) => value === undefined || value === null;
  const found = rows
    .filter((row) => !wanted || `${row.name} ${row.key || ""}`.toLowerCase().includes(wanted))
    .sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return sorted.down ? -order : order;
    });
  body.replaceChildren(...found.map((row) => el("tr", {}, ...columns.map((column) => {
    const value = column.of(row);
    const text = missing(value) ? "" : column.show ? column.show(value) : typeof value === "number" ? value.toLocaleString("en") : value;
    return el("td", { class: typeof value === "number" && "number", title: column.title && column.title(row) },
      column.cell ? column.cell(row) : text);
  }))));
  shown.textContent = `${count(new Set(found.map((row) => row.page)).size, "shard")}`;
  heads.forEach((head, n) => head.setAttribute("aria-sort", n !== sorted.column ? "none" : sorted.down ? "descending" : "ascending"));
}

const heads = columns.map((column, n) => el("th", { scope: "col" }, el("button", {
  type: "button", class: "quiet", text: column.head,
  on: { click: () => { sorted = { column: n, down: sorted.column === n ? !sorted.down : n > 0 }; show(); } },
})));

search.addEventListener("input", show);
document.body.append(
  el("header", { class: "bar" },
    el("div", { class: "line" }, el("h1", { text: "Captions" }), el("span", { class: "dim", text: data.output }),
      el("span", { class: "push" }), shown),
    el("div", { class: "line", role: "search" }, search)),
  el("main", { class: "index" },
    el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
  el("footer", { text: `Made ${data.made} by caption_assets ${data.version}.` }));
show();
