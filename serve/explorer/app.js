// The explorer's shell: one page, several addresses, what is said below, and moving about.

import { showAdd } from "./add.js";
import { showCompare } from "./compare.js";
import { addToFeed, showFeed } from "./feed.js";
import { showGenerations } from "./generations.js";
import { showItem } from "./item.js";
import { showMap } from "./map.js";
import { cover, el, itemLink, itemUrl, notice, skeleton, subtitle } from "./parts.js";
import { startSearch } from "./search.js";
import { ask, state } from "./session.js";

const START_ITEMS = 24;
const SURPRISES = 100;
const PAGES = { feed: showFeed, map: showMap, compare: showCompare, add: showAdd, generations: showGenerations };
// Replicas follow a switch one after another: what is asked at once may still come from either.
const SETTLED_MS = 1500;
const LOOK_MS = 15_000;

const main = document.querySelector("main");
const says = document.querySelector("[data-says]");
const foot = document.querySelector("[data-foot]");
const news = document.querySelector("[data-news]");
let visit = null;
let surprises = null;
let settling = null;
let shownAt = null;

// ---- the page before an item is chosen

async function showStart(shell) {
  document.title = state.generation.title;
  const { counts } = state.generation;
  const hero = el(
    "section",
    { class: "hero" },
    el("h1", {}, "Start with something you like."),
    el(
      "p",
      {},
      `Search ${counts.items.toLocaleString("en")} items, or pick one below: see what is near it, ` +
        "compare the methods, and travel on from there.",
    ),
  );
  main.replaceChildren(hero, skeleton(START_ITEMS, "grid small"));
  const started = performance.now();
  const { items } = await ask(`v1/items?limit=${START_ITEMS}`, shell.signal);
  if (shell.signal.aborted) return;
  const cards = items.map((item) =>
    el("li", { class: "card" }, itemLink(item, { title: item.title }, cover(item),
      el("span", { class: "name" }, item.title), el("span", { class: "sub" }, subtitle(item)))));
  main.replaceChildren(hero, el("ul", { class: "grid small", "aria-label": "Items to start from" }, ...cards));
  footer(`answered in ${Math.round(performance.now() - started)} ms`);
}

async function surprise() {
  try {
    surprises ??= (await ask(`v1/items?limit=${SURPRISES}`)).items;
    const seen = new Set(state.trail.map((item) => item.key));
    const fresh = surprises.filter((item) => !seen.has(item.key));
    const from = fresh.length ? fresh : surprises;
    if (from.length) go(itemUrl(from[Math.floor(Math.random() * from.length)].key));
  } catch (error) {
    showError(error, null);
  }
}

// ---- errors, the footer, and what is read aloud

function showError(error, key) {
  const again = el("button", { class: "button", type: "button", onclick: start }, "Try again");
  const home = el("a", { class: "button", href: "./", "data-home": "" }, "Back to the start");
  document.title = `Error - ${state.generation?.title ?? "Explorer"}`;
  if (error.code === "unknown_item" && key !== null) {
    const text = `Nothing in this catalog has the key "${key}". Search for it by title instead.`;
    main.replaceChildren(notice("There is no such item", text, home));
  } else {
    const title = error.code === "unreachable" ? "The server can't be reached" : "That didn't work";
    main.replaceChildren(notice(title, error.message, again, home));
  }
  say(error.message);
}

function footer(latency) {
  const { generation, counts, methods, quality } = state.generation;
  const metric = "hit_rate@100";
  const figures = methods
    .filter((method) => metric in (quality[method.name] ?? {}))
    .map((method) => `${method.label} ${quality[method.name][metric].toFixed(3)}`);
  const facts = [
    el("a", { href: "generations", "data-page": "" }, "generation ", el("code", {}, generation)),
    el("span", {}, `${counts.items.toLocaleString("en")} items, ${counts.edges.toLocaleString("en")} edges`),
    figures.length ? el("span", { title: "Share of held-out pairs whose item is among the best 100" },
      `hit-rate@100: ${figures.join(", ")}`) : null,
    el("span", { "data-latency": "" }, latency),
    el("a", { href: "docs" }, "API"),
  ];
  foot.replaceChildren(...facts.filter(Boolean));
}

