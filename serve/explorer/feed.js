// The homefeed's playground: pick what you like, see what would be shown to you.

import { cover, el, itemLink, scoreBar, skeleton, subtitle } from "./parts.js";
import { ask, isLiked, state, toggleLiked } from "./session.js";

const PICKS = 18;

/** Likes an item that was searched for. */
export async function addToFeed(key) {
  const item = await ask(`v1/items/${encodeURIComponent(key)}`);
  if (!isLiked(item)) toggleLiked(item);
}

/** Shows what is liked, what that recommends, and what else might be liked. */
export async function showFeed(shell) {
  const { main, signal } = shell;
  document.title = `Homefeed - ${state.generation.title}`;
  const intro = el("section", { class: "hero small" },
    el("h1", {}, "Your homefeed"),
    el("p", {}, "Pick what you like, below or with the search box. What is alike makes one interest; each gets its share of the feed."));
  main.replaceChildren(intro, likedList(shell), skeleton(6, "grid small"));
  const started = performance.now();
  const [feed, picks] = await Promise.all([
    state.liked.length ? recommended(signal) : null,
    ask(`v1/items?limit=${PICKS}`, signal),
  ]);
  if (signal.aborted) return;
  main.replaceChildren(intro, likedList(shell), ...feedSections(feed), pickSection(shell, picks.items));
  shell.footer(`answered in ${Math.round(performance.now() - started)} ms`);
  shell.say(feed ? `${feed.items.length} recommendations for ${state.liked.length} liked items` : "Nothing is liked yet");
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
      type: "button", "aria-label": `Take ${item.title} out`,
      onclick: () => {
        toggleLiked(item);
        shell.again();
      },
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
    el("li", { class: "badge shared" }, `${named(interest.key)} ${Math.round(100 * interest.weight)}%`));
  const best = Math.max(...feed.items.map((item) => item.score), 0);
  const cards = feed.items.map((item) => el("li", { class: "card" }, itemLink(item, { title: item.title },
    cover(item),
    el("span", { class: "name" }, item.title),
    el("span", { class: "sub" }, subtitle(item)),
    scoreBar(item.score, best),
    feed.interests.length > 1
      ? el("span", { class: "badge shared", title: named(item.interest) }, `as ${named(item.interest)}`)
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
      type: "button", class: "pick", title: item.title,
      onclick: () => {
        toggleLiked(item);
        shell.again();
      },
    }, cover(item), el("span", { class: "name" }, item.title), el("span", { class: "sub" }, subtitle(item)))));
  return el("section", { "aria-labelledby": "pick-title" },
    el("div", { class: "heading" }, el("h2", { id: "pick-title" }, "Pick some")),
    el("ul", { class: "grid small", "data-picks": "" }, ...cards));
}
