// The pieces the page is made of: elements, covers, links to items, scores.

const SUBTITLES = ["authors", "author", "artist", "artists", "creator", "brand", "director", "subtitle"];
const URL_LIKE = /^https?:\/\//;
const NO_PICTURE = /^(?!https?:|data:image\/)[a-z][a-z0-9+.-]*:/i;
const LONGEST = 200;

/** Makes an element; `attributes` are set as they are, children may be text. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number with what it counts. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** A title within a sentence: whichever way it is written, the words around it stay in order. */
export function quoted(title) {
  return `\u2068${title}\u2069`;
}

/** What a tab or a tooltip can hold of a title. */
export function short(title) {
  return title.length > LONGEST ? `${title.slice(0, LONGEST)} ...` : title;
}

/** The address of an item on this page. */
export function itemUrl(key) {
  return `./?item=${encodeURIComponent(key)}`;
}

/** Who made the item, if its metadata says so under a usual name. */
export function subtitle(item) {
  for (const name of SUBTITLES) {
    const value = item.metadata[name];
    if (typeof value === "string" && value) return value;
    if (Array.isArray(value) && value.length) return value.join(", ");
  }
  return "";
}

/** What else is worth showing: short, plain metadata. */
export function details(item) {
  const shown = [];
  for (const [name, value] of Object.entries(item.metadata)) {
    const text = Array.isArray(value) ? value.join(", ") : String(value);
    if (SUBTITLES.includes(name) || (typeof value === "object" && !Array.isArray(value))) continue;
    if (!text || text.length > 80 || URL_LIKE.test(text)) continue;
    shown.push([name.replaceAll("_", " "), text]);
  }
  return shown.slice(0, 6);
}

/** The item's own web page, if its metadata has one. */
export function webPage(item) {
  for (const name of ["url", "link", "page", "homepage"]) {
    const value = item.metadata[name];
    if (typeof value === "string" && URL_LIKE.test(value)) return value;
  }
  return null;
}

/** A cover: drawn from title and key at once, with the picture over it if one loads. */
export function cover(item) {
  const box = el("span", { class: "cover", "aria-hidden": "true" });
  box.style.setProperty("--hue", String(hueOf(item.key)));
  box.append(
    el("span", { class: "initials" }, initials(item.title)),
    el("span", { class: "cover-title" }, bareTitle(item.title)),
  );
  if (item.image && !NO_PICTURE.test(item.image)) {
    const picture = el("img", { alt: "", loading: "lazy", referrerpolicy: "no-referrer" });
    picture.addEventListener("load", () => box.classList.add("pictured"));
    picture.addEventListener("error", () => picture.remove());
    picture.src = item.image;
    box.append(picture);
  }
  return box;
}

/** A link to an item; the page follows it without loading anew. */
export function itemLink(item, attributes, ...children) {
  return el("a", { href: itemUrl(item.key), "data-item": item.key, ...attributes }, ...children);
}

/** A score with a bar, as long as the score's share of the best one beside it. */
export function scoreBar(score, best) {
  const bar = el("span", { class: "meter", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(best > 0 ? Math.max(0, Math.min(1, score / best)) : 0));
  return el("span", { class: "score" }, bar, el("span", { class: "number" }, score.toFixed(3)));
}

/** The gray shapes shown while something loads. */
export function skeleton(count, name) {
  const shapes = Array.from({ length: count }, () =>
    el("li", { class: "skeleton" }, el("span", { class: "cover" }), el("span", { class: "line" })),
  );
  return el("ul", { class: name, "aria-hidden": "true" }, ...shapes);
}

/** A box that says what is wrong and what to do. */
export function notice(title, text, ...actions) {
  return el(
    "section",
    { class: "notice", role: "alert" },
    el("h1", {}, title),
    el("p", {}, text),
    actions.length ? el("p", { class: "actions" }, ...actions) : null,
  );
}

function bareTitle(title) {
  return title.replace(/\s*\([^()]*\)\s*$/, "") || title;
}

function initials(title) {
  const words = bareTitle(title)
    .split(/\s+/)
    .filter((word) => /^[\p{L}\p{N}]/u.test(word) && !/^(the|a|an|of|and|in|to)$/i.test(word));
  const letters = words.slice(0, 2).map((word) => [...word][0].toUpperCase());
  return letters.join("") || [...title][0] || "?";
}

function hueOf(key) {
  let hash = 0;
  for (const char of key) hash = (Math.imul(hash, 31) + char.codePointAt(0)) | 0;
  return Math.abs(Math.imul(hash, 2654435761) >> 7) % 360;
}
