// What all pages share: the questions to the API, and what this visitor has chosen so far.

export const state = {
  generation: null,
  size: Number(localStorage.getItem("size")) || 12,
  sideBySide: localStorage.getItem("side-by-side") === "yes",
  hidden: new Set(),
  trail: [],
  liked: stored("liked", []),
};

/** Tells whoever listens that an answer came from another generation than the page knows. */
function lookAtGeneration(reply) {
  const served = reply.headers.get("x-pinsage-generation");
  if (served && state.generation && served !== state.generation.generation) {
    window.dispatchEvent(new Event("generation"));
  }
}

/** Asks the API; an error has the problem's own words for a message. */
export async function ask(path, signal, options = {}) {
  const { body, key, method = body ? "POST" : "GET" } = options;
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
    throw Object.assign(new Error(words), { code: problem.code ?? "unexpected", status: reply.status });
  }
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
  localStorage.setItem("liked", JSON.stringify(state.liked));
}

export function isLiked(item) {
  return state.liked.some((liked) => liked.key === item.key);
}

/** A name for this browser, so that no question is counted twice; it says nothing of anyone. */
export function voter() {
  const known = localStorage.getItem("voter");
  if (known && /^[A-Za-z0-9_-]{1,64}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  localStorage.setItem("voter", fresh);
  return fresh;
}

function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
