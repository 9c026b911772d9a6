// The form that adds an item, or changes one: it is embedded and can be found at once.

import { count, el, itemLink, quoted, short } from "./parts.js";
import { apiKey, ask, entitle } from "./session.js";

const EXAMPLE_CONTEXTS = 8;

/** The key that was looked up last, with what became of it, and what that put into fields. */
let looked = null;
let filled = new Map();

export async function showAdd(shell) {
  const { main } = shell;
  entitle("Add an item");
  looked = null;
  filled = new Map();
  const told = el("div", { class: "told", role: "status", tabindex: "-1" });
  const example = el("button", { class: "button slim", type: "button", onclick: () => fill(form, told, shell) }, "Fill in an example");
  const form = el("form", { class: "sheet form" },
    field("key", "Key", "What requests call it. An item of that key is replaced: the form then shows what it has, for you to change.",
      { required: true, maxlength: 500 }),
    field("title", "Title", "", { required: true, maxlength: 1000 }),
    field("image", "Picture", "An address that begins with https://, http:// or data:image/, or a path beside this page.",
      { inputmode: "url" }),
    field("metadata", "Metadata", 'What else is shown and filtered by: the catalog\'s further columns, as JSON such as {"year": 2024}. A column left out is empty.',
      { rows: 3 }, "textarea"),
    field("contexts", "Contexts", "Keys of the contexts it is in, one a line. Without any, its features alone say what it is near.",
      { rows: 5 }, "textarea"),
    field("features", "Features", 'By group, as JSON: {"text": [0.1, ...]}. A group left out is zero. With neither contexts nor features, it is near nothing.', { rows: 2 }, "textarea"),
    field("api-key", "API key", "Only where the server asks for one: with the role write.", { type: "password", autocomplete: "off" }),
    el("p", { class: "actions" }, el("button", { class: "button primary", type: "submit" }, "Add it"), example));
  form.elements.namedItem("api-key").value = apiKey();
  // Blanks alone are nothing: what must be filled in is looked at before it is sent.
  form.addEventListener("change", ({ target }) => {
    target.value = target.value.trim();
    // What stands in the way is told when it matters, as the item is sent.
    if (target.name === "key") lookUp(form, told, shell).catch(() => {});
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(form, told, shell);
  });
  main.replaceChildren(
    el("section", { class: "hero small" },
      el("h1", {}, "Add an item"),
      el("p", {}, "The network embeds it from its features and its contexts. It is among the recommendations at once, and stays there.")),
    form, told);
  shell.footer("");
}

async function add(form, told, shell) {
  const submit = form.querySelector("[type=submit]");
  // A button that is disabled loses the focus.
  if (submit.ariaDisabled) return;
  submit.ariaDisabled = "true";
  for (const wrong of form.querySelectorAll("[aria-invalid]")) wrong.removeAttribute("aria-invalid");
  const started = performance.now();
  try {
    await lookUp(form, told, shell);
    const reply = await ask(path(value(form, "key")), shell.signal, { method: "PUT", body: read(form), key: value(form, "api-key") });
    const elapsed = Math.round(performance.now() - started);
    const unknown = reply.unknown_contexts.length
      ? ` The graph has no context called ${reply.unknown_contexts.slice(0, 5).join(", ")}.` : "";
    const bare = reply.missing_features.length
      ? ` Nothing was said of its ${reply.missing_features.join(", ")}: it lands among items that have none.` : "";
    told.replaceChildren(
      el("p", {}, `${reply.is_new ? "Added" : "Changed"} in ${elapsed} ms, with ${count(reply.neighbors.length, "neighbor")}.${unknown}${bare}`),
      el("p", { class: "actions" },
        itemLink(reply.item, { class: "button" }, "See what is near it"),
        el("button", { class: "button slim", type: "button", onclick: () => remove(reply.item.key, told, shell) }, "Delete it again")));
    told.focus();
    shell.footer(`${reply.is_new ? "added" : "changed"} in ${elapsed} ms`);
  } catch (error) {
    if (!shell.signal.aborted) warn(told, error, form);
  } finally {
    submit.ariaDisabled = null;
  }
}

async function remove(key, told, shell) {
  try {
    await ask(path(key), shell.signal, { method: "DELETE" });
    told.replaceChildren(el("p", {}, "Deleted: no answer has it any more."));
    told.focus();
  } catch (error) {
    if (!shell.signal.aborted) warn(told, error);
  }
}

/** Looks the key up, once, and fills in what an item of it has: replacing it is to lose nothing. */
function lookUp(form, told, shell) {
  const key = value(form, "key");
  if (!key) return Promise.resolve();
  if (looked?.key !== key) {
    const now = { key, done: fillInKnown(form, told, shell, key) };
    looked = now;
    now.done.catch(() => {
      if (looked === now) looked = null;
    });
  }
  return looked.done;
}

