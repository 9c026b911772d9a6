// The explorer: pick an item, see what is related to it by every method, travel on.

import {
  cover, details, el, itemLink, itemUrl, notice, scoreBar, skeleton, subtitle, webPage,
} from "./parts.js";
import { startSearch } from "./search.js";

const SIZES = [6, 12, 24, 48];
const START_ITEMS = 24;
const SURPRISES = 100;

const main = document.querySelector("main");
const says = document.querySelector("[data-says]");
const foot = document.querySelector("[data-foot]");

const state = {
  generation: null,
  size: Number(localStorage.getItem("size")) || 12,
  trail: [],
  surprises: null,
  visit: null,
};

/** Asks the API; an error has the problem's own words for a message. */
async function ask(path, signal) {
  let reply;
  try {
    reply = await fetch(path, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server gave no answer. Is it still running?"), { code: "unreachable" });
  }
  let body = null;
  try {
    body = await reply.json();
  } catch {
    body = null;
  }
  if (!reply.ok || body === null) {
    const problem = body ?? {};
    const words = problem.detail ?? `The server answered ${reply.status}, without an explanation.`;
    throw Object.assign(new Error(words), { code: problem.code ?? "unexpected", status: reply.status });
  }
  return body;
}

function similarPath(key, method) {
  const k = Math.min(state.size, state.generation.max_k);
  return `v1/items/${encodeURIComponent(key)}/similar?k=${k}&method=${encodeURIComponent(method)}`;
}

// ---- the page for one item

async function showItem(key) {
  const visit = beginVisit();
  main.replaceChildren(skeleton(1, "grid"), skeleton(state.size, "grid"));
  main.setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const methods = state.generation.methods;
    const answers = await Promise.all(
      methods.map((method) => ask(similarPath(key, method.name), visit.signal)),
    );
    if (visit.signal.aborted) return;
    const elapsed = performance.now() - started;
    const item = answers[0].query;
    follow(item);
    document.title = `${item.title} - ${state.generation.title}`;
    main.replaceChildren(...itemPage(item, methods, answers));
    footer(`${answers.length} answers in ${Math.round(elapsed)} ms`);
    say(`${answers[0].items.length} recommendations for ${item.title}`);
  } catch (error) {
    if (!visit.signal.aborted) showError(error, key);
  } finally {
    if (!visit.signal.aborted) main.removeAttribute("aria-busy");
  }
}

function itemPage(item, methods, answers) {
  const foundBy = new Map();
  answers.forEach((answer, at) => {
    for (const other of answer.items) {
      foundBy.set(other.key, [...(foundBy.get(other.key) ?? []), methods[at]]);
    }
  });
  const [first, ...rest] = methods;
  const columns = rest.map((method, at) => column(method, answers[at + 1], foundBy, first));
  return [
    trail(item),
    chosen(item),
    el(
      "section",
      { class: "found", "aria-labelledby": "first-title" },
      el(
        "div",
        { class: "heading" },
        el("h2", { id: "first-title" }, `${first.label} recommends`),
        el("p", { class: "hint" }, overlap(answers[0].items, foundBy, rest, first)),
        sizes(),
      ),
      answers[0].items.length
        ? el("ol", { class: "grid", "data-method": first.name },
            ...answers[0].items.map((other) => card(other, answers[0].items[0].score, foundBy, first)))
        : el("p", { class: "empty" }, "No related items are known."),
    ),
    columns.length
      ? el(
          "section",
          { class: "beside", "aria-labelledby": "beside-title" },
          el(
            "div",
            { class: "heading" },
            el("h2", { id: "beside-title" }, "What simpler methods say"),
            el("p", { class: "hint" }, "Point at an item to find it in every list."),
          ),
          el("div", { class: "columns" }, ...columns),
        )
      : null,
  ].filter(Boolean);
}

function chosen(item) {
  const page = webPage(item);
  const facts = details(item).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value)),
  );
  return el(
    "section",
    { class: "chosen", "aria-label": "Chosen item" },
    cover(item),
    el(
      "div",
      { class: "about" },
      el("p", { class: "kicker" }, "You are at"),
      el("h1", {}, item.title),
      subtitle(item) ? el("p", { class: "sub" }, subtitle(item)) : null,
      el("dl", { class: "facts" }, ...facts, el("div", {}, el("dt", {}, "key"), el("dd", {}, item.key))),
      page ? el("p", {}, el("a", { href: page, rel: "noreferrer noopener" }, "Its own page")) : null,
    ),
  );
}

function card(item, best, foundBy, first) {
  const others = foundBy.get(item.key).filter((method) => method !== first);
  const badge = others.length
    ? el("span", { class: "badge shared" }, `also ${others.map((method) => method.label).join(", ")}`)
    : el("span", { class: "badge unique" }, `only ${first.label}`);
  return el(
    "li",
    { class: others.length ? "card" : "card only" },
    itemLink(
      item,
      { title: item.title },
      cover(item),
      el("span", { class: "name" }, item.title),
      el("span", { class: "sub" }, subtitle(item)),
      scoreBar(item.score, best),
      state.generation.methods.length > 1 ? badge : null,
    ),
  );
}

