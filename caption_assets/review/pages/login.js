"use strict";

document.title = "Review: log in";
const token = el("input", { type: "password", name: "token", required: true, autocomplete: "current-password", autofocus: true });
document.body.append(el("main", { class: "login" },
  el("h1", { text: "Review" }),
  el("form", { method: "post", action: "/login" },
    el("label", {}, "The token that the server was started with", token),
    data.refused ? el("p", { class: "failed", role: "alert", text: "This is not the token." }) : null,
    el("div", { class: "actions" }, el("button", { class: "first", text: "Log in" })))));
token.focus();
