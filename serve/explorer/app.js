// The explorer's shell: one page, several addresses, what is said below, and moving about.

import { showAdd } from "./add.js";
import { showCompare } from "./compare.js";
import { addToFeed, showFeed } from "./feed.js";
import { showGenerations } from "./generations.js";
import { showItem } from "./item.js";
import { showMap } from "./map.js";
import { count, cover, el, itemLink, itemUrl, notice, quoted, short, skeleton, subtitle } from "./parts.js";
import { startSearch } from "./search.js";
import { ask, entitle, keep, kept, startTheme, state } from "./session.js";

const START_ITEMS = 24;
const SURPRISES = 100;
const PAGES = { feed: showFeed, map: showMap, compare: showCompare, add: showAdd, generations: showGenerations };
// Replicas follow a switch one after another: what is asked at once may still come from either.
const SETTLED_MS = 1500;
const LOOK_MS = 15_000;

const main = document.querySelector("main");
const says = document.querySelector("[data-says]");
const foot = document.querySelector("[data-foot]");
const tabs = document.querySelector("[data-tabs]");
const news = document.querySelector("[data-news]");
let visit = null;
let surprises = null;
let settling = null;
let shownAt = null;
// How far down each address was when it was left.
const places = new Map(JSON.parse(kept("places", "sessionStorage")));

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
      `Search ${count(counts.items, "item")}, or pick one below: see what is near it, ` +
        "compare the methods, and travel on from there.",
    ),
  );
  main.replaceChildren(hero, skeleton(START_ITEMS, "grid small"));
  const started = performance.now();
  const { items } = await ask(`v1/items?limit=${START_ITEMS}`, shell.signal);
  if (shell.signal.aborted) return;
  const cards = items.map((item) =>
    el("li", { class: "card" }, itemLink(item, { title: short(item.title) }, cover(item),
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
  const again = el("button", { class: "button", type: "button", onclick: tryAgain }, "Try again");
  const home = el("a", { class: "button", href: "./", "data-home": "" }, "Back to the start");
  entitle("Error");
  if (state.generation) footer("");
  if (error.code === "unknown_item" && key !== null) {
    const text = `Nothing in this catalog has the key "${quoted(key)}". Search for it by title instead.`;
    main.replaceChildren(notice("There is no such item", text, home));
  } else if (error.status === 401) {
    askForKey("It answers nobody without one. Whoever runs it gives them out.");
  } else {
    const title = error.code === "unreachable" ? "The server can't be reached" : "That didn't work";
    main.replaceChildren(notice(title, error.message, again, home));
  }
  say(error.message);
}

/** Asks for the key without which this server answers nothing. */
function askForKey(text) {
  const input = el("input", { type: "password", id: "key", autocomplete: "off" });
  const form = el("form", { class: "keyed" }, el("label", { for: "key" }, "API key with the role read"), input,
    el("button", { class: "button", type: "submit" }, "Go on"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      state.generation = await ask("v1/generation", null, { key: input.value.trim() });
      await tryAgain();
    } catch (error) {
      if (error.status === 401) askForKey(error.message);
      else showError(error, null);
    }
  });
  const box = notice("This server wants a key", text);
  box.append(form);
  main.replaceChildren(box);
  input.focus();
}

function footer(latency) {
  const { generation, counts, methods, quality } = state.generation;
  const metric = "hit_rate@100";
  const figures = methods
    .filter((method) => metric in (quality[method.name] ?? {}))
    .map((method) => `${method.label} ${quality[method.name][metric].toFixed(3)}`);
  const facts = [
    el("a", { href: "generations", "data-page": "" }, "generation ", el("code", {}, generation)),
    el("span", {}, `${count(counts.items, "item")}, ${count(counts.edges, "edge")}`),
    figures.length ? el("span", { title: "Share of held-out pairs whose item is among the best 100" },
      `hit-rate@100: ${figures.join(", ")}`) : null,
    latency ? el("span", { "data-latency": "" }, latency) : null,
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
  showName();
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
  places.set(shownAt, scrollY);
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
  await route();
  main.focus({ preventScroll: true });
}

/** Moves to what the address names; a change of its fragment alone, as by the skip link, names nothing else. */
async function onMove() {
  if (address() === shownAt) return;
  places.set(shownAt, scrollY);
  await route();
  // Gray shapes are short: only what is asked for is as long as the page that was left.
  if (address() === shownAt) scrollTo(0, places.get(shownAt) ?? 0);
}

/** What another document leaves or loads anew finds its place again too. */
function onLeave() {
  places.set(shownAt, scrollY);
  keep("places", JSON.stringify([...places].slice(-50)), "sessionStorage");
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
  markTab(page || "./");
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

/** Marks the open page's tab. */
function markTab(page) {
  for (const link of tabs.children) link.removeAttribute("aria-current");
  tabs.querySelector(`[href="${page}"]`)?.setAttribute("aria-current", "page");
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

async function start() {
  try {
    state.generation ??= await ask("v1/generation");
  } catch (error) {
    showError(error, null);
    return;
  }
  showName();
  await route();
}

async function tryAgain() {
  await start();
  main.focus({ preventScroll: true });
}

function showName() {
  const name = document.querySelector("[data-title]");
  name.textContent = state.generation.title;
  name.title = short(state.generation.title);
}

startTheme(document.querySelector("[data-theme]"));
history.scrollRestoration = "manual";
document.addEventListener("click", onClick);
main.addEventListener("pointerover", onPoint);
main.addEventListener("focusin", onPoint);
window.addEventListener("popstate", onMove);
window.addEventListener("pagehide", onLeave);
window.addEventListener("generation", onGeneration);
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_MS);
document.querySelector("[data-surprise]").addEventListener("click", surprise);
startSearch(document.querySelector("[data-search]"), ask, openFound, say);
await start();
const [loaded] = performance.getEntriesByType("navigation");
if (loaded && loaded.type !== "navigate") scrollTo(0, places.get(shownAt) ?? 0);
