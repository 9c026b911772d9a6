// Renders the API's own description, openapi.json, and lets one try the calls.

import { el, notice } from "./parts.js";
import { apiKey, keep, startTheme } from "./session.js";

const main = document.querySelector("main");
let schemas = {};

/** Texts have blank lines between paragraphs and code in backticks. */
function prose(text) {
  return (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => el("p", {}, ...inline(part)));
}

function inline(text) {
  return (text ?? "").split(/`([^`]+)`/).map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

function nameOf(reference) {
  return reference.split("/").pop();
}

/** A type in a few words, with links to schemas. */
function typeOf(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [el("a", { href: `#schema-${name}` }, name)];
  }
  if (schema.anyOf) {
    return schema.anyOf.flatMap((option, at) => (at ? [" or ", ...typeOf(option)] : typeOf(option)));
  }
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  if (schema.type === "object" && schema.additionalProperties instanceof Object) {
    return ["map to ", ...typeOf(schema.additionalProperties)];
  }
  return [`${schema.type ?? "anything"}${limits(schema)}`];
}

function limits(schema) {
  const said = [];
  if (schema.minimum !== undefined && schema.maximum !== undefined) {
    said.push(`${schema.minimum} to ${schema.maximum}`);
  } else if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
  return said.length ? `, ${said.join(", ")}` : "";
}

function table(heads, rows) {
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, ...cell)))))));
}

function parameterRows(parameters) {
  return parameters.map((one) => [
    [el("code", {}, one.name), one.required ? " *" : ""],
    [one.in],
    [...typeOf(one.schema), defaultOf(one.schema)],
    inline(one.description ?? one.schema.description),
  ]);
}

function defaultOf({ default: value }) {
  if (value === undefined || value === null || value.length === 0) return "";
  return `; default ${written(value)}`;
}

function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** An example of what is needed; what isn't is empty, for no example fits every catalog. */
function exampleOf(schema) {
  if (!schema) return null;
  if (schema.$ref) return exampleOf(schemas[nameOf(schema.$ref)]);
  if (schema.examples) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.properties) {
    const needed = new Set(schema.required ?? []);
    return Object.fromEntries(Object.entries(schema.properties).map(([name, part]) =>
      [name, needed.has(name) ? exampleOf(part) : emptyOf(part)]));
  }
  return null;
}

function emptyOf({ default: value, type }) {
  if (value !== undefined) return value;
  return { array: [], object: {} }[type] ?? null;
}

function field(parameter) {
  const { schema } = parameter;
  const example = written(parameter.example ?? schema.examples?.[0] ?? schema.default ?? "");
  const input = schema.enum
    ? el("select", { name: parameter.name }, ...schema.enum.map((value) =>
        el("option", { selected: value === schema.default }, String(value))))
    : el("input", {
        name: parameter.name, required: parameter.required,
        [parameter.required ? "value" : "placeholder"]: example === "[]" ? "" : example,
      });
  return el("label", {}, el("span", {}, parameter.name), input);
}

function tryIt(verb, path, call) {
  const parameters = call.parameters ?? [];
  const body = call.requestBody?.content["application/json"]?.schema;
  const text = body ? el("textarea", { name: "body", spellcheck: "false" }) : null;
  if (text) text.value = JSON.stringify(exampleOf(body), null, 2);
  const out = el("div", { role: "status" });
  const form = el("form", { class: "try" }, ...parameters.map(field),
    text ? el("label", {}, el("span", {}, "body"), text) : null,
    el("button", { class: "button", type: "submit" }, "Send"), out);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = new FormData(form);
    const request = { method: verb.toUpperCase() };
    if (text) Object.assign(request, { body: text.value, headers: { "content-type": "application/json" } });
    await send(address(path, parameters, values), request, out);
  });
  return form;
}

/** Paths are taken relative to this page, so a server behind a prefix works too. */
function address(path, parameters, values) {
  let url = path.slice(1);
  const query = new URLSearchParams();
  for (const { name, in: place } of parameters) {
    const value = String(values.get(name) ?? "");
    if (place === "path") url = url.replace(`{${name}}`, encodeURIComponent(value));
    else if (value) query.set(name, value);
  }
  return query.size ? `${url}?${query}` : url;
}

