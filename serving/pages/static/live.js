"use strict";

// Keeps a page up to date: parts marked `data-live` are taken from the page as the service renders it now, and
// batches in progress follow their stream of events. Without this script a page shows the moment it was opened.

// What somebody reads, marks or operates stays as it is.
const busy = (part) =>
  part.contains(document.activeElement) ||
  part.querySelector("details[open]") !== null ||
  (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));

const refresh = async () => {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const newest = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = newest.getElementById(part.id);
    if (other !== null && other.outerHTML !== part.outerHTML && !busy(part)) {
      part.replaceWith(document.adoptNode(other));
    }
  }
  document.body.toggleAttribute("data-ended", !newest.body.hasAttribute("data-refresh-s"));
  follow();
};

const shortly = (value) => {
  if (value === null) return "–";
  if (value !== 0 && Math.abs(value) < 1000) return Number(value).toPrecision(3).replace(/e.*$/, "");
  return Math.round(value).toLocaleString("en");
};

const lasting = (seconds) => {
  if (seconds === null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let rest = Math.round(seconds);
  const parts = [];
  for (const [size, name] of units) {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    if (whole > 0) parts.push(`${whole} ${name}`);
  }
  return parts.slice(0, 2).join(" ");
};

const LEVELS = { COMPLETED: "good", FAILED: "bad", RUNNING: "busy", FINALIZING: "busy", PAUSED: "warn" };

const show = (place, status) => {
  const say = (field, text) => {
    const found = place.querySelector(`[data-field="${field}"]`);
    if (found !== null && found.textContent !== text) found.textContent = text;
    return found;
  };
  const badge = say("phase", status.phase[0] + status.phase.slice(1).toLowerCase());
  if (badge !== null) badge.className = `badge ${LEVELS[status.phase] ?? ""}`;
  say("percent", `${status.percent.toFixed(1)} %`);
  place.querySelector('[data-field="bar"]').value = status.percent;
  say("rows", status.num_records_processed.toLocaleString("en"));
  say("rate", shortly(status.rows_per_second));
  say("left", lasting(status.eta_s));
  say("pauses", String(status.pause_count));
  say("paused", lasting(status.paused_s));
};

// A browser opens six connections to a service at once, and a stream keeps one: two are followed.
const MOST_STREAMS = 2;
const FINAL = ["COMPLETED", "FAILED", "CANCELLED"];
const streams = new Map();

const follow = () => {
  for (const place of document.querySelectorAll("[data-follow]")) {
    const id = place.dataset.batch;
    const ended = FINAL.includes(place.querySelector('[data-field="phase"]').textContent.toUpperCase());
    if (ended || streams.has(id) || streams.size >= MOST_STREAMS) continue;
    const stream = new EventSource(place.dataset.follow);
    streams.set(id, stream);
    const end = () => {
      stream.close();
      streams.delete(id);
    };
    stream.addEventListener("status", (event) => {
      const status = JSON.parse(event.data);
      const shown = document.querySelector(`[data-batch="${CSS.escape(id)}"]`);
      if (shown === null) {
        end();
        return;
      }
      show(shown, status);
      if (FINAL.includes(status.phase)) {
        end();
        refresh().catch(() => {});
      }
    });
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) streams.delete(id);
    });
  }
};

const every = Number(document.body.dataset.refreshS);
if (every > 0) {
  follow();
  setInterval(() => {
    if (document.visibilityState === "visible" && !document.body.hasAttribute("data-ended")) {
      refresh().catch(() => {}); // the service restarts: the next one finds it again
    }
  }, 1000 * every);
}
