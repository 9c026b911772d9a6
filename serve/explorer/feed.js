// The homefeed's playground: pick what you like, see what would be shown to you.

import { count, cover, el, itemLink, quoted, scoreBar, short, skeleton, subtitle } from "./parts.js";
import { ask, entitle, isLiked, state, toggleLiked } from "./session.js";

const PICKS = 18;

/** Likes an item that was searched for. */
export async function addToFeed(key) {
  const item = await ask(`v1/items/${encodeURIComponent(key)}`);
  if (!isLiked(item)) toggleLiked(item);
}

/** Shows what is liked, what that recommends, and what else might be liked. */
export async function showFeed(shell) {
  const { main, signal } = shell;
  entitle("Homefeed");
  const intro = el("section", { class: "hero small" },
    el("h1", {}, "Your homefeed"),
    el("p", {}, "Pick what you like, below or with the search box. What is alike makes one interest; each gets its share of the feed."));
  // A feed that is shown stays until the next one: a shorter page would throw the reader to its top.
  if (!main.querySelector("[data-picks]")) main.replaceChildren(intro, likedList(shell), skeleton(6, "grid small"));
  const started = performance.now();
  const [feed, picks] = await Promise.all([
    state.liked.length ? recommended(signal) : null,
    ask(`v1/items?limit=${PICKS}`, signal),
  ]);
  if (signal.aborted) return;
  main.replaceChildren(intro, likedList(shell), ...feedSections(feed), pickSection(shell, picks.items));
  shell.footer(`answered in ${Math.round(performance.now() - started)} ms`);
  shell.say(feed ? `${count(feed.items.length, "recommendation")} for ${count(state.liked.length, "liked item")}` : "Nothing is liked yet");
}

/** Likes an item or not, and gives the button that takes the place of the pressed one its focus and height. */
async function toggled(shell, item, buttons, pressed) {
  const place = [...shell.main.querySelectorAll(buttons)].indexOf(pressed);
  const top = pressed.getBoundingClientRect().top;
  toggleLiked(item);
  await shell.again();
  const left = [...shell.main.querySelectorAll(buttons)];
  const next = left[Math.min(place, left.length - 1)];
  (next ?? shell.main).focus({ preventScroll: true });
  if (next) scrollBy(0, next.getBoundingClientRect().top - top);
}

async function recommended(signal) {
  const k = Math.min(24, state.generation.max_k);
  const recent = state.liked.map(({ key }) => ({ key }));
  try {
    return await ask("v1/homefeed", signal, { body: { recent, k } });
  } catch (error) {
    // None of them is there any more: they can still be taken out, and others picked.
    if (error.code === "unknown_item") return { interests: [], items: [] };
    throw error;
  }
}

function likedList(shell) {
  const chips = state.liked.map((item) => el("li", { class: "chip" },
    cover(item), el("span", {}, item.title),
    el("button", {
      type: "button", "aria-label": `Take ${quoted(item.title)} out`,
      onclick: (event) => toggled(shell, item, ".chip button", event.currentTarget),
    }, "\u00d7")));
  return chips.length
    ? el("ul", { class: "chips", "aria-label": "What you like" }, ...chips)
    : el("p", { class: "empty" }, "Nothing picked yet.");
}

function feedSections(feed) {
  if (!feed) return [];
  const titles = new Map(state.liked.map((item) => [item.key, item.title]));
  const named = (interest) => titles.get(interest) ?? interest;
  const shares = feed.interests.map((interest) =>
    el("li", { class: "badge shared titled", title: short(named(interest.key)) },
      `${Math.round(100 * interest.weight)}% ${quoted(named(interest.key))}`));
  const best = Math.max(...feed.items.map((item) => item.score), 0);
  const cards = feed.items.map((item) => el("li", { class: "card" }, itemLink(item, { title: short(item.title) },
    cover(item),
    el("span", { class: "name" }, item.title),
    el("span", { class: "sub" }, subtitle(item)),
    scoreBar(item.score, best),
    feed.interests.length > 1
      ? el("span", { class: "badge shared titled", title: short(named(item.interest)) }, `as ${quoted(named(item.interest))}`)
      : null)));
  return [el("section", { "aria-labelledby": "feed-title" },
    el("div", { class: "heading" },
      el("h2", { id: "feed-title" }, "For you"),
      el("ul", { class: "checks", "aria-label": "Interests" }, ...shares)),
    cards.length
      ? el("ol", { class: "grid small", "data-feed": "" }, ...cards)
      : el("p", { class: "empty" }, "Nothing is recommended for these."))];
}

function pickSection(shell, items) {
  const cards = items.filter((item) => !isLiked(item)).map((item) => el("li", { class: "card" },
    el("button", {
      type: "button", class: "pick", title: short(item.title),
      onclick: (event) => toggled(shell, item, ".pick", event.currentTarget),
    }, cover(item), el("span", { class: "name" }, item.title), el("span", { class: "sub" }, subtitle(item)))));
  return el("section", { "aria-labelledby": "pick-title" },
    el("div", { class: "heading" }, el("h2", { id: "pick-title" }, "Pick some")),
    el("ul", { class: "grid small", "data-picks": "" }, ...cards));
}