async function send(url, request, out) {
  const started = performance.now();
  if (apiKey()) request.headers = { ...request.headers, authorization: `Bearer ${apiKey()}` };
  try {
    const reply = await fetch(url, request);
    const content = await reply.text();
    const elapsed = Math.round(performance.now() - started);
    out.replaceChildren(
      el("p", { class: "hint" }, `${request.method} /${url}: ${reply.status} in ${elapsed} ms`),
      el("pre", { tabindex: "0" }, pretty(content)),
    );
  } catch {
    out.replaceChildren(el("p", { class: "hint" }, "The server gave no answer."));
  }
}

function pretty(content) {
  try {
    return JSON.stringify(JSON.parse(content), null, 2);
  } catch {
    return content;
  }
}

function callBox(verb, path, call) {
  const parameters = call.parameters ?? [];
  const own = Object.entries(call.responses).filter(([, reply]) => !reply["x-before-every-call"]);
  const replies = own.map(([status, reply]) => [
    [el("code", {}, status)],
    typeOf(Object.values(reply.content ?? {})[0]?.schema),
    inline(reply.description),
  ]);
  return el("details", { class: "call", id: call.operationId },
    el("summary", {},
      el("span", { class: `verb ${verb}` }, verb.toUpperCase()),
      el("code", {}, path),
      el("span", { class: "hint" }, call.summary ?? "")),
    el("div", { class: "inside" },
      ...prose(call.description),
      parameters.length ? el("h4", {}, "Parameters") : null,
      parameters.length ? table(["name", "in", "type", "meaning"], parameterRows(parameters)) : null,
      el("h4", {}, "Replies"),
      table(["status", "body", "meaning"], replies),
      el("h4", {}, "Try it"),
      tryIt(verb, path, call)));
}

function callList(paths) {
  const byTag = new Map();
  for (const [path, verbs] of Object.entries(paths)) {
    for (const [verb, call] of Object.entries(verbs)) {
      const tag = call.tags?.[0] ?? "Calls";
      byTag.set(tag, [...(byTag.get(tag) ?? []), callBox(verb, path.replace(/:path\}/g, "}"), call)]);
    }
  }
  return [...byTag].flatMap(([tag, boxes]) => [el("h3", {}, tag), ...boxes]);
}

/** A place for the key that is sent with what is tried here. */
function keyField() {
  const input = el("input", { type: "password", id: "key", autocomplete: "off", value: apiKey() });
  input.addEventListener("input", () => keep("api-key", input.value.trim(), "sessionStorage"));
  return el("p", { class: "keyed" },
    el("label", { for: "key" }, "API key for what you try here, if the server wants one"), input);
}

function schemaBox(name, schema) {
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([field_, part]) => [
    [el("code", {}, field_), needed.has(field_) ? " *" : ""],
    typeOf(part),
    inline(part.description),
  ]);
  return el("section", { class: "schema", id: `schema-${name}` },
    el("h3", {}, name), ...prose(schema.description), table(["field", "type", "meaning"], rows));
}

async function start() {
  const reply = await fetch("openapi.json");
  if (!reply.ok) throw new Error(`openapi.json: the server answered ${reply.status}`);
  const description = await reply.json();
  schemas = description.components.schemas;
  document.title = `${description.info.title} - API`;
  const name = document.querySelector("[data-title]");
  name.textContent = name.title = description.info.title;
  const codes = schemas.Problem["x-codes"].map(({ code, status, title }) =>
    el("tr", { id: code }, el("td", {}, el("code", {}, code)), el("td", {}, String(status)), el("td", {}, title)));
  main.replaceChildren(
    el("h1", {}, `${description.info.title} API`),
    ...prose(description.info.description),
    el("h2", { id: "calls" }, "Calls"),
    keyField(),
    ...callList(description.paths),
    el("h2", { id: "problems" }, "Problems"),
    ...prose("Errors are `application/problem+json`; the `code` tells them apart. Any call may be refused before it is looked at: for want of a key, for its size, or because there are too many."),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...["code", "status", "meaning"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...codes))),
    el("h2", { id: "schemas" }, "Schemas"),
    ...Object.entries(schemas).map(([name, schema]) => schemaBox(name, schema)),
  );
  main.removeAttribute("aria-busy");
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

startTheme(document.querySelector("[data-theme]"));
start().catch((error) => main.replaceChildren(notice("The description can't be shown", error.message)));
