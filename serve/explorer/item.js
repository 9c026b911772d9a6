// The page of one item: what every method recommends, and why.

import { count, cover, details, el, itemLink, quoted, scoreBar, short, skeleton, subtitle, webPage } from "./parts.js";
import { ask, entitle, isLiked, keep, state, toggleLiked } from "./session.js";
import { explain } from "./why.js";

const SIZES = [6, 12, 24, 48];

/** Shows an item; `shell` has the place, the visit's signal, and what all pages do alike. */
export async function showItem(shell, key) {
  const { main, signal } = shell;
  if (!SIZES.includes(state.size)) state.size = 12;
  main.replaceChildren(skeleton(1, "grid"), skeleton(state.size, "grid"));
  const methods = state.generation.methods;
  const started = performance.now();
  const asked = await Promise.allSettled(
    methods.map((method) => ask(similarPath(key, method.name), signal)),
  );
  if (signal.aborted) return;
  if (asked[0].reason) throw asked[0].reason;
  const answers = asked.map(({ value, reason }) => value ?? { items: [], error: reason });
  const elapsed = performance.now() - started;
  const item = answers[0].query;
  follow(item);
  entitle(quoted(short(item.title)));
  main.replaceChildren(...itemPage(shell, item, methods, answers));
  shell.footer(`${count(answers.filter((answer) => !answer.error).length, "answer")} in ${Math.round(elapsed)} ms`);
  shell.say(`${count(answers[0].items.length, "recommendation")} for ${quoted(item.title)}`);
}

function similarPath(key, method) {
  const k = Math.min(state.size, state.generation.max_k);
  return `v1/items/${encodeURIComponent(key)}/similar?k=${k}&method=${encodeURIComponent(method)}`;
}

function itemPage(shell, item, methods, answers) {
  const foundBy = new Map();
  answers.forEach((answer, at) => {
    for (const other of answer.items) {
      foundBy.set(other.key, [...(foundBy.get(other.key) ?? []), methods[at]]);
    }
  });
  const [first, ...rest] = methods;
  const top = [trail(item), chosen(item)];
  if (state.sideBySide && methods.length > 1) {
    return [...top, sideBySide(shell, item, methods, answers, foundBy)].filter(Boolean);
  }
  const columns = rest.map((method, at) => column(item, method, answers[at + 1], foundBy, first));
  return [
    ...top,
    el(
      "section",
      { class: "found", "aria-labelledby": "first-title" },
      el(
        "div",
        { class: "heading" },
        el("h2", { id: "first-title" }, `${first.label} recommends`),
        el("p", { class: "hint" }, overlap(answers, foundBy, first)),
        choices(shell, methods),
      ),
      answers[0].items.length
        ? el("ol", { class: "grid", "data-method": first.name },
            ...answers[0].items.map((other) => card(item, other, answers, foundBy, first)))
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
      el("p", { class: "actions" }, likeButton(item),
        state.generation.methods.length > 1
          ? el("a", { class: "button", href: `compare?item=${encodeURIComponent(item.key)}`, "data-page": "" }, "Judge blind")
          : null),
    ),
  );
}

function card(query, item, answers, foundBy, first) {
  const others = foundBy.get(item.key).filter((method) => method !== first);
  const isAlone = !others.length && answers.length > 1 && !answers.some((answer) => answer.error);
  return el(
    "li",
    { class: others.length ? "card" : "card only" },
    itemLink(
      item,
      { title: short(item.title) },
      cover(item),
      el("span", { class: "name" }, item.title),
      el("span", { class: "sub" }, subtitle(item)),
      scoreBar(item.score, answers[0].items[0].score),
      others.length
        ? el("span", { class: "badge shared" }, `also ${others.map((method) => method.label).join(", ")}`)
        : null,
      isAlone ? el("span", { class: "badge unique" }, `only ${first.label}`) : null,
    ),
    whyButton(query, item),
  );
}

