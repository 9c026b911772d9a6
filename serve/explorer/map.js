// The page of the map of the embeddings.

import { drawMap } from "./item_map.js";
import { count, cover, el, itemLink, itemUrl } from "./parts.js";
import { ask, entitle } from "./session.js";

/** Shows the map; what is pointed at is described beside it, what is clicked is opened. */
export async function showMap(shell) {
  const { main, signal } = shell;
  entitle("Map");
  main.replaceChildren(el("p", { class: "hint" }, "Drawing the map ..."));
  const started = performance.now();
  const { how, points } = await ask("v1/map", signal);
  if (signal.aborted) return;
  const box = el("div", { class: "sheet" });
  const panel = el("aside", { class: "sheet", "aria-live": "polite" }, el("p", { class: "hint" }, "Point at an item, or tap one."));
  main.replaceChildren(
    el("section", { class: "hero small" },
      el("h1", {}, "The map"),
      el("p", {}, `${how}. Near means similar, as far as a plane can show it; lines lead to the five ` +
        "nearest by embedding. Point, tap or use the arrow keys; click, tap again or press Enter to go there.")),
    el("div", { class: "mapped" }, box, panel),
  );
  drawMap(box, points, (point, near) => panel.replaceChildren(...described(point, near)),
    (point) => shell.go(itemUrl(point.key)));
  shell.footer(`answered in ${Math.round(performance.now() - started)} ms`);
  shell.say(`Map of ${count(points.length, "item")}`);
}

function described(point, near) {
  return [
    cover(point),
    el("h2", {}, itemLink(point, {}, point.title)),
    el("p", { class: "hint" }, `in ${count(point.degree, "context")}; nearest on this map:`),
    el("ol", {}, ...near.map((other) => el("li", {}, itemLink(other, {}, other.title)))),
  ];
}