// ---- another generation under an open page

/** Takes up what is served now; says whether that is another generation. */
async function takeUp() {
  const before = state.generation.generation;
  state.generation = await ask("v1/generation");
  surprises = null;
  document.querySelector("[data-title]").textContent = state.generation.title;
  if (state.generation.generation === before) return false;
  const away = el("button", { class: "button", type: "button", onclick: () => news.replaceChildren() }, "Close");
  news.replaceChildren(
    el("span", {}, "Generation ", el("code", {}, state.generation.generation), " is served now, instead of ",
      el("code", {}, before), "."), away);
  return true;
}

async function renew() {
  if (await takeUp()) await route();
}

/** Asks again once the switch has settled; what a person is in the middle of stays as it is. */
function onGeneration() {
  settling ??= setTimeout(async () => {
    settling = null;
    try {
      if (!(await takeUp())) return;
    } catch {
      // The next answer from another generation tells it again.
      return;
    }
    if (!main.querySelector("form, .duel, .keyed:not([hidden])")) {
      await route();
      return;
    }
    const again = el("button", { class: "button", type: "button", onclick: () => { news.replaceChildren(); route(); } }, "Show it");
    news.querySelector("button").before(again);
  }, SETTLED_MS);
}

/** Any answer tells which generation it is from; while nobody asks, this does. */
function look() {
  if (state.generation && document.visibilityState === "visible") ask("readyz").catch(() => {});
}

function say(text) {
  says.textContent = text;
}

// ---- moving about

/** The last part of the address: empty for items, else one of `PAGES`. */
function pageName() {
  const name = location.pathname.split("/").pop();
  return name in PAGES ? name : "";
}

function chosenKey() {
  return new URLSearchParams(location.search).get("item");
}

function go(url) {
  const wanted = new URL(url, location.href);
  if (wanted.href !== location.href) history.pushState(null, "", wanted);
  window.scrollTo({ top: 0 });
  main.focus({ preventScroll: true });
  return route();
}

/** A title chosen in the search box: on the feed's page it is liked, elsewhere it is opened. */
async function openFound(key) {
  if (pageName() !== "feed") return go(itemUrl(key));
  await addToFeed(key);
  return route();
}

/** Moves to what the address names; a change of its fragment alone, as by the skip link, names nothing else. */
function onMove() {
  if (address() !== shownAt) route();
}

function address() {
  return location.pathname + location.search;
}

async function route() {
  shownAt = address();
  visit?.abort();
  visit = new AbortController();
  const { signal } = visit;
  const shell = { main, signal, footer, say, go, again: route, renew };
  const page = pageName();
  const key = chosenKey();
  for (const link of document.querySelectorAll("[data-tabs] a")) {
    const current = link.getAttribute("href") === (page || "./");
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  try {
    if (page) await PAGES[page](shell, key);
    else if (key === null) await showStart(shell);
    else await showItem(shell, key);
  } catch (error) {
    if (!signal.aborted) showError(error, key);
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
}

function onClick(event) {
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest("a[data-item], a[data-home], a[data-page]");
  if (!link) return;
  event.preventDefault();
  link.closest("dialog")?.close();
  go(link.href);
}

/** Marks an item in every list while the pointer or the focus is on it in one. */
function onPoint(event) {
  const key = event.target.closest?.("a[data-item]")?.dataset.item;
  for (const link of main.querySelectorAll("a[data-item]")) {
    link.classList.toggle("pointed", key !== undefined && link.dataset.item === key);
  }
}

function switchTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const theme = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

async function start() {
  try {
    state.generation ??= await ask("v1/generation");
  } catch (error) {
    showError(error, null);
    return;
  }
  document.querySelector("[data-title]").textContent = state.generation.title;
  await route();
}

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
document.addEventListener("click", onClick);
main.addEventListener("pointerover", onPoint);
main.addEventListener("focusin", onPoint);
window.addEventListener("popstate", onMove);
window.addEventListener("generation", onGeneration);
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_MS);
document.querySelector("[data-surprise]").addEventListener("click", surprise);
document.querySelector("[data-theme]").addEventListener("click", switchTheme);
startSearch(document.querySelector("[data-search]"), ask, openFound);
start();
