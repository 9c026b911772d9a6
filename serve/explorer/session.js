// What all pages share: the questions to the API, and what this visitor has chosen so far.

// What the browser refuses to keep lasts as long as the page.
const unkept = new Map();

export const state = {
  generation: null,
  size: Number(kept("size")) || 12,
  sideBySide: kept("side-by-side") === "yes",
  hidden: new Set(),
  trail: [],
  liked: keptItems("liked"),
};

/** What this browser keeps under a name, or this tab if the store is its own; null if nothing. */
export function kept(name, store = "localStorage") {
  try {
    return window[store].getItem(name);
  } catch {
    return unkept.get(name) ?? null;
  }
}

export function keep(name, value, store = "localStorage") {
  try {
    window[store].setItem(name, value);
  } catch {
    unkept.set(name, value);
  }
}

/** Only what looks like items: whatever else is there must not stop the page. */
function keptItems(name) {
  try {
    const items = JSON.parse(kept(name));
    return items.filter((item) => typeof item.key === "string" && typeof item.title === "string");
  } catch {
    return [];
  }
}

/** Colors by the system's wish, until this visitor has chosen with the button. */
export function startTheme(button) {
  const root = document.documentElement;
  const chosen = kept("theme");
  if (chosen) root.dataset.theme = chosen;
  button.addEventListener("click", () => {
    root.dataset.theme = getComputedStyle(root).colorScheme === "dark" ? "light" : "dark";
    keep("theme", root.dataset.theme);
  });
}

/** Names the page in its tab. */
export function entitle(name) {
  document.title = `${name} - ${state.generation?.title ?? "Explorer"}`;
}

/** Tells whoever listens that an answer came from another generation than the page knows. */
function lookAtGeneration(reply) {
  const served = reply.headers.get("x-pinsage-generation");
  if (served && state.generation && served !== state.generation.generation) {
    window.dispatchEvent(new Event("generation"));
  }
}

/** The API key that this tab shows with every call: the last one that was let in; empty without one. */
export function apiKey() {
  return kept("api-key", "sessionStorage") ?? "";
}

/** Asks the API; an error has the problem's own words for a message. */
export async function ask(path, signal, options = {}) {
  const { body, key = apiKey(), method = body ? "POST" : "GET" } = options;
  const headers = { accept: "application/json" };
  if (body) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  let reply;
  try {
    reply = await fetch(path, { signal, method, headers, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server gave no answer. Is it still running?"), { code: "unreachable" });
  }
  lookAtGeneration(reply);
  let content = null;
  try {
    content = await reply.json();
  } catch {
    content = null;
  }
  if (!reply.ok || content === null) {
    const problem = content ?? {};
    const words = problem.detail ?? `The server answered ${reply.status}, without an explanation.`;
    throw Object.assign(new Error(words), {
      code: problem.code ?? "unexpected", status: reply.status, parts: problem.errors ?? [],
    });
  }
  if (key !== apiKey()) keep("api-key", key, "sessionStorage");
  return content;
}

/** What a method is called, for people. */
export function labelOf(name) {
  return state.generation.methods.find((method) => method.name === name)?.label ?? name;
}

/** Puts an item among the liked ones, or takes it out; the newest stands last. */
export function toggleLiked(item) {
  const { key, title, image } = item;
  const others = state.liked.filter((liked) => liked.key !== key);
  state.liked = others.length < state.liked.length
    ? others
    : [...others, { key, title, image, metadata: {} }].slice(-50);
  keep("liked", JSON.stringify(state.liked));
}

export function isLiked(item) {
  return state.liked.some((liked) => liked.key === item.key);
}

/** A name for this browser, so that no question is counted twice; it says nothing of anyone. */
export function voter() {
  const known = kept("voter");
  if (known && /^[A-Za-z0-9_-]{1,64}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  keep("voter", fresh);
  return fresh;
}
