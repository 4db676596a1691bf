"use strict";

// Reviews in place and by keyboard. Without this script the same forms lead to the page and back.

const said = document.getElementById("stored");
const places = () => [...document.querySelectorAll("[data-row]")];
const current = () => document.activeElement.closest("[data-row]");

const go = (step) => {
  const all = places();
  const at = all.indexOf(current());
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + step, 0), all.length - 1)];
  if (next === undefined) return;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
};

const show = (row, text, label) => {
  for (const place of document.querySelectorAll(`[data-row="${row}"]`)) {
    const cell = place.querySelector('[data-field="decision"]');
    const badge = document.createElement("span");
    badge.className = "badge good";
    badge.textContent = text;
    cell.replaceChildren(...(text ? [badge, ` ${label}`] : []));
    place.querySelector('button[value="undo"]').hidden = !text;
    // What was seen at the start is out of date by our own decision.
    place.querySelector('input[name="seen"]').value = "";
  }
};

const decide = async (form, action) => {
  const place = form.closest("[data-row]");
  const body = new URLSearchParams(new FormData(form));
  body.set("action", action);
  // `form.action` is its buttons of that name.
  const answer = await fetch(form.getAttribute("action"), { method: "POST", body, redirect: "manual" });
  if (answer.type !== "opaqueredirect") {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const reason = page.querySelector("#what")?.textContent ?? `status ${answer.status}`;
    said.textContent = `Not stored. ${reason}`;
    place.focus();
    return;
  }
  const row = body.get("row");
  const label = { relabel: body.get("label"), take: body.get("predicted") }[action] ?? "";
  const name = action === "undo" ? "" : action === "take" ? "relabel" : action;
  show(row, name, label);
  said.textContent = `Row ${row}: ${action === "undo" ? "taken back" : `${name} ${label}`}, stored.`;
  place.focus();
  if (action !== "undo") go(1);
};

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form.review")) return;
  event.preventDefault();
  decide(event.target, event.submitter?.value ?? "relabel").catch(() => {
    said.textContent = "Not stored: the service does not answer.";
  });
});

const KEYS = { 1: "confirm", 2: "take", d: "drop", u: "undo" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") current()?.focus();
    return;
  }
  if (event.key === "j" || event.key === "k") go(event.key === "j" ? 1 : -1);
  const form = current()?.querySelector("form.review");
  if (!form) return;
  if (event.key === "3") {
    form.querySelector('input[name="label"]').focus();
    event.preventDefault();
  }
  const button = form.querySelector(`button[value="${KEYS[event.key]}"]:not([hidden])`);
  if (KEYS[event.key] && button !== null) form.requestSubmit(button);
});
