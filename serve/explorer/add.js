// The form that adds an item, or changes one: it is embedded and can be found at once.

import { el, itemLink } from "./parts.js";
import { ask, state } from "./session.js";

/** Shows the form. */
export async function showAdd(shell) {
  const { main } = shell;
  document.title = `Add an item - ${state.generation.title}`;
  const told = el("div", { class: "told", role: "status" });
  const form = el("form", { class: "sheet form" },
    field("key", "Key", "What the item is called in requests; one that exists is changed.", { required: true, maxlength: 500 }),
    field("title", "Title", "", { required: true, maxlength: 500 }),
    field("image", "Picture", "An address that begins with https://", { type: "url" }),
    field("contexts", "Contexts", "Keys of the contexts it is in, one a line. Without any it is found by its features alone.", {}, "textarea"),
    field("features", "Features", 'Optional, as JSON: {"text": [0.1, ...]}', {}, "textarea"),
    field("api-key", "API key", "Needed where the server has keys: one with the role write. It is kept until this tab is closed.",
      { type: "password", autocomplete: "off" }),
    el("p", { class: "actions" }, el("button", { class: "button", type: "submit" }, "Add it")));
  const input = (name) => form.elements.namedItem(name);
  input("api-key").value = sessionStorage.getItem("api-key") ?? "";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = input("api-key").value.trim();
    sessionStorage.setItem("api-key", key);
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    const started = performance.now();
    try {
      const path = `v1/items/${encodeURIComponent(input("key").value.trim())}`;
      await ask(path, shell.signal, { method: "PUT", body: read(input), key });
      const elapsed = Math.round(performance.now() - started);
      const item = { key: input("key").value.trim() };
      told.replaceChildren(el("p", {}, `Added in ${elapsed} ms. `,
        itemLink(item, { class: "button" }, "See what is near it")));
      shell.footer(`added in ${elapsed} ms`);
    } catch (error) {
      if (!shell.signal.aborted) told.replaceChildren(el("p", { role: "alert" }, error.message));
    } finally {
      button.disabled = false;
    }
  });
  main.replaceChildren(
    el("section", { class: "hero small" },
      el("h1", {}, "Add an item"),
      el("p", {}, "The network embeds it from its features and its contexts; it is among the recommendations at once.")),
    form, told);
  shell.footer("");
}

function field(name, label, hint, attributes, kind = "input") {
  const id = `add-${name}`;
  return el("p", { class: "field" },
    el("label", { for: id }, label),
    el(kind, { id, name, "aria-describedby": `${id}-hint`, ...attributes }),
    el("span", { class: "hint", id: `${id}-hint` }, hint));
}

/** What the form says, as the API takes it. */
function read(input) {
  const body = { title: input("title").value.trim() };
  const image = input("image").value.trim();
  const contexts = input("contexts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const features = input("features").value.trim();
  if (image) body.image = image;
  if (contexts.length) body.contexts = contexts;
  if (features) {
    try {
      body.features = JSON.parse(features);
    } catch (error) {
      throw new Error(`Features: not JSON (${error.message}).`);
    }
  }
  return body;
}
