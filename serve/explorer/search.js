// The search box: matches while typing, by keyboard or mouse (the ARIA combobox pattern).

import { count, cover, el, itemUrl, subtitle } from "./parts.js";

const WAIT_MS = 90;

/** Brings the search box to life: `open(key)` takes what was chosen, `say(text)` reads aloud. */
export function startSearch(box, ask, open, say) {
  const input = box.querySelector("input");
  const list = box.querySelector("[role=listbox]");
  let found = [];
  let active = -1;
  let timer = 0;
  let asking = null;
  let shownFor = "";

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function forget() {
    clearTimeout(timer);
    asking?.abort();
  }

  function mark(place) {
    const rows = list.querySelectorAll("[data-key]");
    if (!rows.length) return;
    active = (place + rows.length) % rows.length;
    rows.forEach((row, at) => row.setAttribute("aria-selected", String(at === active)));
    rows[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", rows[active].id);
  }

  function choose(item) {
    forget();
    close();
    input.value = "";
    shownFor = "";
    input.blur();
    open(item.key);
  }

  function show(text) {
    active = -1;
    shownFor = text;
    input.removeAttribute("aria-activedescendant");
    const rows = found.map((item, at) => {
      const row = el(
        "li",
        { id: `match-${at}`, role: "option", "aria-selected": "false", "data-key": item.key },
        cover(item),
        el(
          "span",
          { class: "text" },
          el("span", { class: "name" }, ...highlighted(item.title, text)),
          el("span", { class: "sub" }, ...highlighted(subtitle(item), text)),
        ),
      );
      row.addEventListener("pointerdown", (event) => event.preventDefault());
      row.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey) window.open(itemUrl(item.key), "_blank", "noopener");
        else choose(item);
      });
      row.addEventListener("pointermove", () => at !== active && mark(at));
      return row;
    });
    if (rows.length) unfold(rows, count(rows.length, "match", "matches"));
    else none(`Nothing matches "${text}".`);
  }

  function none(text) {
    unfold([el("li", { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" }, text)], text);
  }

  function unfold(rows, told) {
    list.replaceChildren(...rows);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    say(told);
  }

  async function look() {
    const text = input.value.trim();
    forget();
    if (!text) {
      close();
      return;
    }
    asking = new AbortController();
    const { signal } = asking;
    try {
      const reply = await ask(`v1/search?limit=8&q=${encodeURIComponent(text.slice(0, 200))}`, signal);
      if (signal.aborted) return;
      found = reply.items;
      show(text);
    } catch (error) {
      if (signal.aborted) return;
      found = [];
      none(error.message);
    }
  }

  async function enter() {
    if (active >= 0) {
      choose(found[active]);
      return;
    }
    // What is shown may still be of an earlier text.
    if (shownFor !== input.value.trim()) await look();
    if (found.length && shownFor === input.value.trim() && shownFor) choose(found[0]);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, WAIT_MS);
  });
  input.addEventListener("focus", () => {
    if (input.value.trim()) look();
  });
  input.addEventListener("blur", () => {
    forget();
    close();
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look();
      else if (event.key === "ArrowDown") mark(active + 1);
      else mark(active < 0 ? -1 : active - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      enter();
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (list.hidden) input.value = "";
      forget();
      close();
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}

/** The text with what was typed in bold, wherever a word begins so. */
function highlighted(text, typed) {
  const words = typed.split(/\s+/).filter(Boolean);
  if (!words.length || !text) return [text];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})`, "giu");
  return text.split(pattern).map((part, at) => (at % 2 ? el("b", {}, part) : part));
}
