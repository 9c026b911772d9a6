// What ties one item to another: the graph's evidence, in a dialog.

import { count, cover, el, itemLink, quoted, scoreBar } from "./parts.js";
import { ask, labelOf } from "./session.js";

/** Opens the dialog; Escape, its button or a press beside it closes it. */
export async function explain(item, other) {
  const opener = document.activeElement;
  const close = el("button", { class: "button slim", type: "button", onclick: () => box.close() }, "Close");
  const content = el("div", { class: "evidence" }, el("p", { class: "hint" }, "Looking at the graph ..."));
  const box = el("dialog", { "aria-labelledby": "why-title" },
    el("header", {}, el("h2", { id: "why-title" }, `Why ${quoted(other.title)}?`), close),
    content);
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.addEventListener("close", () => {
    box.remove();
    opener?.focus();
  });
  document.body.append(box);
  box.showModal();
  const path = `v1/items/${encodeURIComponent(item.key)}/why/${encodeURIComponent(other.key)}`;
  try {
    content.replaceChildren(...evidence(await ask(path)));
  } catch (error) {
    content.replaceChildren(el("p", { role: "alert" }, error.message));
  }
}

function evidence(why) {
  const scores = Object.entries(why.scores).map(([name, score]) =>
    el("div", { class: "line" }, el("span", { class: "method" }, labelOf(name)), scoreBar(score, 1)));
  const { neighbor } = why;
  const place = neighbor
    ? `Random walks from ${quoted(why.item.title)} meet it: neighbor ${neighbor.rank}, with ${share(neighbor.weight)} of what is pooled.`
    : `Random walks from ${quoted(why.item.title)} do not meet it often enough to make it a neighbor.`;
  const shared = why.num_shared_contexts
    ? `${count(why.num_shared_contexts, "context holds", "contexts hold")} both.`
    : "No context holds both.";
  return [
    el("p", {}, place),
    el("p", {}, shared),
    list(why.shared_contexts.slice(0, 5).map((context) =>
      el("li", {}, el("code", {}, context.key), `, which holds ${count(context.num_items, "item")}`))),
    el("p", {}, `Their neighborhoods overlap by ${share(why.overlap)}: ` +
      `${count(why.num_common_neighbors, "common neighbor")}.`),
    list(why.common_neighbors.slice(0, 5).map((common) =>
      el("li", { class: "row" }, itemLink(common.item, {}, cover(common.item), el("span", { class: "text" },
        el("span", { class: "name" }, common.item.title),
        el("span", { class: "sub" }, `${share(common.weight)} here, ${share(common.other_weight)} there`)))))),
    scores.length ? el("h3", {}, "How closely each method relates them") : null,
    ...scores,
  ].filter(Boolean);
}

function list(rows) {
  return rows.length ? el("ul", {}, ...rows) : null;
}

function share(part) {
  return `${(100 * part).toFixed(1)}%`;
}
