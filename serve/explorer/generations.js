// Which generations are published, which one is served, and a switch for whoever may.

import { count, el, notice, skeleton } from "./parts.js";
import { apiKey, ask, entitle } from "./session.js";

const METRIC = "hit_rate@100";
const LOOK_MS = 1000;
const PATIENCE_MS = 300000;

export async function showGenerations(shell) {
  const { main, signal } = shell;
  entitle("Generations");
  main.replaceChildren(skeleton(3, "grid small"));
  const started = performance.now();
  const found = await ask("v1/generations", signal);
  if (signal.aborted) return;
  const told = el("p", { class: "told", role: "status" });
  const keyed = keyForm();
  main.replaceChildren(
    el("h1", {}, "Generations"),
    el("p", { class: "hint" },
      "A generation is one run's graph, model, embeddings and index. They are served together, and switched together."),
    ...(found.trouble ? [notice("Not served as decided", found.trouble)] : []),
    ...(found.failed ? [notice("The last switch failed", failureOf(found.failed))] : []),
    table(shell, found, told, keyed),
    told,
    keyed,
  );
  shell.footer(`answered in ${Math.round(performance.now() - started)} ms`);
  shell.say(`${count(found.generations.length, "generation")}; ${found.served} is served`);
}

function table(shell, found, told, keyed) {
  const heads = ["Generation", "", "Published", "Items", "Edges", "Hit-rate@100"];
  const rows = found.generations.map((one) => {
    const quality = one.quality.pinsage?.[METRIC];
    const cells = one.damage
      ? [el("td", { colspan: 3, class: "damage" }, `Damaged: ${one.damage}`)]
      : [one.counts.items, one.counts.edges].map((number, at) =>
        el("td", { "data-head": heads[at + 3] }, number.toLocaleString("en")))
        .concat(el("td", { "data-head": heads[5] }, quality === undefined ? "-" : quality.toFixed(3)));
    return el("tr", { "data-generation": one.generation },
      el("th", { scope: "row" }, el("code", {}, one.generation)),
      el("td", {}, action(shell, one, told, keyed)),
      el("td", { "data-head": heads[2] }, new Date(one.published_at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })),
      ...cells);
  });
  return el("div", { class: "scroll tally" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows)));
}

function action(shell, one, told, keyed) {
  if (one.is_served) return el("b", {}, "served");
  if (one.damage) return "";
  const label = one.is_previous ? "Go back to it" : "Serve it";
  const button = el("button", { class: "button", type: "button", onclick: () => serve(shell, one, button, told, keyed) }, label);
  return button;
}

async function serve(shell, one, button, told, keyed) {
  const buttons = shell.main.querySelectorAll("td button");
  for (const other of buttons) other.disabled = true;
  told.textContent = `Opening generation ${one.generation} ...`;
  try {
    const key = keyed.querySelector("input").value.trim();
    const reply = await ask("v1/generation", shell.signal, { body: { generation: one.generation }, key });
    if (reply.state === "served") {
      await shell.renew();
      return;
    }
    told.textContent = `Generation ${one.generation} is still being opened; this page says when it is served.`;
    await opened(shell, one.generation);
  } catch (error) {
    if (shell.signal.aborted) return;
    told.textContent = error.message;
    if (error.status === 401 || error.status === 403) {
      keyed.hidden = false;
      keyed.querySelector("input").focus();
    }
    for (const other of buttons) other.disabled = false;
  }
}

/** Waits until a generation is served, and shows that; an error says why it isn't. */
async function opened(shell, generation) {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    await new Promise((done) => setTimeout(done, LOOK_MS));
    if (shell.signal.aborted) return;
    const found = await ask("v1/generations", shell.signal);
    if (found.failed?.generation === generation) throw new Error(failureOf(found.failed));
    if (found.served !== generation) {
      // Another process may have been asked, and only that one knows of its failure.
      if (Date.now() < until) continue;
      throw new Error(`Generation ${generation} isn't served yet; the server's log says more.`);
    }
    await shell.renew();
    // The page may have taken it up already, and left what a person types alone.
    if (!shell.signal.aborted) await shell.again();
    return;
  }
}

function failureOf(failed) {
  return `Generation ${failed.generation} isn't served: ${failed.reason}`;
}

function keyForm() {
  const input = el("input", { type: "password", id: "key", autocomplete: "off", value: apiKey() });
  return el("p", { class: "keyed", hidden: true },
    el("label", { for: "key" }, "API key with the role admin"), input);
}