function column(query, method, answer, foundBy, first) {
  const rows = answer.items.map((item, at) => {
    const shared = method !== first && foundBy.get(item.key).includes(first);
    return el(
      "li",
      { class: shared ? "row shared" : "row" },
      itemLink(
        item,
        { title: short(item.title) },
        el("span", { class: "rank" }, String(at + 1)),
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
      whyButton(query, item),
    );
  });
  return el(
    "section",
    { class: "column", "aria-label": method.label },
    el("h3", {}, method.label),
    el("p", { class: "hint" }, method.description),
    rows.length
      ? el("ol", { "data-method": method.name }, ...rows)
      : el("p", { class: "empty" }, answer.error?.message ?? "This method knows nothing related."),
  );
}

function overlap(answers, foundBy, first) {
  const [{ items }, ...rest] = answers;
  if (!items.length || !rest.length || rest.some((answer) => answer.error)) return "";
  const unique = items.filter((item) => foundBy.get(item.key).length === 1).length;
  if (unique === items.length) return "None of these is in another method's list.";
  if (!unique) return "Every one of these is in another method's list too.";
  return `${unique} of ${items.length} only ${first.label} found.`;
}

/** Every method as a column of its own, ours among equals; each can be hidden. */
function sideBySide(shell, item, methods, answers, foundBy) {
  const boxes = methods.map((method) => {
    const box = el("input", { type: "checkbox", checked: !state.hidden.has(method.name) });
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(method.name);
      else state.hidden.add(method.name);
      columnOf.get(method).hidden = !box.checked;
    });
    return el("label", { class: "check" }, box, method.label);
  });
  const columnOf = new Map(methods.map((method, at) =>
    [method, column(item, method, answers[at], foundBy, methods[0])]));
  for (const [method, shown] of columnOf) shown.hidden = state.hidden.has(method.name);
  return el(
    "section",
    { class: "beside", "aria-labelledby": "beside-title" },
    el(
      "div",
      { class: "heading" },
      el("h2", { id: "beside-title" }, "Side by side"),
      el("div", { class: "checks", role: "group", "aria-label": "Methods shown" }, ...boxes),
      choices(shell, methods),
    ),
    el("div", { class: "columns even" }, ...columnOf.values()),
  );
}

/** How many, and in which arrangement. */
function choices(shell, methods) {
  const allowed = SIZES.filter((size) => size <= state.generation.max_k);
  const select = el("select", { id: "size" }, ...allowed.map((size) =>
    el("option", { value: size, selected: size === state.size }, String(size))));
  select.addEventListener("change", async () => {
    state.size = Number(select.value);
    keep("size", select.value);
    await shell.again();
    document.getElementById("size")?.focus();
  });
  const arrange = el("button", {
    class: "button slim", id: "arrange", type: "button", "aria-pressed": String(state.sideBySide),
    onclick: async () => {
      state.sideBySide = !state.sideBySide;
      keep("side-by-side", state.sideBySide ? "yes" : "no");
      await shell.again();
      document.getElementById("arrange")?.focus();
    },
  }, "Side by side");
  return el("div", { class: "size" }, methods.length > 1 ? arrange : null,
    el("label", { for: "size" }, "Show"), select);
}

function likeButton(item) {
  const button = el("button", { class: "button like", type: "button" });
  function show() {
    const liked = isLiked(item);
    button.setAttribute("aria-pressed", String(liked));
    button.textContent = liked ? "Liked" : "Like it";
  }
  button.addEventListener("click", () => {
    toggleLiked(item);
    show();
  });
  show();
  return button;
}

function whyButton(query, item) {
  return el("button", {
    class: "why", type: "button", "aria-label": `Why ${quoted(item.title)}?`, onclick: () => explain(query, item),
  }, "why?");
}

function trail(item) {
  const before = state.trail.filter((other) => other.key !== item.key).slice(-6);
  if (!before.length) return null;
  return el(
    "nav",
    { class: "trail", "aria-label": "Where you came from" },
    el("span", { class: "hint" }, "Your way"),
    ...before.map((other) => itemLink(other, { title: short(other.title) }, cover(other), el("span", {}, other.title))),
  );
}

function follow(item) {
  state.trail = [...state.trail.filter((other) => other.key !== item.key), item].slice(-7);
}
