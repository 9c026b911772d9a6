// A map of items, drawn as SVG: point at it, or walk over it with the arrow keys, to see what lies
// where. `report.html` and the explorer both draw theirs with it.

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 1000;
const EDGE = 30;
const REACH = 45;
const FULL = 640;
const LABELS = 28;
const LETTER = 16;
const LETTERS = 26;
const PICTURE = 34;
// A pointer on its way to somewhere else points at nothing.
const REST_MS = 80;

/** Makes an SVG element. */
function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/**
 * Draws the map into `box`.
 *
 * `points` have `x` and `y` from 0 to 1, `title`, `image` (or null), `degree` and `near` (places of
 * the nearest points by embedding); `show(point)` is told which one is pointed at, and
 * `open(point)`, if given, which one is clicked or entered.
 */
export function drawMap(box, points, show, open) {
  const at = points.map((point) => [
    EDGE + point.x * (SIZE - 2 * EDGE),
    EDGE + point.y * (SIZE - 2 * EDGE),
  ]);
  const svg = shape("svg", {
    class: "map", viewBox: `0 0 ${SIZE} ${SIZE}`, role: "application", tabindex: 0,
    "aria-label": `Map of ${points.length} items; arrow keys move from item to item`,
  });
  const most = Math.log1p(Math.max(...points.map((point) => point.degree), 1));
  const spots = points.map((point, place) => {
    const size = 3 + 5 * (Math.log1p(point.degree) / most);
    const spot = shape("circle", { class: "spot", cx: at[place][0], cy: at[place][1], r: size.toFixed(1) });
    spot.append(shape("title", {}, point.title));
    return svg.appendChild(spot);
  });
  const lines = svg.appendChild(shape("g", { class: "near" }));
  drawPictures(svg, points, at);
  drawLabels(svg, points, at, Math.max(1, FULL / (box.clientWidth || FULL)));
  let active = -1;
  let resting = 0;
  let isShown = false;

  function point(place) {
    if (place === active) return;
    if (active >= 0) mark(active, false);
    active = place;
    mark(active, true);
    const [x, y] = at[active];
    lines.replaceChildren(
      ...points[active].near.map((other) => shape("path", { d: `M${x} ${y}L${at[other][0]} ${at[other][1]}` })),
      // The lines lie over the other spots, and under those that they tie.
      ...[...points[active].near, active].map((place) => spots[place].cloneNode(true)),
    );
    show(points[active], points[active].near.map((other) => points[other]));
  }

  function mark(place, on) {
    spots[place].classList.toggle("pointed", on);
    for (const other of points[place].near) spots[other].classList.toggle("beside", on);
  }

  function nearest(event) {
    // The drawing may be smaller than its box, and in its middle.
    const matrix = svg.getScreenCTM().inverse();
    const scale = matrix.a;
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    const far = at.map(([px, py]) => Math.hypot(px - x, py - y));
    const best = far.indexOf(Math.min(...far));
    return far[best] <= Math.max(REACH, 24 * scale) ? best : -1;
  }

  function onMove(event) {
    clearTimeout(resting);
    resting = setTimeout(() => onRest(event), REST_MS);
  }

  function onRest(event) {
    clearTimeout(resting);
    const place = nearest(event);
    if (place >= 0) point(place);
    return place;
  }

  /** A finger can't point before it presses: its first tap does, and the next one opens. */
  function onPress(event) {
    const before = active;
    isShown = onRest(event) === before || event.pointerType === "mouse";
  }

  function onKey(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (dx || dy) {
      event.preventDefault();
      point(active < 0 ? 0 : beyond(at, active, dx, dy));
    } else if (event.key === "Enter" && active >= 0 && open) {
      event.preventDefault();
      open(points[active]);
    }
  }

  svg.addEventListener("pointermove", onMove);
  svg.addEventListener("pointerleave", () => clearTimeout(resting));
  svg.addEventListener("pointerdown", onPress);
  svg.addEventListener("focus", () => active < 0 && svg.matches(":focus-visible") && point(0));
  svg.addEventListener("keydown", onKey);
  if (open) svg.addEventListener("click", (event) => {
    const place = nearest(event);
    if (place >= 0 && isShown) open(points[place]);
  });
  box.replaceChildren(svg);
}

/** The next point in a direction: near, and not far aside. */
function beyond(at, from, dx, dy) {
  let best = from;
  let least = Infinity;
  at.forEach(([x, y], place) => {
    const along = (x - at[from][0]) * dx + (y - at[from][1]) * dy;
    const aside = Math.abs((x - at[from][0]) * dy) + Math.abs((y - at[from][1]) * dx);
    if (along > 0 && along >= aside / 2 && along + 2 * aside < least) {
      least = along + 2 * aside;
      best = place;
    }
  });
  return best;
}

/** Pictures that are part of the page are shown where they lie, as far as they leave room. */
function drawPictures(svg, points, at) {
  const taken = [];
  points.forEach((point, place) => {
    const [x, y] = at[place];
    if (!point.image?.startsWith("data:image/")) return;
    if (taken.some(([px, py]) => Math.max(Math.abs(px - x), Math.abs(py - y)) < PICTURE)) return;
    taken.push([x, y]);
    svg.append(shape("image", {
      href: point.image, x: x - PICTURE / 2, y: y - PICTURE / 2, width: PICTURE, height: PICTURE,
    }));
  });
}

/** Names the best connected items, as a map does its cities, where names don't overlap. */
function drawLabels(svg, points, at, scale) {
  const order = points.map((_, place) => place).sort((a, b) => points[b].degree - points[a].degree);
  const taken = [];
  for (const place of order) {
    if (taken.length === LABELS) return;
    const [x, y] = at[place];
    const whole = points[place].title.replace(/\s*\([^()]*\)\s*$/, "") || points[place].title;
    const text = whole.length > LETTERS ? `${whole.slice(0, LETTERS - 2).trimEnd()} ...` : whole;
    const half = (text.length * 5.2 + 6) * scale;
    const middle = Math.min(Math.max(x, half), SIZE - half);
    const room = [middle - half, y - 10 - 18 * scale, middle + half, y - 6];
    if (room[1] < 0 || taken.some((other) => overlap(room, other))) continue;
    taken.push(room);
    svg.append(shape("text", { class: "city", x: middle, y: y - 12, "font-size": LETTER * scale }, text));
  }
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}