async function fillInKnown(form, told, shell, key) {
  // What an item of another key put there goes again; what a person wrote stays.
  if (filled.size) told.replaceChildren();
  for (const [name, text] of filled) {
    const input = form.elements.namedItem(name);
    if (input.value === text) input.value = "";
  }
  filled = new Map();
  let item;
  try {
    item = await ask(`${path(key)}/description`, shell.signal, { key: value(form, "api-key") });
  } catch (error) {
    if (error.status === 404) return;
    throw error;
  }
  if (value(form, "key") !== key) return;
  for (const [name, text] of Object.entries(written(item))) {
    const input = form.elements.namedItem(name);
    if (input.value.trim() || !text) continue;
    input.value = text;
    filled.set(name, input.value);
  }
  told.replaceChildren(el("p", {}, `There is an item of that key, ${quoted(short(item.title))}: the form shows what it has.`));
}

/** A description as the form's fields hold it. */
function written({ title, image, metadata, contexts, features }) {
  return {
    title, image: image ?? "", contexts: contexts.join("\n"), features: JSON.stringify(features),
    metadata: Object.keys(metadata).length ? JSON.stringify(metadata, null, 1) : "",
  };
}

/** Describes a made-up item: what the first item to start from is made from, under a key of its own. */
async function fill(form, told, shell) {
  try {
    const { items: [start] } = await ask("v1/items?limit=1", shell.signal);
    const like = await ask(`${path(start.key)}/description`, shell.signal);
    const example = written({ ...like, title: `Another ${start.title}`, contexts: like.contexts.slice(0, EXAMPLE_CONTEXTS) });
    for (const [name, text] of Object.entries({ ...example, key: `made-up-${Date.now()}` })) {
      form.elements.namedItem(name).value = text;
    }
    filled = new Map();
    told.replaceChildren(el("p", {}, `It has the features of ${quoted(start.title)}, and is in some of its contexts.`));
  } catch (error) {
    if (!shell.signal.aborted) warn(told, error);
  }
}

function field(name, label, hint, attributes, kind = "input") {
  const id = `add-${name}`;
  return el("p", { class: "field" },
    el("label", { for: id }, label),
    el(kind, { id, name, "aria-describedby": `${id}-hint`, ...attributes }),
    el("span", { class: "hint", id: `${id}-hint` }, hint));
}

/** What the form says, as the API takes it. */
function read(form) {
  const body = { title: value(form, "title") };
  const contexts = value(form, "contexts").split("\n").map((line) => line.trim()).filter(Boolean);
  const features = value(form, "features");
  const metadata = value(form, "metadata");
  if (value(form, "image")) body.image = value(form, "image");
  if (contexts.length) body.contexts = contexts;
  if (features) body.features = object("features", features, 'wanted lists of numbers by group, as {"text": [0.1, ...]}.');
  if (metadata) body.metadata = object("metadata", metadata, 'wanted values by column, as {"year": 2024}.');
  for (const [column, found] of Object.entries(body.metadata ?? {})) {
    if ([found].flat().some(isRounded)) {
      throw wrong("metadata", `${column} has a whole number that browsers round; put this item by the API.`);
    }
  }
  return body;
}

function object(name, text, wanted) {
  try {
    const read = JSON.parse(text);
    if (Object.prototype.toString.call(read) === "[object Object]") return read;
  } catch (error) {
    throw wrong(name, `not JSON (${error.message}).`);
  }
  throw wrong(name, wanted);
}

/** Whether a number may stand for several of those that a column of 64 bits holds. */
function isRounded(found) {
  return Number.isInteger(found) && !Number.isSafeInteger(found) && Math.abs(found) < 2 ** 64;
}

/** An error of one field, as the API would tell it. */
function wrong(name, message) {
  return Object.assign(new Error(message), { parts: [{ where: `body.${name}`, message }] });
}

function value(form, name) {
  return form.elements.namedItem(name).value.trim();
}

function path(key) {
  return `v1/items/${encodeURIComponent(key)}`;
}

/** Says what is wrong, and leads to the first field that is. */
function warn(told, error, form) {
  const part = form && error.parts?.[0];
  const name = part?.where.split(".")[1].replace("item_key", "key");
  const input = name && form.elements.namedItem(name);
  told.replaceChildren(el("p", { role: "alert" }, input ? `${input.labels[0].textContent}: ${part.message}` : error.message));
  input?.setAttribute("aria-invalid", "true");
  (input || told).focus();
}