function column(method, answer, foundBy, first) {
  const rows = answer.items.map((item) => {
    const shared = foundBy.get(item.key).includes(first);
    return el(
      "li",
      { class: shared ? "row shared" : "row" },
      itemLink(
        item,
        { title: item.title },
        cover(item),
        el(
          "span",
          { class: "text" },
          el("span", { class: "name" }, item.title),
          el("span", { class: "sub" }, subtitle(item)),
          el(
            "span",
            { class: "line" },
            scoreBar(item.score, answer.items[0].score),
            shared ? el("span", { class: "badge shared" }, `${first.label} too`) : null,
          ),
        ),
      ),
    );
  });
  return el(
    "section",
    { class: "column", "aria-label": method.label },
    el("h3", {}, method.label),
    el("p", { class: "hint" }, method.description),
    rows.length
      ? el("ol", { "data-method": method.name }, ...rows)
      : el("p", { class: "empty" }, "This method knows nothing related."),
  );
}

function overlap(items, foundBy, rest, first) {
  if (!items.length || !rest.length) return "";
  const unique = items.filter((item) => foundBy.get(item.key).length === 1).length;
  if (unique === items.length) return `None of these ${items.length} is in another method's list.`;
  if (!unique) return "Every one of these is in another method's list too.";
  return `${unique} of ${items.length} only ${first.label} found.`;
}

function sizes() {
  const allowed = SIZES.filter((size) => size <= state.generation.max_k);
  const select = el("select", { id: "size" }, ...allowed.map((size) =>
    el("option", { value: size, selected: size === state.size }, String(size))));
  select.addEventListener("change", async () => {
    state.size = Number(select.value);
    localStorage.setItem("size", select.value);
    await route();
    document.getElementById("size")?.focus();
  });
  return el("p", { class: "size" }, el("label", { for: "size" }, "Show"), select);
}

function trail(item) {
  const before = state.trail.filter((other) => other.key !== item.key).slice(-6);
  if (!before.length) return null;
  return el(
    "nav",
    { class: "trail", "aria-label": "Where you came from" },
    el("span", { class: "hint" }, "Your way"),
    ...before.map((other) => itemLink(other, { title: other.title }, cover(other), el("span", {}, other.title))),
  );
}

function follow(item) {
  state.trail = [...state.trail.filter((other) => other.key !== item.key), item].slice(-7);
}

// ---- the page before an item is chosen

async function showStart() {
  const visit = beginVisit();
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
  try {
    const { items } = await ask(`v1/items?limit=${START_ITEMS}`, visit.signal);
    if (visit.signal.aborted) return;
    const cards = items.map((item) =>
      el("li", { class: "card" }, itemLink(item, { title: item.title }, cover(item),
        el("span", { class: "name" }, item.title), el("span", { class: "sub" }, subtitle(item)))));
    main.replaceChildren(hero, el("ul", { class: "grid small", "aria-label": "Items to start from" }, ...cards));
    footer(`answered in ${Math.round(performance.now() - started)} ms`);
  } catch (error) {
    if (!visit.signal.aborted) showError(error, null);
  }
}

async function surprise() {
  try {
    state.surprises ??= (await ask(`v1/items?limit=${SURPRISES}`)).items;
    const seen = new Set(state.trail.map((item) => item.key));
    const fresh = state.surprises.filter((item) => !seen.has(item.key));
    const from = fresh.length ? fresh : state.surprises;
    if (from.length) go(from[Math.floor(Math.random() * from.length)].key);
  } catch (error) {
    showError(error, null);
  }
}

// ---- errors, the footer, and what is read aloud

function showError(error, key) {
  const again = el("button", { class: "button", type: "button", onclick: start }, "Try again");
  const home = el("a", { class: "button", href: "./", "data-home": "" }, "Back to the start");
  document.title = `Error - ${state.generation?.title ?? "Explorer"}`;
  if (error.code === "unknown_item") {
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
    el("span", {}, "generation ", el("code", {}, generation)),
    el("span", {}, `${counts.items.toLocaleString("en")} items, ${counts.edges.toLocaleString("en")} edges`),
    figures.length ? el("span", { title: "Share of held-out pairs whose item is among the best 100" },
      `hit-rate@100: ${figures.join(", ")}`) : null,
    el("span", { "data-latency": "" }, latency),
    el("a", { href: "docs" }, "API"),
  ];
  foot.replaceChildren(...facts.filter(Boolean));
}

function say(text) {
  says.textContent = text;
}

// ---- moving about

function beginVisit() {
  state.visit?.abort();
  state.visit = new AbortController();
  return state.visit;
}

function chosenKey() {
  return new URLSearchParams(location.search).get("item");
}

function go(key) {
  const url = key === null ? "./" : itemUrl(key);
  if (key !== chosenKey()) history.pushState(null, "", url);
  window.scrollTo({ top: 0 });
  main.focus({ preventScroll: true });
  return route();
}

function route() {
  const key = chosenKey();
  return key === null ? showStart() : showItem(key);
}

function onClick(event) {
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest("a[data-item], a[data-home]");
  if (!link) return;
  event.preventDefault();
  go(link.dataset.item ?? null);
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
  if (!SIZES.includes(state.size)) state.size = 12;
  document.querySelector("[data-title]").textContent = state.generation.title;
  await route();
}

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
document.addEventListener("click", onClick);
main.addEventListener("pointerover", onPoint);
main.addEventListener("focusin", onPoint);
window.addEventListener("popstate", route);
document.querySelector("[data-surprise]").addEventListener("click", surprise);
document.querySelector("[data-theme]").addEventListener("click", switchTheme);
startSearch(document.querySelector("[data-search]"), ask, go);
start();
