// Head to head: two methods answer, nobody says which is which, a person decides.

import { count, cover, details, el, itemLink, notice, quoted, short, skeleton, subtitle } from "./parts.js";
import { ask, entitle, labelOf, state, voter } from "./session.js";

// Not the arrow down: it scrolls, and a vote cannot be taken back.
const CHOICES = [
  ["left", "Left", "ArrowLeft", "\u2190"],
  ["equal", "Equal", "=", "="],
  ["right", "Right", "ArrowRight", "\u2192"],
];
const HEADS = ["Methods", "Wins", "Losses", "Draws", "Fraction of wins"];
let rival = "";

/** Shows a question; `key` names the item, if one was chosen. */
export async function showCompare(shell, key) {
  const { main, signal } = shell;
  entitle("Head to head");
  main.replaceChildren(skeleton(3, "grid small"));
  const started = performance.now();
  const asked = new URLSearchParams();
  if (key !== null) asked.set("item_key", key);
  // Another generation may have other methods than the one in which the rival was chosen.
  if (!state.generation.methods.some((method) => method.name === rival)) rival = "";
  if (rival) {
    asked.set("method", state.generation.methods[0].name);
    asked.set("rival", rival);
  }
  const [question, tally] = await Promise.all([
    ask(`v1/duel?${asked}`, signal).catch(nothingToCompare), ask("v1/duel/votes", signal),
  ]);
  if (signal.aborted) return;
  const table = el("section", { class: "tally", "aria-labelledby": "tally-title" });
  showTally(table, tally);
  main.replaceChildren(question.code ? agreed(shell, key, question) : duel(shell, question, table), table);
  shell.footer(`answered in ${Math.round(performance.now() - started)} ms`);
  shell.say(question.code ? question.message : asking(question.query));
}

/** That problem is an answer too: another item or another rival may do. */
function nothingToCompare(error) {
  if (error.code !== "nothing_to_compare") throw error;
  return error;
}

function agreed(shell, key, problem) {
  const others = el("a", { class: "button", href: "compare", "data-page": "" }, "Another item");
  return notice("Nothing to compare", problem.message, key === null ? null : others, rivals(shell));
}

function asking(item) {
  return `Which is more related to ${quoted(item.title)}?`;
}

function duel(shell, question, table) {
  const sides = { left: side("left", "Left", question.left), right: side("right", "Right", question.right) };
  const told = el("p", { class: "told", role: "status" });
  const buttons = CHOICES.map(([choice, label, , sign]) => el("button", {
    class: "button", type: "button", "data-choice": choice, onclick: () => vote(choice),
  }, label, el("kbd", { "aria-hidden": "true" }, sign)));
  const next = el("button", { class: "button", type: "button", hidden: true, onclick: () => shell.go("compare").then(() => shell.main.focus()) },
    "Next", el("kbd", { "aria-hidden": "true" }, "Enter"));
  let isVoting = false;

  async function vote(choice) {
    if (isVoting) return;
    isVoting = true;
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    try {
      const body = { duel: question.duel, choice, voter: voter() };
      const reply = await ask("v1/duel/votes", shell.signal, { body });
      for (const [name, box] of Object.entries(sides)) {
        box.querySelector("h2").textContent = labelOf(reply[name]);
        box.classList.toggle("won", name === choice);
      }
      told.textContent = choice === "equal"
        ? `Equal: ${labelOf(reply.left)} and ${labelOf(reply.right)}.`
        : `You chose ${labelOf(reply[choice])}.`;
    } catch (error) {
      if (shell.signal.aborted) return;
      told.textContent = error.message;
      if (error.code !== "duplicate_vote") {
        isVoting = false;
        for (const button of buttons) button.removeAttribute("aria-disabled");
        return;
      }
    }
    next.hidden = false;
    next.focus();
    // The vote counts whether or not the tally can be read now: the one shown stays.
    ask("v1/duel/votes", shell.signal).then((tally) => showTally(table, tally), () => {});
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const found = CHOICES.find(([, , key]) => key === event.key);
    if (!found || isVoting) return;
    event.preventDefault();
    vote(found[0]);
  }, { signal: shell.signal });

  return el("section", { class: "duel", "aria-labelledby": "duel-title" },
    el("div", { class: "asked" },
      cover(question.query),
      el("div", { class: "about" },
        el("p", { class: "kicker" }, "Head to head"),
        el("h1", { id: "duel-title", title: short(question.query.title) }, asking(question.query)),
        el("p", { class: "sub" }, subtitle(question.query)),
        rivals(shell))),
    el("div", { class: "sides" }, sides.left, sides.right),
    el("p", { class: "actions", role: "group", "aria-label": "Your choice" }, ...buttons, next),
    told);
}

function side(name, label, items) {
  return el("section", { class: "side", "data-side": name, "aria-label": label },
    el("h2", {}, label),
    el("ol", { class: items.length > 1 ? "several" : "" }, ...items.map((item) => el("li", {},
      itemLink(item, { target: "_blank", rel: "noopener" }, cover(item), el("span", { class: "text" },
        el("span", { class: "name" }, item.title), el("span", { class: "sub" }, subtitle(item)),
        el("span", { class: "more" }, ...details(item).map(([fact, value]) => el("span", {}, `${fact}: ${value}`)))))))));
}

/** Which method ours meets. */
function rivals(shell) {
  const [first, ...others] = state.generation.methods;
  const select = el("select", { id: "rival" },
    el("option", { value: "" }, "any method"),
    ...others.map((method) => el("option", { value: method.name, selected: method.name === rival }, method.label)));
  select.addEventListener("change", async () => {
    rival = select.value;
    await shell.again();
    document.getElementById("rival")?.focus();
  });
  return el("span", { class: "size" }, el("label", { for: "rival" }, `${first.label} against`), select);
}

function showTally(box, tally) {
  const percent = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)}%` : "");
  const rows = tally.pairs.map((pair) => {
    const all = pair.wins + pair.losses + pair.equal;
    const [low, high] = pair.interval ?? [];
    return el("tr", {},
      el("th", { scope: "row" }, `${labelOf(pair.method)} vs. ${labelOf(pair.rival)}`),
      ...[pair.wins, pair.losses, pair.equal].map((number, at) =>
        el("td", { "data-head": HEADS[at + 1] }, String(number), el("small", {}, percent(number, all)))),
      el("td", { "data-head": HEADS[4] }, pair.interval ? percent(pair.win_fraction, 1) : "-",
        pair.interval ? el("small", {}, `${percent(low, 1)} to ${percent(high, 1)}`) : null));
  });
  box.replaceChildren(
    el("h2", { id: "tally-title" }, "The tally"),
    el("p", { class: "hint" }, rows.length
      ? `${count(tally.votes, "vote")} on this generation; the fraction of wins leaves draws out, with its 95% interval (Wilson).`
      : "No votes on this generation yet."),
    rows.length
      ? el("div", { class: "scroll" }, el("table", {},
          el("thead", {}, el("tr", {}, ...HEADS.map((name) =>
            el("th", { scope: "col" }, name)))),
          el("tbody", {}, ...rows)))
      : "");
}
