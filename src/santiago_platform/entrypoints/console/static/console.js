// Keeps a page as the server would show it now. Without it everything works by reloading.
"use strict";

const parsed = async (url) => {
  const answer = await fetch(url, { headers: { accept: "text/html" } });
  if (answer.redirected) return location.assign(answer.url); // the sign-in has ended
  return new DOMParser().parseFromString(await answer.text(), "text/html");
};

/** Puts the new content in place, and leaves the person where they were: focus, what is open, what was typed. */
function replace(live, fresh) {
  const focused = document.activeElement && document.activeElement.id;
  const open = [...live.querySelectorAll("details[open][id]")].map((found) => found.id);
  const typed = [...live.querySelectorAll("input[id]")].map((found) => [found.id, found.value]);
  const before = said(live);
  live.replaceChildren(...document.importNode(fresh, true).childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of typed) if (document.getElementById(id)) document.getElementById(id).value = value;
  if (focused && live.contains(document.getElementById(focused))) document.getElementById(focused).focus();
  if (said(live) !== before) document.getElementById("announcement").textContent = said(live);
}

const said = (live) => live.querySelector("[data-announce]")?.textContent ?? "";

function listen(live) {
  const lost = document.getElementById("connection");
  const events = new EventSource(live.dataset.events);
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) return void (again = true);
    busy = true;
    try {
      const page = await parsed(location.href);
      const fresh = page && page.getElementById("live");
      if (fresh) replace(live, fresh);
    } catch {
      again = true;
    }
    busy = false;
    if (again) setTimeout(refresh, 500);
    again = false;
  };
  events.addEventListener("changed", refresh);
  events.addEventListener("ended", () => { events.close(); location.reload(); });
  events.addEventListener("open", () => { lost.hidden = true; });
  events.addEventListener("error", () => { lost.hidden = false; });
}

async function charts(section) {
  const page = await parsed(section.dataset.load).catch(() => null);
  const figures = page && page.querySelector(".charts");
  if (!figures) return; // what is shown stays, at first the link to the tables
  const shown = document.importNode(figures, true);
  const open = section.querySelector("figure details[open]") !== null;
  section.replaceChildren(section.querySelector("h2"), shown);
  for (const figure of shown.querySelectorAll("figure")) draw(figure, open);
}

/** The table stays beside the chart, for whoever cannot see it. */
function draw(figure, open) {
  const points = JSON.parse(figure.dataset.points);
  const table = figure.querySelector("table");
  if (!table || !points[0]?.length) return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const names = [...table.querySelectorAll("tbody th")].map((cell) => cell.textContent);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui", size: 46 };
  const shown = points[0].at(-1) - points[0][0] > 172800 ? [5, 10] : [11, 19]; // days, or times of one
  const place = document.createElement("div");
  place.className = "chart";
  place.setAttribute("aria-hidden", "true");
  const details = document.createElement("details");
  details.open = open;
  const summary = document.createElement("summary");
  summary.textContent = "As a table";
  details.append(summary, table);
  const legend = document.createElement("ul");
  legend.className = "legend";
  legend.append(...names.map((name) => Object.assign(document.createElement("li"), { textContent: name })));
  figure.append(legend, place, details);
  const series = names.map((label, index) => ({ label, stroke: colour(`--series-${(index % 4) + 1}`), width: 1.75, points: { show: points[0].length < 3 } }));
  new uPlot({ width: place.clientWidth, height: 150, legend: { show: false }, cursor: { y: false }, series: [{}, ...series], axes: [{ ...axis, size: 24, space: 60, values: (_, at) => at.map((second) => new Date(second * 1000).toISOString().slice(...shown)) }, axis], scales: { y: { range: (_, low, high) => [Math.min(0, low), high || 1] } } }, points, place);
}

const live = document.getElementById("live");
if (live.dataset.events) listen(live);
const section = document.querySelector("[data-load]");
if (section) {
  charts(section);
  setInterval(() => document.hidden || charts(section), 15000);
}
